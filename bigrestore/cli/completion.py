"""The values that a shell offers for an option: those of a choice, and names of models, methods and recipes.

They are looked up without loading what they name: a key press waits for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable


def completion(name: str, words: Iterable[str]) -> Callable[[str], list[str]] | None:
    """Return what completes the value of an option; None: the shell offers files.

    Parameters
    ----------
    name : str
        Of the field.
    words : iterable of str
        Its stated values.
    """
    values = tuple(words)
    names = NAMES.get(name)
    if not values and names is None:
        return None

    def complete(incomplete: str) -> list[str]:
        """Return the values that begin so; of a list with commas the last one is completed."""
        before, comma, last = incomplete.rpartition(",")
        return [
            before + comma + word for word in (values or (names() if names else ())) if word.startswith(last)
        ]

    return complete


def _models() -> list[str]:
    return [name.removesuffix(".safetensors") for name in _files("bigrestore", "weights", ".safetensors")]


def _recipes() -> list[str]:
    return [name.removesuffix(".toml") for name in _files("bigrestore.degradation", "recipes", ".toml")]


def _methods() -> list[str]:
    from importlib.metadata import entry_points

    from bigrestore.model.registry import METHOD_GROUP, METHODS

    return [*METHODS, *(entry.name for entry in entry_points(group=METHOD_GROUP))]


def _files(package: str, folder: str, ending: str) -> list[str]:
    from importlib.resources import files

    entries = (files(package) / folder).iterdir()
    return sorted(entry.name for entry in entries if entry.name.endswith(ending))


NAMES: dict[str, Callable[[], list[str]]] = {
    "model": _models,
    "name": _models,
    "start": _models,
    "recipe": _recipes,
    "method": _methods,
}
"""Names for the fields of these names."""

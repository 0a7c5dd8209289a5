"""Values and choices as words of a sentence, for people who know no Python."""

from __future__ import annotations

from collections.abc import Iterable

LONGEST_SHOWN = 80
"""Characters of a refused value that a message repeats."""


def either(choices: Iterable[object]) -> str:
    """Return choices as a sentence lists them: a, b or c."""
    names = [str(choice) for choice in choices]
    return " or ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def shown(value: object) -> str:
    """Return a refused value on one line, shortened; of an object without a short text its type."""
    if not isinstance(value, str | int | float | bool | list | tuple | dict | None):
        return f"of the type {type(value).__name__}"
    text = _as_words(value)
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 3] + "..."


def _as_words(value: object) -> str:
    """Return a value as a user would write it: no brackets, no None, no True."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        return ", ".join(f"{name}={_as_words(item)}" for name, item in value.items()) or "an empty table"
    if isinstance(value, list | tuple):
        return _of_items(value) or "an empty list"
    return " ".join(repr(value).split()) if isinstance(value, str | int) else f"a {type(value).__name__}"


def _of_items(items: list[object] | tuple[object, ...]) -> str:
    """Return the items of a list: numbers with commas, pairs of numbers as ranges, words in quotation marks."""
    if all(_is_range(item) for item in items):
        return ",".join(":".join(map(str, item)) for item in items if isinstance(item, tuple))
    numbers = all(isinstance(item, int | float) and not isinstance(item, bool) for item in items)
    return ("," if numbers else ", ").join(map(_as_words, items))


def _is_range(item: object) -> bool:
    return isinstance(item, tuple) and len(item) == 2 and all(type(end) is int for end in item)

"""Settings from names and values: keywords of Python, a TOML file, or flags over a TOML file.

Names may be spelt with `-` or `_`. An unknown name is refused, with all names
and the one probably meant.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import attrs

from bigrestore.core.regular import open_regular
from bigrestore.errors import InputError, InputMissingError, UsageError
from bigrestore.settings.values import to_method_options


@attrs.frozen(kw_only=True)
class Settings:
    """Base of the settings read by name."""

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], source: str) -> Self:
        """Build settings from names and values; `source` (a file or a function) is named in errors.

        Raises
        ------
        UsageError
            If a name is unknown or a value is refused.
        """
        known = [field.name for field in attrs.fields(cls)]
        named = {name.replace("-", "_"): value for name, value in values.items()}
        for name in named:
            if name not in known:
                import difflib

                meant = difflib.get_close_matches(name, known, 1)
                hint = f" (did you mean {meant[0]!r}?)" if meant else ""
                raise UsageError(
                    f"{source} has no setting {name!r}{hint}; the settings are {', '.join(sorted(known))}."
                )
        return cls(**named)

    @classmethod
    def resolve(cls, flags: Mapping[str, Any], config: Path | None) -> Self:
        """Merge flags over a TOML file over the defaults; None: the flag was not given."""
        values = load_config(config) if config is not None else {}
        given = {name: value for name, value in flags.items() if value is not None}
        options = to_method_options(given.pop("options", None))
        if isinstance(options, dict) and isinstance(values.get("options"), dict):
            options = values["options"] | options
        values |= given | ({} if options is None else {"options": options})
        return cls.from_mapping(values, f"The configuration {config}" if config else "The command line")


def load_config(path: Path) -> dict[str, Any]:
    """Read a TOML file of settings: flat, or under one table `run`; names as the flags, `-` or `_`.

    A table `method` has the options of the method, and its name as `name`.

    Raises
    ------
    InputMissingError
        If there is no such file.
    UsageError
        If it is no TOML.
    """
    import tomllib

    try:
        with open_regular(path) as file:
            values = tomllib.load(file)
    except FileNotFoundError as error:
        raise InputMissingError(f"The configuration {path} does not exist; check the path.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"The configuration {path} is no TOML ({error}); correct it.") from error
    except InputError:
        raise
    except OSError as error:
        raise UsageError(f"The configuration {path} cannot be read ({error.strerror}); check it.") from error
    method = values.pop("method") if isinstance(values.get("method"), dict) else {}
    run = values.get("run", values)
    if not isinstance(run, dict):
        raise UsageError(f"The configuration {path} has a value named run; make it a table, [run].")
    outside = [name for name, value in values.items() if run is not values and not isinstance(value, dict)]
    if outside:
        raise UsageError(
            f"The configuration {path} has {outside[0]!r} outside of its table [run]; move it in."
        )
    settings: dict[str, Any] = {}
    for name, value in run.items():
        if name.replace("-", "_") in settings:
            raise UsageError(f"The configuration {path} names {name!r} twice, with - and with _; keep one.")
        settings[name.replace("-", "_")] = value
    return settings | _method_table(method, settings, path)


def _method_table(method: dict[str, Any], run: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the table `method` of a configuration as settings."""
    options = {name.replace("-", "_"): value for name, value in method.items()}
    table = {"method": options.pop("name")} if "name" in options else {}
    table |= {"options": options} if options else {}
    twice = sorted(table.keys() & run.keys())
    if twice:
        raise UsageError(f"The configuration {path} has a table [method] and {twice[0]!r} besides; keep one.")
    return table

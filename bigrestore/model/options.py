"""Options of a method: name, type, default, help and check, given by `--set NAME=VALUE`.

A method states its options in its `MethodFactory`. So a package outside of this one brings options without touching the
command line, and a wrong name or value gets one sentence before anything is opened.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from bigrestore.core.words import either, shown
from bigrestore.errors import UsageError

OptionValue = bool | int | float | str

OPTION_NAME = re.compile(r"[a-z][a-z0-9_]*")
RESERVED_NAME = "name"
"""The method's own name in the table `[method]` of a configuration."""

OPTION_TYPES = (bool, int, float, str)
SWITCH_WORDS = {"true": True, "false": False}


@attrs.frozen
class MethodOption:
    """One option of a method.

    Attributes
    ----------
    name : str
        Lower case, digits and underscores.
    type : type
        `bool`, `int`, `float` or `str`.
    default : bool, int, float or str
        Value where none is given; it passes the check.
    help : str
        One sentence for `bigrestore models methods`.
    takes : str
        Words for the valid values, such as "a number from 0 to 10".
    check : callable, optional
        Whether a value of the type is valid; None: every one is.

    Raises
    ------
    ValueError
        The name, the type or the default is wrong: a mistake in the package of the method.
    """

    name: str
    type: type[bool] | type[int] | type[float] | type[str]
    default: OptionValue
    help: str
    takes: str
    check: Callable[[Any], bool] | None = None

    def __attrs_post_init__(self) -> None:
        if not OPTION_NAME.fullmatch(self.name) or self.name == RESERVED_NAME:
            raise ValueError(
                f"an option is named {self.name!r}; use lower case, digits and _, and not `name`"
            )
        if self.type not in OPTION_TYPES:
            raise ValueError(
                f"the option {self.name!r} has the type {self.type}; use bool, int, float or str"
            )
        if self.read(self.default) is None:
            raise ValueError(
                f"the option {self.name!r} has the default {self.default!r}, but takes {self.takes}"
            )

    def read(self, given: object) -> OptionValue | None:
        """Return a given value as the option's type; None if it is invalid."""
        value = self._converted(given)
        return value if value is not None and (self.check is None or self.check(value)) else None

    def _converted(self, given: object) -> OptionValue | None:
        if isinstance(given, str) and self.type is bool:
            return SWITCH_WORDS.get(given.strip())
        if isinstance(given, str) and self.type is not str:
            try:
                number = int(given.strip()) if self.type is int else float(given.strip())
            except ValueError:
                return None
            return number if math.isfinite(number) else None
        if isinstance(given, bool) or self.type is bool:
            return given if isinstance(given, bool) and self.type is bool else None
        if self.type is str:
            return str(given)  # a number, too, as the command line would give it
        if self.type is int:
            return given if isinstance(given, int) else None
        return float(given) if isinstance(given, int | float) and math.isfinite(given) else None


def read_options(
    options: Sequence[MethodOption], given: Mapping[str, Any] | None, method: str
) -> dict[str, OptionValue]:
    """Return the values of all options of a method, the defaults included.

    Parameters
    ----------
    options : sequence of MethodOption
        As stated by the method.
    given : mapping of str to value, optional
        As asked for by the user; texts of a command line are converted.
    method : str
        Name of the method, for the sentence.

    Raises
    ------
    UsageError
        An option is unknown, or its value invalid.
    """
    given = given or {}
    known = {option.name: option for option in options}
    for name in given:
        if name not in known:
            names = f"choose {either(known)}" if known else "it takes no options; leave --set out"
            raise UsageError(f"--method {method} has no option {name!r}; {names}.")
    values = {}
    for name, option in known.items():
        value = option.read(given.get(name, option.default))
        if value is None:
            raise UsageError(f"--set {name} is {shown(given[name])}; --method {method} takes {option.takes}.")
        values[name] = value
    return values

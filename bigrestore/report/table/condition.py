"""`--fail-if`: a condition on the summary, for who scores by a clock and reads only exit codes.

    niqe.median > niqe_before.median        psnr.min < 25 or valid.share < 0.5

A condition is numbers, names, + - * /, comparisons, `and`, `or`, `not` and brackets, and nothing else: the text is
parsed by Python's own parser and walked node by node here, never evaluated. A name is a column and a statistic of it
over the valid tiles. An unknown one is refused before anything is scored. A NaN (no tile was valid) fails the check:
an impossible check is not passed.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from bigrestore.errors import UsageError

_ARITHMETIC: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: lambda a, b: a / b if b else math.nan,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[float, float], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
LONGEST = 500
"""Characters of a condition, at most."""


@attrs.frozen
class Condition:
    """A parsed condition.

    Attributes
    ----------
    text : str
        As it was given.
    names : tuple of str
        The values it asks for, such as `niqe.median`, in order.
    """

    text: str
    names: tuple[str, ...]
    _tree: ast.expr = attrs.field(repr=False, eq=False)

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Parse a condition.

        Raises
        ------
        UsageError
            Naming what cannot be understood.
        """
        if len(text) > LONGEST:
            raise UsageError(f"--fail-if has {len(text)} characters; it takes {LONGEST} at most.")
        try:
            tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise _refused(text, "cannot be parsed") from error
        names: dict[str, None] = {}
        if not _check(tree, text, names):
            raise _refused(text, "is a number and no condition")
        return cls(text, tuple(names), tree)

    def require(self, known: Iterable[str]) -> None:
        """Refuse unknown names.

        Raises
        ------
        UsageError
            Naming them, and the known ones.
        """
        there = set(known)
        unknown = [name for name in self.names if name not in there]
        if unknown:
            raise UsageError(
                f"--fail-if asks for {', '.join(unknown)}, which the summary does not have; write NAME.STATISTIC: "
                f"{_listed(there)}."
            )

    def failure(self, values: Mapping[str, float]) -> str | None:
        """Return the reason of a failed check, with the values; None if passed.

        Parameters
        ----------
        values : mapping
            By the names of `names`, at least.
        """
        shown = ", ".join(f"{name} is {values[name]:.6g}" for name in self.names)
        if any(math.isnan(values[name]) for name in self.names):
            return f"--fail-if {self.text!r} cannot be checked, because a value is not a number: {shown}"
        if _value(self._tree, values):
            return f"--fail-if {self.text!r} is true: {shown}"
        return None


def condition_values(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return the names known to a condition, with their values; NaN if missing.

    Parameters
    ----------
    summary : mapping
        From `bigrestore.report.table.statistics.summarise`.

    Returns
    -------
    dict of float
        `NAME.median` and the other statistics of each figure in the image, `NAME_before.median` before,
        `NAME_change.median`, `.share_improved` and so on of the change tile by tile; `tiles.total`,
        `valid.count`, `valid.share`, and `valid_before.*` for pairs.
    """
    tiles = summary["tiles"]
    total = tiles["total"]
    values: dict[str, float] = {"tiles.total": total}
    for name in ("valid", "valid_before", "valid_in_both"):
        if name in tiles:
            values[f"{name}.count"] = tiles[name]
            values[f"{name}.share"] = tiles[name] / total if total else math.nan
    for name, entry in summary["metrics"].items():
        for part, ending in (("image", ""), ("before", "_before"), ("change", "_change")):
            for statistic, value in entry.get(part, {}).items():
                if value is None or isinstance(value, int | float):
                    values[f"{name}{ending}.{statistic}"] = math.nan if value is None else float(value)
    return values


def _check(node: ast.expr, text: str, names: dict[str, None]) -> bool:
    """Walk a tree and note its names; return whether the node is true or false rather than a number."""
    if isinstance(node, ast.BoolOp):
        parts = [_check(part, text, names) for part in node.values]
        if not all(parts):
            raise _refused(text, "joins numbers by and/or; compare them first")
        return True
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        inner, negates = _check(node.operand, text, names), isinstance(node.op, ast.Not)
        if inner != negates:
            raise _refused(text, "negates a number by not, or a comparison by -")
        return negates
    if isinstance(node, ast.Compare) and all(type(op) in _COMPARISONS for op in node.ops):
        if any(_check(part, text, names) for part in (node.left, *node.comparators)):
            raise _refused(text, "compares a comparison; use and/or")
        return True
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        if any(_check(part, text, names) for part in (node.left, node.right)):
            raise _refused(text, "calculates with a comparison")
        return False
    if (
        isinstance(node, ast.Constant)
        and isinstance(node.value, int | float)
        and not isinstance(node.value, bool)
    ):
        return False
    name = _name(node)
    if name is None:
        raise _refused(text, f"has {ast.unparse(node)!r} in it")
    names[name] = None
    return False


def _value(node: ast.expr, values: Mapping[str, float]) -> Any:
    """Return the value of a checked tree."""
    if isinstance(node, ast.BoolOp):
        parts = (bool(_value(part, values)) for part in node.values)
        return all(parts) if isinstance(node.op, ast.And) else any(parts)
    if isinstance(node, ast.UnaryOp):
        inner = _value(node.operand, values)
        return not inner if isinstance(node.op, ast.Not) else -inner
    if isinstance(node, ast.Compare):
        sides = [_value(part, values) for part in (node.left, *node.comparators)]
        return all(
            _COMPARISONS[type(op)](a, b) for op, a, b in zip(node.ops, sides[:-1], sides[1:], strict=True)
        )
    if isinstance(node, ast.BinOp):
        return _ARITHMETIC[type(node.op)](_value(node.left, values), _value(node.right, values))
    if isinstance(node, ast.Constant):
        return node.value
    return values[str(_name(node))]


def _name(node: ast.expr) -> str | None:
    """Return a dotted name, None for any other node."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = _name(node.value)
        return None if before is None else f"{before}.{node.attr}"
    return None


def _refused(text: str, why: str) -> UsageError:
    return UsageError(
        f"--fail-if {text!r} {why}; it takes comparisons of numbers and names such as niqe.median > "
        "niqe_before.median, joined by and, or, not."
    )


def _listed(names: set[str]) -> str:
    """Return the names, those of like statistics together: `count, median of niqe, piqe; ...`."""
    statistics: dict[str, list[str]] = {}
    for name in sorted(names):
        head, _, tail = name.rpartition(".")
        statistics.setdefault(head, []).append(tail)
    heads: dict[tuple[str, ...], list[str]] = {}
    for head, tails in statistics.items():
        heads.setdefault(tuple(tails), []).append(head)
    return "; ".join(f"{', '.join(tails)} of {', '.join(group)}" for tails, group in heads.items())

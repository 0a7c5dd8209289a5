"""HTML by hand: escaping, numbers as people write them, tables with their numbers to the right.

All text of the page passes `escape`. A number is written with a true minus sign and the decimals of its column, to
align the points.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence

import attrs

NOTHING = "–"
"""Where there is no number."""

MINUS = "\N{MINUS SIGN}"


def escape(text: object) -> str:
    """Return text safe in HTML, in an element and in an attribute alike."""
    return html.escape(str(text), quote=True)


def short_name(path: object) -> str:
    """Return the last part of a path: the file's name."""
    text = str(path)
    return text.rstrip("/").rsplit("/", 1)[-1] or text


def number(value: float | None, decimals: int) -> str:
    """Return a number with a true minus sign and commas between thousands; a dash for None."""
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else MINUS + "∞"
    text = f"{abs(value):,.{decimals}f}"
    return (MINUS if value < 0 and float(text.replace(",", "")) else "") + text


def signed(value: float | None, decimals: int) -> str:
    """Return a change: a number with its plus or minus, neither at zero."""
    text = number(value, decimals)
    rises = value is not None and value > 0 and any(digit in "123456789∞" for digit in text)
    return "+" + text if rises else text


def percent(share: float | None) -> str:
    """Return a share as whole percents; 0 and 100 only if exact."""
    if share is None or math.isnan(share):
        return NOTHING
    if 0 < share < 0.005:
        return "<1 %"
    if 0.995 <= share < 1:
        return ">99 %"
    return f"{100 * share:.0f} %"


def count(value: int) -> str:
    """Return a whole number with commas between thousands."""
    return f"{value:,}"


def plural(value: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun."""
    return f"{count(value)} {one if value == 1 else many or one + 's'}"


def decimals_for(digits: int, magnitude: float) -> int:
    """Return how many figures after the point a column shows.

    Parameters
    ----------
    digits : int
        Figures after the point; negative: significant figures.
    magnitude : float
        Size of the column's large values.
    """
    if digits >= 0:
        return digits
    if not math.isfinite(magnitude) or magnitude <= 0:
        return 2
    return max(0, min(7, -digits - 1 - math.floor(math.log10(magnitude))))


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence lists them: a, b and c."""
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1] if names else "") if part)


@attrs.frozen
class Cell:
    """One cell of a table.

    Attributes
    ----------
    html : str
        What is shown, escaped already.
    sort : float or str, optional
        What it is sorted by; its text if not given.
    numeric : bool
        Whether it is a number, written to the right.
    kind : str
        A class for its colour, or nothing.
    """

    html: str
    sort: float | str | None = None
    numeric: bool = True
    kind: str = ""

    def tag(self, *, heading: bool = False) -> str:
        """Return the element."""
        name = "th" if heading else "td"
        classes = " ".join(part for part in ("n" if self.numeric else "", self.kind) if part)
        attributes = f' class="{classes}"' if classes else ""
        if heading:
            attributes += ' scope="row"'
        if self.sort is not None and not (isinstance(self.sort, float) and math.isnan(self.sort)):
            attributes += f' data-v="{escape(self.sort)}"'
        return f"<{name}{attributes}>{self.html}</{name}>"


def text_cell(text: object) -> Cell:
    """Return a cell of text, to the left."""
    return Cell(escape(text), numeric=False)


def number_cell(value: float | None, decimals: int, *, change: bool = False, kind: str = "") -> Cell:
    """Return a cell of a number, sorted by its full value."""
    shown = signed(value, decimals) if change else number(value, decimals)
    return Cell(shown, value, kind=kind)


def share_cell(share: float | None) -> Cell:
    """Return a cell of a share in percent."""
    return Cell(percent(share), share)


def table(
    identifier: str,
    caption: str,
    headings: Iterable[Cell],
    rows: Iterable[Sequence[Cell]],
    *,
    kind: str = "data-sortable",
    tall: bool = False,
) -> str:
    """Return a table in its own frame, scrolling sideways on narrow screens.

    Parameters
    ----------
    identifier : str
        Of the element.
    caption : str
        Says what the table shows; HTML.
    headings : iterable of Cell
        The first row.
    rows : iterable of sequence of Cell
        The first cell of each is its heading.
    kind : str
        `data-sortable`: the script sorts these rows; `data-tiles`: it sorts the tiles that the page holds.
    tall : bool
        Whether a long table scrolls within itself.
    """
    head = "".join(
        f'<th scope="col"{" class=n" if heading.numeric else ""}>{heading.html}</th>' for heading in headings
    )
    body = "\n".join(
        "<tr>" + row[0].tag(heading=True) + "".join(cell.tag() for cell in row[1:]) + "</tr>" for row in rows
    )
    name = escape(identifier)
    return (
        f'<p class="caption" id="{name}-caption">{caption}</p>'
        f'<div class="scroll{" tall" if tall else ""}" tabindex="0" role="region" aria-labelledby="{name}-caption">'
        f'<table id="{name}" aria-labelledby="{name}-caption" {kind}>'
        f"<thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>"
    )

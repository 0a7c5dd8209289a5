"""A contact sheet: the same field of a section under several settings, whole and in detail, with its scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from bigrestore.core.files import whole_file
from bigrestore.core.geometry import Box
from bigrestore.core.pixels import GreyBytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHEET_SOFTWARE = "bigrestore try"
"""Stands in the file, and tells it from a picture of the user's own."""

CELLS_A_ROW = 4
"""Cells in a row, at most."""

PICTURE_INCHES = 3.3
"""Side of a picture on the sheet; 363 px."""

DPI = 110


@attrs.frozen(eq=False)
class Cell:
    """One picture of the sheet.

    Attributes
    ----------
    title : str
        What it is.
    says : str
        Its scores, a line each.
    picture : ndarray, (h, w) or (h, w, 3), uint8
        Fills the box of the sheet; of the input, in fewer pixels at x2 and x4.
    """

    title: str
    says: str
    picture: GreyBytes


def draw_contact_sheet(cells: Sequence[Cell], box: Box, detail: Box, title: str) -> Figure:
    """Draw cells in rows, each picture above its detail.

    Parameters
    ----------
    cells : sequence of Cell
        At least one.
    box, detail : Box
        What the pictures show, and a part of it shown in larger pixels; output pixels.
    title : str
        Above all cells.
    """
    from matplotlib.figure import Figure

    columns = min(CELLS_A_ROW, len(cells))
    rows = -(-len(cells) // columns)
    lines = max(cell.says.count("\n") + 1 for cell in cells)
    shares = (box.height / box.width, detail.height / detail.width)
    tall = [PICTURE_INCHES * min(2.0, share) for share in shares]
    inches = 0.6 + rows * (sum(tall) + 0.35 + 0.17 * lines)
    figure = Figure(figsize=(PICTURE_INCHES * columns, inches), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=10, parse_math=False)
    grid = figure.add_gridspec(2 * rows, columns, height_ratios=tall * rows)
    for index, cell in enumerate(cells):
        row, column = divmod(index, columns)
        above = figure.add_subplot(grid[2 * row, column])
        below = figure.add_subplot(grid[2 * row + 1, column])
        above.set_title(cell.title, fontsize=10, fontweight="bold", parse_math=False)
        below.set_xlabel(cell.says, fontsize=8, parse_math=False)
        _show(above, cell.picture, box, box, "antialiased")
        _show(below, cell.picture, box, detail, "nearest")
        _outline(above, detail)
    return figure


def write_contact_sheet(path: Path, figure: Figure) -> None:
    """Write a sheet as a PNG.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    with whole_file(path, follow=True) as partial:
        figure.savefig(partial, format="png", metadata={"Software": SHEET_SOFTWARE})


def _show(axes: Any, picture: GreyBytes, box: Box, part: Box, interpolation: str) -> None:
    """Show a part of a picture that fills a box."""
    extent = (box.x0, box.x1, box.y1, box.y0)
    axes.imshow(picture, cmap="gray", vmin=0, vmax=255, extent=extent, interpolation=interpolation)
    axes.set_xlim(part.x0, part.x1)
    axes.set_ylim(part.y1, part.y0)
    axes.set_xticks([])
    axes.set_yticks([])


def _outline(axes: Any, box: Box) -> None:
    """Draw the outline of a box."""
    from matplotlib.patches import Rectangle

    place = (box.x0, box.y0)
    axes.add_patch(Rectangle(place, box.width, box.height, fill=False, edgecolor="tab:orange", linewidth=1.2))

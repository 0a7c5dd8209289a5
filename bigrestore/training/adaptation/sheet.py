"""The sheet of an adaptation: at which factors each section is sharp, with windows to see it by.

A row is a section. Each cell is a factor that was tried, with two windows: at a factor that is taken, windows that
meet the standard; at one that is not, windows that miss it. Fall and share stand above them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from bigrestore.core.files import is_picture_of, whole_file
from bigrestore.core.pixels import Floats
from bigrestore.errors import OutputExistsError
from bigrestore.training.adaptation.sharpness import FACTORS, MOST_LOST_DB, Example, Judged
from bigrestore.training.data.windows import STANDARD_FALL_DB

SOFTWARE = "bigrestore adapt"
"""Stands in the file, and tells it from a picture of the user's own."""

TAKEN, REFUSED = "#1a7f37", "#b42318"
CELL_INCHES = (2.9, 1.75)
ROW_LABEL_INCHES = 1.6


@attrs.frozen(eq=False)
class Row:
    """A section on the sheet: its name, what was read of it, whether it is learned from, and its factors."""

    name: str
    says: str
    taken: bool
    judged: Sequence[Judged]


def refuse_other_picture(path: Path) -> None:
    """Refuse to replace a picture that is no sheet of an adaptation.

    Raises
    ------
    OutputExistsError
        There is such a file.
    """
    if path.exists() and not is_picture_of(path, SOFTWARE):
        raise OutputExistsError(
            f"The sheet of the sections would replace {path}, which is not such a sheet; choose another name for the model."
        )


def draw_sheet(path: Path, rows: Sequence[Row]) -> None:
    """Draw the sheet as a PNG.

    Parameters
    ----------
    path : Path
        File to be written or replaced.
    rows : sequence of Row
        At least one.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    from matplotlib.figure import Figure

    tried = {judged.factor for row in rows for judged in row.judged}
    factors = [factor for factor in FACTORS if factor in tried]
    width = ROW_LABEL_INCHES + CELL_INCHES[0] * len(factors)
    figure = Figure(figsize=(width, 0.5 + CELL_INCHES[1] * len(rows)), dpi=100, layout="constrained")
    grid = figure.add_gridspec(len(rows), len(factors) + 1, width_ratios=[0.55, *([1.0] * len(factors))])
    figure.suptitle(
        f"Sharp targets by downscaling, in green where they are taken: the blur, which was taken out, took at most "
        f"{MOST_LOST_DB:g} dB;\nin two thirds of the windows power falls by at most {STANDARD_FALL_DB:g} dB from 0.141 to "
        "0.484 cycles/px",
        fontsize=10,
    )
    for i, row in enumerate(rows):
        label = figure.add_subplot(grid[i, 0])
        label.axis("off")
        words = f"{_wrapped(row.name, 22)}\n\n{_wrapped(row.says, 30)}"
        colour = "black" if row.taken else REFUSED
        label.text(0, 0.5, words, fontsize=7, color=colour, va="center", parse_math=False)
        for j, factor in enumerate(factors):
            judged = next((one for one in row.judged if one.factor == factor), None)
            _draw_cell(figure.add_subplot(grid[i, j + 1]), factor, judged)
    with whole_file(path) as partial:
        figure.savefig(partial, format="png", metadata={"Software": SOFTWARE})


def _draw_cell(axes: Any, factor: float, judged: Judged | None) -> None:
    """Draw the windows of one section at one factor."""
    axes.set_xticks([])
    axes.set_yticks([])
    if judged is None:
        axes.axis("off")
        axes.set_title(f"x {factor:g}: too small", fontsize=7, color="grey")
        return
    colour = TAKEN if judged.accepted else REFUSED
    shown = judged.sharp_examples, judged.soft_examples
    examples = (shown[0] or shown[1]) if judged.accepted else (shown[1] or shown[0])
    axes.imshow(_beside(examples), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    for spine in axes.spines.values():
        spine.set_color(colour)
        spine.set_linewidth(2)
    share = judged.sharp / judged.tissue
    axes.set_title(
        f"x {factor:g}: fall {judged.fall_db:.1f} dB, {share:.0%} of {judged.tissue} sharp; blur {judged.lost_db:.0f} dB",
        fontsize=7,
        color=colour,
    )
    axes.set_xlabel("   ".join(f"{example.fall_db:.1f} dB" for example in examples), fontsize=7)


def _beside(examples: Sequence[Example]) -> Floats:
    """Lay windows side by side, each from black at its 0.5th to white at its 99.5th percentile."""
    parts = []
    for example in examples:
        low, high = np.percentile(example.pixels, (0.5, 99.5))
        parts.append((example.pixels.astype(np.float32) - low) / max(high - low, 1e-6))
        parts.append(np.ones((len(example.pixels), 4), np.float32))
    return np.asarray(np.concatenate(parts[:-1], axis=1).clip(0, 1), np.float32)


def _wrapped(text: str, width: int) -> str:
    """Return text in lines of a width, long words cut."""
    import textwrap

    return "\n".join(textwrap.wrap(text, width))

"""How much closer an image came to the truth: PSNR and SSIM on 8-bit grey, and how tables are printed.

Both figures are taken on whole pixels of 8 bits, because that is what is stored and what the next
program reads. SSIM is scikit-image's, with the Gaussian window of the original paper (Wang et al. 2004).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

RESULTS = Path(__file__).resolve().parents[2] / "bench-results"
DRAWS = 10_000
"""Of the images, for an interval."""


@attrs.frozen
class Figure:
    """One line of the bench: what was measured, what it should be, and whether it is."""

    name: str
    target: str
    measured: str
    met: bool | None

    @property
    def verdict(self) -> str:
        """Return yes, no, or a dash where there is nothing to meet."""
        return "-" if self.met is None else ("yes" if self.met else "NO")


def psnr(image: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """Return the peak signal-to-noise ratio in dB for a peak of 255."""
    error = np.mean((image.astype(np.float64) - truth.astype(np.float64)) ** 2)
    return float(10 * np.log10(255.0**2 / max(error, 1e-12)))


def ssim(image: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """Return the mean structural similarity for a range of 255."""
    value = structural_similarity(
        image.astype(np.float32),
        truth.astype(np.float32),
        data_range=255.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    return float(value)


def to_bytes(image: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return an image of 0..1 as 8 bits, rounded half to even."""
    return np.clip(np.rint(np.asarray(image, np.float32) * np.float32(255)), 0, 255).astype(np.uint8)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows as text, every column as wide as its widest cell."""
    cells = [list(header), *map(list, rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    lines.insert(1, "-|-".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)


def markdown_row(cells: Sequence[str]) -> str:
    """Return one row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def write_page(page: str, mark: str, text: str) -> None:
    """Replace what stands between the marks of a page of docs/, `<!-- MARK:begin -->` and `<!-- MARK:end -->`."""
    path = Path(__file__).resolve().parents[2] / "docs" / page
    begin, end = f"<!-- {mark}:begin -->", f"<!-- {mark}:end -->"
    before, _, rest = path.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    path.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")


def figure_table(figures: Sequence[Figure]) -> str:
    """Return the bench table: figure, target, measured, met."""
    rows = [(figure.name, figure.target, figure.measured, figure.verdict) for figure in figures]
    return table(("figure", "target", "measured", "met?"), rows)


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % interval of a mean over images, by drawing them again."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(0, len(values), (DRAWS, len(values)))].mean(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def write_json(name: str, content: dict[str, Any]) -> Path:
    """Write one module's results to bench-results/NAME.json and return the path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    return path

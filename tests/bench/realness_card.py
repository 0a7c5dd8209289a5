"""What a model card says of realness: the curves as a picture, and a table with what stands beside them.

The section is replaced whole whenever it is measured again, and a training writes its card anew without it, so that
a card never shows the curves of other weights.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from tests.bench import curves
from tests.bench.cards import put_section
from tests.bench.curves import MOST_LOSS_DB, CaseResult, control, default_realness
from tests.bench.metrics import markdown_row
from tests.bench.naturalness import SCORES, TILE_PX, Judged, Row, changes, interval_text

TITLE = "Realness"
COLOURS = 64
CLEAN = "clean"
HEADER = ("case", "image", "PSNR", "SSIM", "sharpness, 1e-4", "NIQE", "BRISQUE", "PIQE", "invented", "lost")


def write(results: Sequence[CaseResult], card: Path) -> Path:
    """Put the section and its picture into a model card, and return the picture's path, beside the card."""
    picture = card.with_name(f"{card.stem}-realness.png")
    plot(results, picture, card.stem)
    put_section(card, TITLE, section(results, picture.name))
    return picture


def section(results: Sequence[CaseResult], picture: str) -> str:
    """Return the Markdown of the section without its title."""
    chosen = default_realness(results)
    images = len(results[0].before.images)
    tiles = sum(len(image.scores) for image in results[0].before.images)
    before = [result.before.images for result in results]

    def against_input(after: list[list[Judged]]) -> str:
        found = changes(after, before)
        return ", ".join(f"{name.upper()} {interval_text(found[name])}" for name in SCORES)

    said = against_input([result.curve[chosen].images for result in results])
    best = against_input([result.clean.images for result in results])
    cases = "; ".join(result.case.title for result in results)
    lines = [
        f"Measured on {images} images that were never trained on, {tiles} tissue tiles of {TILE_PX} px. Cases: "
        f"{cases}. Restored blind; a lower NIQE, BRISQUE and PIQE is a more natural image.",
        "",
        f"The default is **{chosen:g}**: the largest realness whose PSNR stays within {MOST_LOSS_DB} dB of realness 0 in "
        "the mean of every case. Change of a tile against its input there, median and 95 % interval over all cases: "
        f"{said}. Of the clean images themselves: {best}; a score that calls the truth worse than its degraded image is no "
        "guide.",
        "",
        f"![fidelity, naturalness and invented blobs over realness]({picture})",
        "",
        *(markdown_row(cells) for cells in (HEADER, ["---"] * len(HEADER))),
    ]
    for result in results:
        lines += _rows(result, chosen)
    lines += [
        "",
        "Blobs are dark spots of 2 to 5 px. Invented: restored ones that the clean image does not support, as a share of "
        "the restored ones. Lost: those of the clean image that the restored one does not support. The unsharp mask is "
        "swept in amount until it reaches the NIQE of the default; middle: only the middle of each image, because "
        "Real-ESRGAN is slow.",
    ]
    return "\n".join(lines)


def _rows(result: CaseResult, chosen: float) -> list[str]:
    """Return the lines of one case."""
    before = "Catmull-Rom" if result.case.scale == 2 else "input"
    rows = [(CLEAN, result.clean), (before, result.before)]
    rows += [
        (f"**realness {value:g}**" if value == chosen else f"realness {value:g}", row)
        for value, row in result.curve.items()
    ]
    shown = ("input", "realness 0", f"realness {chosen:g}", "realness 1", "Real-ESRGAN")
    rows += [(f"{row.name}, middle", row) for name, row in result.peer.items() if name in shown]
    lines = [_line(result.case.key, name, row) for name, row in rows]
    empty = ["-"] * 6
    for base in result.masks:
        share = control(result, chosen, base)
        cells = [result.case.key, f"unsharp mask over the {base}", *empty, f"{share:.2%}", "-"]
        if math.isnan(share):
            cells[-2] = "never reaches that NIQE"
        lines.append(markdown_row(cells))
    return lines


def _line(key: str, name: str, row: Row) -> str:
    """Return one row of the table."""
    fidelity = ("-", "-") if name == CLEAN else (f"{row.mean('psnr'):.2f}", f"{row.mean('ssim'):.4f}")
    cells = [key, name, *fidelity]
    cells += [f"{1e4 * row.mean('sharpness'):.2f}", *(f"{row.mean(score):.2f}" for score in SCORES)]
    cells += [f"{row.blobs(kind).share:.2%}" for kind in ("invented", "lost")]
    return markdown_row(cells)


def plot(results: Sequence[CaseResult], path: Path, title: str) -> None:
    """Draw the curves: what is given up, what is won, and what is invented, by realness."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    panels = (
        ("PSNR less that of realness 0, dB", lambda r, v: -r.loss_db(v), None),
        (
            "sharpness (mean squared gradient), 1e-4",
            lambda r, v: 1e4 * r.curve[v].mean("sharpness"),
            "sharpness",
        ),
        *((name.upper(), lambda r, v, n=name: r.curve[v].mean(n), name) for name in SCORES),
        ("invented blobs, %", lambda r, v: 100 * r.curve[v].blobs("invented").share, "invented"),
    )
    figure, axes = plt.subplots(2, 3, figsize=(12, 7), constrained_layout=True)
    chosen = default_realness(results)
    for axis, (label, value, beside) in zip(axes.flat, panels, strict=True):
        for index, result in enumerate(results):
            colour = f"C{index}"
            axis.plot(
                curves.REALNESS,
                [value(result, v) for v in curves.REALNESS],
                "o-",
                ms=3,
                color=colour,
                label=result.case.key,
            )
            if beside in ("sharpness", *SCORES):
                level = result.before.mean(beside) * (1e4 if beside == "sharpness" else 1)
                axis.axhline(level, color=colour, lw=0.8, ls=":")
            if beside == "invented":
                shares = [100 * control(result, v, "realness 0") for v in curves.REALNESS]
                axis.plot(curves.REALNESS, shares, "x--", ms=4, lw=0.8, color=colour)
        if beside is None:
            axis.axhline(-MOST_LOSS_DB, color="0.5", lw=0.8, ls=":")
        axis.axvline(chosen, color="0.7", lw=0.8)
        axis.set_xlabel("realness")
        axis.set_title(label, fontsize=10)
    axes.flat[0].legend(title="case", fontsize=8)
    figure.suptitle(
        f"{title}: solid, the model; dotted, its input (PSNR: the limit); dashed, an unsharp mask at equal NIQE; "
        f"grey line, default {chosen:g}",
        fontsize=9,
    )
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=100, format="png")
    plt.close(figure)
    # Lines on white need few colours: a third of the bytes, and a card travels with every installation.
    Image.open(drawn).convert("RGB").quantize(COLOURS).save(path, optimize=True)

"""What realness buys and what it costs: fidelity, naturalness and invented blobs, curve by curve.

    python -m tests.bench.realness [--model FILE ...] [--cases a,b,c,x2] [--crop 512] [--plot FILE.png]

Every image of val/ is degraded as for the quality figures and restored at several realness, from one estimate of its
degradation. Beside the curves stand the input itself (at x2 enlarged by Catmull-Rom), and two controls. Whoever only
wants a better NIQE can sharpen: so an unsharp mask is swept in amount, over the output at realness 0 and over the
input, and its invented blobs are read at the NIQE that a realness reached. And a peer that knows no data fidelity,
Real-ESRGAN x4plus, gets the same inputs (`realesrgan`), on the middle of each image because it is slow.

The default realness follows from the curves by a rule: the largest whose PSNR stays within 0.2 dB of realness 0 in every
case. Nothing here is fitted to NIQE.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from tests.bench import realesrgan
from tests.bench.classical import catmull_rom_twice
from tests.bench.material import CASES, Case, Pair, middle, validation_images
from tests.bench.metrics import Figure, figure_table, table, to_bytes, write_json
from tests.bench.models import default_model, load_method
from tests.bench.naturalness import (
    SCORES,
    Place,
    Row,
    at_equal,
    changes,
    interval_text,
    is_better,
    judge,
    tissue_tiles,
    unit,
)
from tests.bench.restorers import restore_whole, windows_of

Grey = NDArray[np.uint8]

REALNESS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
KEYS = ("a", "b", "c", "x2")
AMOUNTS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
MASK_SIGMA_PX = 1.5
MOST_LOSS_DB = 0.2
PEER_CROP_PX = 512
PEER_MARGIN_PX = 16


@attrs.frozen(eq=False)
class Scene:
    """One degraded image of a case: its pair, the input on the output grid, and the tiles that are scored."""

    pair: Pair
    before: Grey
    tiles: list[Place]


@attrs.frozen(eq=False)
class CaseResult:
    """Everything that was measured in one case.

    Attributes
    ----------
    case : Case
        The degradation.
    before : Row
        The input on the output grid.
    curve : dict of Row
        By realness.
    masks : dict of list of Row
        Unsharp masks by what they sharpened (`input`, `realness 0`), in the order of `AMOUNTS`.
    peer : dict of Row
        The middle of each image: `input`, `realness 0`, `realness 1` and `Real-ESRGAN`; empty where it was not run.
    """

    case: Case
    before: Row
    curve: dict[float, Row]
    masks: dict[str, list[Row]]
    peer: dict[str, Row]

    def loss_db(self, realness: float) -> float:
        """Return by how much PSNR falls below that of realness 0."""
        return self.curve[0.0].mean("psnr") - self.curve[realness].mean("psnr")


def scenes_of(case: Case, crop_px: int | None) -> list[Scene]:
    """Return the images of a case."""
    found = []
    for image in validation_images(crop_px):
        pair = case.apply(image)
        before = catmull_rom_twice(pair.degraded) if case.scale == 2 else pair.degraded
        found.append(Scene(pair, before, tissue_tiles(pair.clean)))
    return found


def restored(
    model: str, scenes: Sequence[Scene], realness: Sequence[float], **how: Any
) -> dict[float, list[Grey]]:
    """Return the restored images of a case by realness, each image from one estimate of its degradation."""
    methods = [load_method(model, realness=value, **how) for value in realness]
    statistics = [methods[0].analyse(windows_of(unit(scene.pair.degraded))) for scene in scenes]
    return {
        value: [
            to_bytes(restore_whole(method, unit(scene.pair.degraded), known))
            for scene, known in zip(scenes, statistics, strict=True)
        ]
        for value, method in zip(realness, methods, strict=True)
    }


def unsharp(image: Grey, amount: float) -> Grey:
    """Return the image plus `amount` times what a Gaussian of 1.5 px takes from it."""
    values = unit(image)
    return to_bytes(values + np.float32(amount) * (values - gaussian_filter(values, MASK_SIGMA_PX)))


def row_of(name: str, images: Sequence[Grey], scenes: Sequence[Scene]) -> Row:
    """Judge one candidate on all images of a case."""
    return Row(
        name,
        [judge(image, scene.pair.clean, scene.tiles) for image, scene in zip(images, scenes, strict=True)],
    )


def measure_case(
    case: Case,
    model: str,
    crop_px: int | None,
    peer: realesrgan.RealEsrgan | None = None,
    peer_crop_px: int = PEER_CROP_PX,
    **how: Any,
) -> CaseResult:
    """Measure one case with a model of its scale that has a prior."""
    scenes = scenes_of(case, crop_px)
    images = restored(model, scenes, REALNESS, scale=case.scale, **how)
    inputs = [scene.before for scene in scenes]
    masks = {
        name: [
            row_of(f"unsharp {amount:g}", [unsharp(i, amount) for i in base], scenes) for amount in AMOUNTS
        ]
        for name, base in (("input", inputs), ("realness 0", images[0.0]))
    }
    curve = {value: row_of(f"realness {value:g}", found, scenes) for value, found in images.items()}
    beside = {"input": inputs, "realness 0": images[0.0], "realness 1": images[1.0]}
    return CaseResult(
        case,
        masks["input"][AMOUNTS.index(0.0)],
        curve,
        masks,
        {} if peer is None else _peer_rows(peer, case, scenes, beside, peer_crop_px),
    )


def _peer_rows(
    peer: realesrgan.RealEsrgan,
    case: Case,
    scenes: Sequence[Scene],
    beside: Mapping[str, Sequence[Grey]],
    crop_px: int,
) -> dict[str, Row]:
    """Judge the peer and some candidates on the middle of each image."""
    cut = [attrs.evolve(scene.pair, clean=middle(scene.pair.clean, crop_px)) for scene in scenes]
    small = [Scene(pair, pair.clean, tissue_tiles(pair.clean)) for pair in cut]
    given = [_peer_output(peer, scene.pair, case.scale, crop_px) for scene in scenes]
    found = {
        name: row_of(name, [middle(image, crop_px) for image in images], small)
        for name, images in beside.items()
    }
    return found | {"Real-ESRGAN": row_of("Real-ESRGAN x4plus", given, small)}


def _peer_output(peer: realesrgan.RealEsrgan, pair: Pair, scale: int, crop_px: int) -> Grey:
    """Return what the peer makes of the pixels behind the middle of the clean image, given a margin of context."""
    edges = []
    for n in pair.clean.shape:
        start = max(0, (n - crop_px) // 2)
        first, last = start // scale, -(-min(n, start + crop_px) // scale)
        low, high = max(0, first - PEER_MARGIN_PX), min(n // scale, last + PEER_MARGIN_PX)
        edges.append((slice(low, high), slice(start - low * scale, min(n, start + crop_px) - low * scale)))
    (rows, inner_rows), (columns, inner_columns) = edges
    large = peer.restore(unit(pair.degraded[rows, columns]), scale)
    return to_bytes(large[inner_rows, inner_columns])


def default_realness(results: Sequence[CaseResult], most_db: float = MOST_LOSS_DB) -> float:
    """Return the largest realness up to which PSNR stays within `most_db` of realness 0 in every case."""
    chosen = 0.0
    for value in REALNESS:
        if any(result.loss_db(value) > most_db for result in results):
            break
        chosen = value
    return chosen


def control(result: CaseResult, realness: float, base: str) -> float:
    """Return the share of invented blobs of an unsharp mask that reaches the NIQE of a realness; NaN if none does."""
    sweep = [{"niqe": row.mean("niqe"), "share": row.blobs("invented").share} for row in result.masks[base]]
    return at_equal(result.curve[realness].mean("niqe"), sweep, "niqe", "share")


def figures(model: str, results: Sequence[CaseResult]) -> list[Figure]:
    """Return the bench lines of one model."""
    chosen = default_realness(results)
    title = f"{model}, realness {chosen:g}"
    worst = max(result.loss_db(chosen) for result in results)
    lines = [
        Figure(
            f"default realness of {model}", f"PSNR within {MOST_LOSS_DB} dB of 0", f"{chosen:g}", chosen > 0
        ),
        Figure(
            "  PSNR given up, worst case", f"<= {MOST_LOSS_DB} dB", f"{worst:.2f} dB", worst <= MOST_LOSS_DB
        ),
    ]
    after = [result.curve[chosen].images for result in results]
    found = changes(after, [result.before.images for result in results])
    for name in SCORES:
        better = is_better(found[name])
        lines.append(
            Figure(
                f"{name.upper()} against the input, {title}",
                "< 0, interval too",
                interval_text(found[name]),
                better,
            )
        )
    for result in results:
        lines += _case_figures(result, chosen)
    return lines


def _case_figures(result: CaseResult, chosen: float) -> list[Figure]:
    """Return the lines of one case: whether the knob does what it says, and the controls."""
    key, curve = result.case.key, [result.curve[value] for value in REALNESS]
    losses = [row.mean("psnr") for row in curve]
    sharp = [row.mean("sharpness") for row in curve]
    falls = all(b <= a + 0.005 for a, b in pairwise(losses))
    rises = all(b >= a for a, b in pairwise(sharp))
    own, lost = result.curve[chosen].blobs("invented"), result.curve[chosen].blobs("lost")
    lines = [
        Figure(
            f"PSNR falls with realness ({key})", "0 to 1", f"{losses[0]:.2f} to {losses[-1]:.2f} dB", falls
        ),
        Figure(
            f"sharpness rises with realness ({key})",
            "0 to 1",
            f"{1e4 * sharp[0]:.2f} to {1e4 * sharp[-1]:.2f} e-4",
            rises,
        ),
        Figure(
            f"blobs invented / lost at realness {chosen:g} ({key})",
            "",
            f"{own.share:.2%} / {lost.share:.2%}; input {result.before.blobs('lost').share:.2%} lost",
            None,
        ),
    ]
    for base in result.masks:
        there = control(result, chosen, base)
        if math.isnan(there):
            text, met = f"{own.share:.2%}; no amount reaches that NIQE", True
        else:
            text, met = f"{own.share:.2%} against {there:.2%}", own.share < there
        lines.append(
            Figure(f"  unsharp mask over the {base} at equal NIQE ({key})", "fewer invented", text, met)
        )
    if result.peer:
        peer, ours = result.peer["Real-ESRGAN"], result.peer["realness 0"]
        text = f"PSNR {peer.mean('psnr'):.2f} against {ours.mean('psnr'):.2f} dB of realness 0, invented "
        text += f"{peer.blobs('invented').share:.2%} against {ours.blobs('invented').share:.2%}"
        lines.append(Figure(f"  Real-ESRGAN x4plus, middle of each image ({key})", "", text, None))
    return lines


def rows_table(rows: Sequence[Row], before: Row | None = None) -> str:
    """Return rows as text; with `before` the change of each score against it as well."""
    cells = []
    for row in rows:
        made, gone = row.blobs("invented"), row.blobs("lost")
        line = [
            row.name,
            f"{row.mean('psnr'):.2f}",
            f"{row.mean('ssim'):.4f}",
            f"{1e4 * row.mean('sharpness'):.2f}",
        ]
        found = None if before is None else changes([row.images], [before.images])
        line += [
            f"{row.mean(name):.2f}" + ("" if found is None else f" {interval_text(found[name])}")
            for name in SCORES
        ]
        line += [f"{made.unsupported} ({made.share:.2%})", f"{made.per_mpx:.0f}"]
        line += [f"{gone.unsupported} ({gone.share:.2%})", f"{gone.per_mpx:.0f}"]
        cells.append(line)
    header = ("", "PSNR", "SSIM", "sharp e-4", "NIQE", "BRISQUE", "PIQE", "invented", "/Mpx", "lost", "/Mpx")
    return table(header, cells)


def report(result: CaseResult) -> str:
    """Return the tables of one case."""
    tiles = sum(len(image.scores) for image in result.before.images)
    name = "Catmull-Rom" if result.case.scale == 2 else "input"
    parts = [
        f"## {result.case.title}: {tiles} tiles of 192 px; changes are medians against the {name}",
        rows_table([attrs.evolve(result.before, name=name), *result.curve.values()], result.before),
    ]
    for base, rows in result.masks.items():
        parts.append(f"unsharp mask, sigma {MASK_SIGMA_PX} px, over the {base}\n{rows_table(rows)}")
    if result.peer:
        parts.append(f"middle of each image, beside the peer\n{rows_table(list(result.peer.values()))}")
    return "\n\n".join(parts)


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
                REALNESS,
                [value(result, v) for v in REALNESS],
                "o-",
                ms=3,
                color=colour,
                label=result.case.key,
            )
            if beside in ("sharpness", *SCORES):
                level = result.before.mean(beside) * (1e4 if beside == "sharpness" else 1)
                axis.axhline(level, color=colour, lw=0.8, ls=":")
            if beside == "invented":
                shares = [100 * control(result, v, "realness 0") for v in REALNESS]
                axis.plot(REALNESS, shares, "x--", ms=4, lw=0.8, color=colour)
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
    figure.savefig(path, dpi=110)
    plt.close(figure)


def has_prior(model: str, scale: int) -> bool:
    """Return whether a model can be asked for realness."""
    from bigrestore.errors import BigrestoreError

    try:
        load_method(model, scale=scale, realness=1.0)
    except BigrestoreError as error:
        if "realness" not in str(error):
            raise
        return False
    return True


def measure_model(model: str, keys: Sequence[str], options: argparse.Namespace) -> list[Figure]:
    """Measure one model in the cases of its scale, print the tables, write JSON and the picture."""
    name = Path(model).stem
    cases = [CASES[key] for key in keys]
    if not has_prior(model, cases[0].scale):
        return [Figure(f"realness of {name} x{cases[0].scale}", "", "left out: the model has no prior", None)]
    wanted = options.peer_crop > 0
    peer = realesrgan.RealEsrgan(options.threads) if wanted and realesrgan.available() else None
    results = []
    for case in cases:
        results.append(
            measure_case(case, model, options.crop, peer, options.peer_crop, device=options.device)
        )
        print(report(results[-1]), end="\n\n", flush=True)
    lines = figures(name, results)
    if peer is not None:
        speed = f"{peer.mpx_per_second:.3f} Mpx/s at x4, {options.threads} thread(s)"
        lines.append(Figure("Real-ESRGAN x4plus, output", "", speed, None))
    elif wanted:
        lines.append(Figure("Real-ESRGAN x4plus", "", realesrgan.MISSING, None))
    if options.plot is not None:
        plot(results, options.plot, f"{name} x{cases[0].scale}")
    write_json(f"realness-{name}-x{cases[0].scale}", to_json(results))
    return lines


def to_json(results: Sequence[CaseResult]) -> dict[str, Any]:
    """Return everything that was measured."""
    found: dict[str, Any] = {"default_realness": default_realness(results)}
    for result in results:
        found[result.case.key] = {
            "before": result.before.to_json(),
            "curve": {f"{value:g}": row.to_json() for value, row in result.curve.items()},
            "unsharp": {
                base: {f"{amount:g}": row.to_json() for amount, row in zip(AMOUNTS, rows, strict=True)}
                for base, rows in result.masks.items()
            },
            "peer": {name: row.to_json() for name, row in result.peer.items()},
        }
    return found


def measure(options: argparse.Namespace) -> list[Figure]:
    """Return the figures of this module for all models asked for, each in the cases of its scale."""
    from bigrestore.errors import BigrestoreError

    lines: list[Figure] = []
    scales = (options.scale,) if options.scale else (1, 2)
    wanted = [(model, options.scale) for model in options.model] or [(default_model(s), s) for s in scales]
    for model, asked in wanted:
        try:
            scale = int(load_method(model, scale=asked).scale)
        except BigrestoreError as error:
            raise SystemExit(str(error)) from error
        keys = [key for key in options.keys if CASES[key].scale == scale]
        if keys:
            lines += measure_model(model, keys, options)
    return lines


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    found = argparse.ArgumentParser(prog="python -m tests.bench.realness", description=__doc__.split("\n")[0])
    found.add_argument("--model", nargs="*", default=[], help="model files (default: the shipped ones)")
    found.add_argument("--scale", type=int, default=None, help="of models that are given by name")
    found.add_argument("--cases", default=",".join(KEYS))
    found.add_argument(
        "--crop", type=int, default=None, help="only the middle CROP x CROP pixels of each image"
    )
    found.add_argument(
        "--peer-crop", type=int, default=PEER_CROP_PX, help="of each image for the peer; 0: without it"
    )
    found.add_argument("--plot", type=Path, default=None, help="draw the curves into this file; one model")
    found.add_argument("--device", default="cpu")
    found.add_argument("--threads", type=int, default=1)
    return found


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    maker = parser()
    options = maker.parse_args(words)
    options.keys = [key.strip() for key in options.cases.split(",") if key.strip()]
    unknown = set(options.keys) - set(KEYS)
    if unknown:
        maker.error(f"unknown cases {', '.join(sorted(unknown))}; there are {', '.join(KEYS)}")
    return options


def main() -> None:
    """Measure from the command line."""
    options = parse()
    import torch

    torch.set_num_threads(options.threads)
    started = time.perf_counter()
    print(figure_table(measure(options)))
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()

"""What realness buys and what it costs: fidelity, naturalness and invented blobs, curve by curve.

    python -m tests.bench.realness [--model FILE ...] [--cases a,b,c,x2] [--threads 2] [--plot FILE.png]
    python -m tests.bench.realness --model MODEL.safetensors --threads 2 --card MODEL.md

Every image of val/ is degraded as for the quality figures and restored at several realness, from one estimate of its
degradation. Beside the curves stand the input itself (at x2 enlarged by Catmull-Rom), and two controls. Whoever only
wants a better NIQE can sharpen: so an unsharp mask is swept in amount, over the output at realness 0 and over the
input, and its invented blobs are read at the NIQE that a realness reached. And a peer that knows no data fidelity,
Real-ESRGAN x4plus, gets the same inputs (`realesrgan`), on the middle of each image because it is slow.

The default realness follows from the curves by a rule: the largest whose PSNR stays within 0.2 dB of realness 0 in
the mean of every case. Nothing here is fitted to NIQE.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs

from tests.bench import curves, realesrgan, realness_card
from tests.bench.curves import MASK_SIGMA_PX, MOST_LOSS_DB, CaseResult, control, default_realness
from tests.bench.material import CASES
from tests.bench.metrics import Figure, figure_table, table, write_json
from tests.bench.models import default_model, load_method
from tests.bench.naturalness import SCORES, Row, changes, interval_text, is_better

KEYS = ("a", "b", "c", "x2")


def figures(model: str, results: Sequence[CaseResult]) -> list[Figure]:
    """Return the bench lines of one model."""
    chosen = default_realness(results)
    title = f"{model}, realness {chosen:g}"
    worst = max(result.loss_db(chosen) for result in results)
    scale = results[0].case.scale
    lines = [
        Figure(
            f"default realness of {model}", f"PSNR within {MOST_LOSS_DB} dB of 0", f"{chosen:g}", chosen > 0
        ),
        Figure(
            "  PSNR given up, worst case", f"<= {MOST_LOSS_DB} dB", f"{worst:.2f} dB", worst <= MOST_LOSS_DB
        ),
    ]
    after = [result.curve[chosen].images for result in results]
    before = [result.before.images for result in results]
    found, truth = changes(after, before), changes([result.clean.images for result in results], before)
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
        lines.append(
            Figure(
                f"  {name.upper()} of the clean images against the input, x{scale}",
                "",
                interval_text(truth[name]),
                None,
            )
        )
    for result in results:
        lines += _case_figures(result, chosen)
    return lines


def _case_figures(result: CaseResult, chosen: float) -> list[Figure]:
    """Return the lines of one case: whether the knob does what it says, and the controls."""
    key, curve = result.case.key, [result.curve[value] for value in curves.REALNESS]
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
        met: bool | None
        if math.isnan(result.curve[chosen].mean("niqe")):
            text, met = "no tile of tissue to score", None
        elif math.isnan(there):
            text, met = f"{own.unsupported} ({own.share:.2%}); no amount reaches that NIQE", True
        else:
            text = f"{own.unsupported} ({own.share:.2%}) against {there:.2%}"
            met = own.share < there or not own.unsupported
        lines.append(
            Figure(
                f"  unsharp mask over the {base} at equal NIQE ({key})", "fewer invented, or none", text, met
            )
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
        rows_table(
            [result.clean, attrs.evolve(result.before, name=name), *result.curve.values()], result.before
        ),
    ]
    for base, rows in result.masks.items():
        parts.append(f"unsharp mask, sigma {MASK_SIGMA_PX} px, over the {base}\n{rows_table(rows)}")
    if result.peer:
        parts.append(f"middle of each image, beside the peer\n{rows_table(list(result.peer.values()))}")
    return "\n\n".join(parts)


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
            curves.measure_case(
                case, model, options.crop or None, peer, options.peer_crop, device=options.device
            )
        )
        print(report(results[-1]), end="\n\n", flush=True)
    lines = figures(name, results)
    if peer is not None:
        speed = f"{peer.mpx_per_second:.3f} Mpx/s at x4, {options.threads} thread(s)"
        lines.append(Figure("Real-ESRGAN x4plus, output", "", speed, None))
    elif wanted:
        lines.append(Figure("Real-ESRGAN x4plus", "", realesrgan.MISSING, None))
    if options.plot is not None:
        realness_card.plot(results, options.plot, name)
    if options.card is not None:
        realness_card.write(results, options.card)
    write_json(f"realness-{name}-x{cases[0].scale}", to_json(results))
    return lines


def to_json(results: Sequence[CaseResult]) -> dict[str, Any]:
    """Return everything that was measured."""
    found: dict[str, Any] = {"default_realness": default_realness(results)}
    for result in results:
        found[result.case.key] = {
            "clean": {key: value for key, value in result.clean.to_json().items() if key != "psnr"},
            "before": result.before.to_json(),
            "curve": {f"{value:g}": row.to_json() for value, row in result.curve.items()},
            "unsharp": {
                base: {f"{amount:g}": row.to_json() for amount, row in zip(curves.AMOUNTS, rows, strict=True)}
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
        "--crop",
        type=int,
        default=curves.CROP_PX,
        help="only the middle CROP x CROP pixels of each image; 0: all of it",
    )
    found.add_argument(
        "--peer-crop", type=int, default=curves.PEER_CROP_PX, help="of each image for the peer; 0: without it"
    )
    found.add_argument("--plot", type=Path, default=None, help="draw the curves into this file; one model")
    found.add_argument(
        "--card", type=Path, default=None, help="put table and picture into this model card; one model"
    )
    found.add_argument("--device", default="cpu")
    found.add_argument("--threads", type=int, default=1)
    return found


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    maker = parser()
    options = maker.parse_args(words)
    options.keys = [key.strip() for key in options.cases.split(",") if key.strip()]
    unknown = set(options.keys) - set(KEYS)
    if len(options.model) > 1 and (options.plot or options.card):
        maker.error("--plot and --card are for one model")
    if options.card is not None and not options.card.is_file():
        maker.error(f"there is no model card {options.card}; training writes one beside its model")
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

"""What models make of images that are soft as BigBrain's are.

    python -m tests.bench.twin [--model FILE ...] [--scale 1] [--only gains,scores,residuals,lines,grid] [--crop N]
    python -m tests.bench.twin --model runs/a.safetensors runs/b.safetensors --gain-only
    python -m tests.bench.twin --pictures FOLDER --gain-only
    python -m tests.bench.twin --history "LABEL" --through-run --precision auto
    python -m tests.bench.twin --table

Without --model the shipped models are judged. --gain-only says in 20 seconds a scale, on one core, how many dB a
checkpoint of a training brings, blind and told the blur. `pairs` says how the images are made, `judge` what is taken of
them, `grid` how well sigma is read, `goals` what each figure should be.

history.json keeps the figures of models that were shipped, a column each, so that what comes can be compared with them:
--history measures and adds a column, or renews the one of its label, and --table prints them all as Markdown. Its
figures are those of whole runs in the precision of the machine, as in the bench. The bare network that other calls
judge gets other windows to read the noise from, and differs by about 0.1 dB in the mean where the kernel is told.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.metrics import Figure, figure_table, table, write_json
from tests.bench.models import default_model, load_method
from tests.bench.twin import goals, grid, judge, pictures
from tests.bench.twin.gains import Model, restored
from tests.bench.twin.pairs import SEED, twin_pairs

ALL = (*judge.PARTS, "grid")


def measure(
    model_x1: str | None = None,
    model_x2: str | None = None,
    crop_px: int | None = None,
    device: str = "cpu",
) -> list[Figure]:
    """Return the figures of both models, restored by whole runs, with every table printed and written."""
    values: dict[str, goals.Value] = {}
    results = []
    for scale, name in ((1, model_x1), (2, model_x2)):
        model = Model(name or default_model(scale), scale, device, "auto", through_run=True)
        results.append(measure_model(model, ALL, crop_px))
        print(f"## {title(model)}\n{report(results[-1])}\n", flush=True)
        values |= goals.summary(results[-1])
    write_json("twin", {"models": results, "summary": values, "crop": crop_px})
    return goals.figures(values)


def measure_model(
    model: Model, parts: Sequence[str], crop_px: int | None, seed: int = SEED
) -> dict[str, Any]:
    """Return the parts that are asked for; the grid is read at x1 only."""
    results = judge.judge_model(model, twin_pairs(model.scale, seed, crop_px), parts)
    if "grid" in parts and model.scale == 1:
        results["grid"] = grid.judge_grid(model, grid.tissue_images(crop_px))
    return results


def report(results: dict[str, Any]) -> str:
    """Return everything of one model as tables."""
    parts = [judge.report(results)]
    if "grid" in results:
        parts.append(grid.report(results["grid"]))
    return "\n\n".join(part for part in parts if part)


def title(model: Model) -> str:
    """Return what a model is called."""
    stem = Path(model.name).stem if model.name.endswith(".safetensors") else model.name
    return f"{stem} x{model.scale}"


def overview(names: Sequence[str], results: Sequence[dict[str, Any]]) -> str:
    """Return one row a model: its gains."""
    rows = []
    for name, result in zip(names, results, strict=True):
        gains = {
            key: [row[key] for row in result["gains"]] for key in ("gain_blind", "gain_told", "gain_best")
        }
        means = [f"{np.mean(values):+.2f}" for values in gains.values()]
        rows.append((name, *means, f"{min(gains['gain_blind']):+.2f}"))
    return table(("model", "blind", "told 0.6", "best told", "worst blind"), rows)


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.twin", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--model", nargs="*", default=[], help="model files or names (default: the shipped ones)"
    )
    parser.add_argument("--scale", type=int, choices=(1, 2), default=None)
    parser.add_argument("--only", default=",".join(ALL), help="which parts, of " + ", ".join(ALL))
    parser.add_argument("--gain-only", action="store_true", help="the same as --only gains")
    parser.add_argument(
        "--crop", type=int, default=None, help="only the middle CROP x CROP input pixels of each image"
    )
    parser.add_argument("--seed", type=int, default=SEED, help="of the pairs (default: %(default)s)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--threads", type=int, default=1, help="threads of the network")
    parser.add_argument(
        "--through-run", action="store_true", help="restore files by the whole run, not by the bare network"
    )
    parser.add_argument(
        "--pictures", type=Path, default=None, metavar="FOLDER", help="write a contact sheet an image"
    )
    parser.add_argument("--realness", type=float, default=None, help="of the pictures (default: the model's)")
    parser.add_argument("--history", default=None, metavar="LABEL", help="add the figures to history.json")
    parser.add_argument(
        "--table", action="store_true", help="print history.json as Markdown and measure nothing"
    )
    options = parser.parse_args(words)
    options.parts = ["gains"] if options.gain_only else [part.strip() for part in options.only.split(",")]
    unknown = set(options.parts) - set(ALL)
    if unknown:
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(ALL)}")
    if options.history is not None and (options.crop is not None or options.seed != SEED):
        parser.error("--history is for whole images and the pairs of seed 1; leave --crop and --seed out")
    if options.crop is not None and options.crop < 96:
        parser.error(f"--crop is {options.crop}; it must be 96 at least, which is the side of a picture")
    return options


def models(options: argparse.Namespace) -> list[Model]:
    """Return the models that the command line names."""
    scales = (options.scale,) if options.scale else (1, 2)
    if options.model:
        named = [(name, int(load_method(name, scale=options.scale).scale)) for name in options.model]
    else:
        named = [(default_model(scale), scale) for scale in scales]
    how = (options.device, options.precision, options.through_run)
    return [Model(name, scale, *how) for name, scale in named]


def judge_all(options: argparse.Namespace) -> None:
    """Judge every model that is named, and print, write and keep what is measured."""
    judged, results = models(options), []
    for model in judged:
        started = time.perf_counter()
        results.append(measure_model(model, options.parts, options.crop, options.seed))
        values = goals.summary(results[-1])
        print(f"## {title(model)}\n{report(results[-1])}\n\n{figure_table(goals.figures(values))}")
        if options.history is not None:
            goals.add_history(options.history, values, goals.details(results[-1]))
        if options.pictures is not None:
            pairs = twin_pairs(model.scale, options.seed, options.crop)
            images = restored(model, pairs, options.realness)
            pictures.write_sheets(options.pictures, title(model).replace(" ", "-"), pairs, images)
        print(f"{time.perf_counter() - started:.0f} s\n", flush=True)
    if len(results) > 1 and "gains" in options.parts:
        print(overview([title(model) for model in judged], results))
    print(f"written: {write_json('twin', {'models': results, 'crop': options.crop})}")


def main() -> None:
    """Run the command line."""
    from bigrestore.errors import BigrestoreError

    options = arguments()
    if options.table:
        print(goals.markdown(goals.read_history()))
        return
    import torch

    torch.set_num_threads(options.threads)
    try:
        judge_all(options)
    except BigrestoreError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()

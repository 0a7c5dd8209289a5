"""Architectures of the field at equal parameters and equal time: what each gains on tissue, blind.

    python -m tests.bench.backbones [--archs uformer,rft,unet] [--scale 1] [--minutes 10] [--folder DIR] [--data IMAGES]
                                    [--crop 256] [--judge] [--page]

Each is trained by `train backbone` for as many minutes of one core: the clock of the training is that of the processor,
so nothing else on the machine is part of the result. A trained one is kept in the folder, and a training that was
stopped goes on. Sizes are such that all have nearly as many parameters (`SIZES`), which are not those by default.

Gains are over the input (over Catmull-Rom at x2) in the cases of the quality figures, blind, on the middle of the images
of val/, which no training sees. Of each image the mean over cases is taken; intervals of 95 % are those of the mean
over images, by drawing images again. `network` is the shipped one, for comparison: it was trained for hours. --judge
trains nothing and takes what lies in the folder; --page writes the table into docs/methods.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from bigrestore.model.method import Method
from bigrestore.model.registry import create_method
from bigrestore.settings import RunSettings
from bigrestore.settings.presets import BACKBONES
from bigrestore.settings.train import StageOptions
from bigrestore.training.stages.assembly import StagePlan, stage_plan
from tests.bench.clock import train_or_go_on
from tests.bench.material import CASES, ValidationImage, data_folder, validation_images
from tests.bench.metrics import RESULTS, interval, markdown_row, psnr, to_bytes, write_page
from tests.bench.quality import reference_of
from tests.bench.restorers import restore_whole, unit, windows_of

SIZES: dict[str, dict[str, Any]] = {"uformer": {"channels": 12, "head_channels": 12}}
"""In the place of the sizes by default, for as many parameters as the others have."""
COMPARED = "unet"
HEADER = ("", "parameters", "steps", "CPU minutes", "gain dB", "by case", "less that of unet", "MPx/s")


@attrs.frozen(eq=False)
class Row:
    """An architecture, judged.

    Attributes
    ----------
    name : str
        Of the architecture, or `network`.
    scale : int
    parameters, steps : int
    minutes : float
        Of one core.
    gains : dict of str to list of float
        By case, one of each image, dB.
    mpx_per_second : float
        Output megapixels a second of one core.
    """

    name: str
    scale: int
    parameters: int
    steps: int
    minutes: float
    gains: dict[str, list[float]]
    mpx_per_second: float

    @property
    def of_images(self) -> NDArray[np.float64]:
        """The mean gain of each image over cases."""
        return np.mean(list(self.gains.values()), axis=0)


def plan_of(arch: str) -> StagePlan:
    """Return the plan of a training, with the sizes of the comparison."""
    sizes = BACKBONES[arch].sizes | SIZES.get(arch, {})
    return attrs.evolve(stage_plan("backbone"), sizes=sizes)


def trained(arch: str, options: argparse.Namespace) -> Path:
    """Train an architecture unless it was trained before, or go on where it was stopped; return its file."""
    path: Path = options.folder / f"x{options.scale}-{options.minutes:g}min" / f"{arch}.safetensors"
    if path.is_file() or options.judge:
        return path
    asked = StageOptions(
        arch=arch, scale=options.scale, minutes=options.minutes, threads=1, seed=options.seed
    )
    return train_or_go_on("backbone", options.data, path, asked, plan_of(arch))


def judged(
    name: str, method: Method, images: Sequence[ValidationImage]
) -> tuple[dict[str, list[float]], float]:
    """Return the gains of a method by case and image, dB, and its output megapixels a second."""
    gains: dict[str, list[float]] = {}
    seconds, pixels = 0.0, 0
    for key, case in CASES.items():
        if case.scale != method.scale:
            continue
        for image in images:
            pair = case.apply(image)
            given = unit(pair.degraded)
            known = method.analyse(windows_of(given))
            started = time.process_time()
            made = to_bytes(restore_whole(method, given, known))
            seconds += time.process_time() - started
            pixels += made.size
            gain = psnr(made, pair.clean) - psnr(reference_of(pair, case), pair.clean)
            gains.setdefault(key, []).append(gain)
    return gains, pixels / 1e6 / seconds


def row_of(arch: str, options: argparse.Namespace, images: Sequence[ValidationImage]) -> Row | None:
    """Train and judge an architecture; None where --judge finds none trained."""
    path = trained(arch, options)
    if not path.is_file():
        return None
    kept = path.with_suffix(".json")
    if kept.is_file() and not options.judge:
        return Row(**json.loads(kept.read_text()))
    from bigrestore.model.nets.parts.part import load_part

    info = load_part("backbone", options.scale, path).info
    record = info["training"]["backbone"]
    method = create_method(RunSettings(method="backbone", scale=options.scale, model=str(path), device="cpu"))
    facts = arch, options.scale, info["parameters"], record["steps"], record["seconds"] / 60
    row = Row(*facts, *judged(arch, method, images))
    kept.write_text(json.dumps(attrs.asdict(row), indent=2))
    return row


def shipped_row(scale: int, images: Sequence[ValidationImage]) -> Row:
    """Judge the shipped network at realness 0."""
    from bigrestore.model.nets.checkpoint import load_model

    info = load_model(f"tiny-x{scale}").info
    records = info["training"].values()
    steps, seconds = (sum(record[name] for record in records) for name in ("steps", "seconds"))
    method = create_method(RunSettings(scale=scale, realness=0.0, device="cpu", precision="fp32"))
    return Row("network", scale, info["parameters"], steps, seconds / 60, *judged("network", method, images))


def with_interval(values: NDArray[np.float64]) -> str:
    """Return a mean and its interval."""
    low, high = interval(values)
    return f"{values.mean():+.2f} ({low:+.2f} to {high:+.2f})"


def report(rows: Sequence[Row]) -> str:
    """Return the table."""
    (reference,) = [row for row in rows if row.name == COMPARED] or (None,)
    lines = [markdown_row(HEADER), markdown_row(["---"] * len(HEADER))]
    for row in rows:
        apart = ""
        if reference is not None and row is not reference:
            apart = with_interval(row.of_images - reference.of_images)
        by_case = ", ".join(f"{key} {np.mean(gains):+.2f}" for key, gains in row.gains.items())
        cells = (
            f"`{row.name}`",
            f"{row.parameters / 1e6:.2f} M",
            f"{row.steps:,}",
            f"{row.minutes:.0f}",
            with_interval(row.of_images),
            by_case,
            apart,
            f"{row.mpx_per_second:.2g}",
        )
        lines.append(markdown_row(cells))
    return "\n".join(lines)


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.backbones", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--archs", default="")
    parser.add_argument("--scale", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--folder", type=Path, default=RESULTS / "backbones")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--crop", type=int, default=256, help="side of the middle of each image, pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--judge", action="store_true", help="train nothing, judge what is in the folder again"
    )
    parser.add_argument("--page", action="store_true", help="write the table into docs/methods.md")
    options = parser.parse_args(words)
    options.data = options.data or data_folder() / "train"
    fitting = (arch for arch, row in BACKBONES.items() if options.scale in row.scales)
    options.archs = options.archs.split(",") if options.archs else list(fitting)
    return options


def main() -> None:
    """Measure from the command line."""
    options = arguments()
    import torch

    torch.set_num_threads(1)
    images = validation_images(options.crop)
    rows = []
    for arch in options.archs:
        row = row_of(arch, options, images)
        rows += [] if row is None else [row]
        print(report(rows), flush=True)
    rows.append(shipped_row(options.scale, images))
    print(report(rows))
    if options.page:
        write_page("methods.md", f"backbones-x{options.scale}", report(rows))


if __name__ == "__main__":
    main()

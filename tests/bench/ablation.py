"""What each part of the network brings: the same small network without it, trained alike.

    python -m tests.bench.ablation [--scales 1,2] [--seeds 3] [--steps 1500] [--prior-steps 1200] [--bridge-steps 500]
                                   [--longer-steps 1800] [--only 'whole, realness 1'] [--cards FOLDER]

Every variant is a nano network of the same steps, batches and rate, with the estimator of the shipped model, and is
judged blind on the middle of the images of val/: PSNR over the degraded input (over Catmull-Rom at x2), and the three
scores without a reference. As many seeds as are asked for; the table says mean and, behind the +-, the standard
deviation over seeds; what a part brings has its interval of 95 % over images, too. A part that brings nothing shows as
such. Steps and not minutes are held equal, so that what else the machine does is no part of the result; a variant's step
costs what the whole network's does, or less. What prior and bridge cost beside that is given to the network without them
too, in a row of its own.

Parts: the prior (the whole network at realness 0 has none), how features join it (by channel-split transforms, or in the
place of noise, GPEN's way), the code of the kernel with its deconvolutions
("unknown" for every window, in training and after), and rational interpolation (Catmull-Rom in its place at x2).
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bigrestore.core.interpolation import catmull_rom
from bigrestore.model.method import Method, SectionStatistics
from bigrestore.model.nets import restorer
from bigrestore.model.nets.checkpoint import load_model, save_model
from bigrestore.model.nets.restorer import Restorer
from bigrestore.model.network import load_network
from bigrestore.settings.presets import get_preset
from bigrestore.settings.train import StageOptions
from bigrestore.training.data.codes import drawn_codes
from bigrestore.training.stages import fidelity
from bigrestore.training.stages.stage import train_stage
from tests.bench.cards import put_section
from tests.bench.material import CASES, Case, ValidationImage, data_folder, validation_images
from tests.bench.metrics import RESULTS, interval, markdown_row, psnr, to_bytes, write_json
from tests.bench.models import default_model
from tests.bench.naturalness import SCORES, engine
from tests.bench.quality import reference_of
from tests.bench.restorers import Candidate, from_method, unit

PRESET = "nano"
CROP_PX = 512
FRECHET = ("frechet_y1", "frechet_prior", "frechet_prior_before")
"""Distances of held-out outputs at realness 1 from tissue, and of free samples of the prior, after and before."""
REALNESS = 1.0
"""The prior is judged whole; how much of it a user takes is another matter."""


@contextlib.contextmanager
def without_kernel() -> Iterator[None]:
    """Tell the network in training nothing of the degradation."""

    def nothing(*drawn: Any) -> tuple[Tensor, Tensor]:
        psi, filters = drawn_codes(*drawn)
        return torch.zeros_like(psi), filters

    with mock.patch.object(fidelity, "drawn_codes", nothing):
        yield


@contextlib.contextmanager
def without_rational() -> Iterator[None]:
    """Put Catmull-Rom in the place of rational interpolation."""

    def plain(x: Tensor, scale: int, rho: Tensor, kappa: Tensor) -> Tensor:
        return catmull_rom(x, scale)

    with mock.patch.object(restorer, "rational", plain):
        yield


@attrs.frozen
class Variant:
    """A network without a part.

    Attributes
    ----------
    name : str
        What the table calls it.
    scales : tuple of int
        Where the part is at work.
    altered : callable
        A context in which the network is trained and judged.
    blind_to_kernel : bool
        Whether the code is "unknown" when it restores.
    with_prior : bool
        Whether it is trained on by prior and bridge, and judged with them.
    longer : bool
        Whether fidelity goes on for as long as prior and bridge take: what their time would have bought.
    fusion : str
        How features join the prior.
    """

    name: str
    scales: tuple[int, ...] = (1, 2)
    altered: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
    blind_to_kernel: bool = False
    with_prior: bool = False
    longer: bool = False
    fusion: str = "sft"


WHOLE = "whole, realness 1"
FUSED = "whole, features in the place of noise"
PLAIN = "without the prior (realness 0)"
LONGER = "without the prior, equal time"
NO_KERNEL = "without prior and kernel"
NO_RATIONAL = "without prior and rational interpolation"
VARIANTS = (
    Variant(PLAIN),
    Variant(LONGER, longer=True),
    Variant(NO_KERNEL, altered=without_kernel, blind_to_kernel=True),
    Variant(NO_RATIONAL, scales=(2,), altered=without_rational),
    Variant(WHOLE, with_prior=True),
    Variant(FUSED, with_prior=True, fusion="noise"),
)
PARTS = {
    "the kernel, as code and deconvolutions": (PLAIN, NO_KERNEL),
    "rational interpolation": (PLAIN, NO_RATIONAL),
    "the prior, at realness 1": (WHOLE, PLAIN),
    "the prior, at realness 1, against as much time for fidelity": (WHOLE, LONGER),
    "features in the place of noise, against channel-split transforms": (FUSED, WHOLE),
}
"""What each part brings is the first without the second."""


class Unknowing:
    """A method that is told nothing of the section's degradation."""

    def __init__(self, method: Method) -> None:
        self._method = method

    def __getattr__(self, name: str) -> Any:
        return getattr(self._method, name)

    def analyse(self, windows: Any) -> SectionStatistics:
        """Return the statistics with the code "unknown"."""
        found = self._method.analyse(windows)
        return attrs.evolve(found, psi=np.zeros_like(found.psi))


def trained(variant: Variant, scale: int, seed: int, options: argparse.Namespace) -> Path:
    """Train a variant, unless it was trained before, and return its file; the prior goes on from the first one."""
    folder = RESULTS / "ablation" / f"x{scale}-seed{seed}-{options.steps}"
    path = folder / f"{_file_name(variant, options)}.safetensors"
    if path.is_file():
        return path
    if variant.with_prior or variant.longer:
        begin = trained(VARIANTS[0], scale, seed, options)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        begin = folder / "begin.safetensors"
        save_model(begin, _begun(scale, seed), {"halo_px": 128})
    if variant.with_prior:
        half = folder / f"half-{options.prior_steps}.safetensors"
        _stage("prior", begin, half, scale, seed, options.prior_steps, options)
        _stage("bridge", half, path, scale, seed, options.bridge_steps, options, variant.fusion)
        return path
    with variant.altered():
        steps = options.longer_steps if variant.longer else options.steps
        _stage("fidelity", begin, path, scale, seed, steps, options)
    return path


def _file_name(variant: Variant, options: argparse.Namespace) -> str:
    """Return the name of a variant's file, without its ending, that says what it was trained for."""
    if variant.with_prior:
        name = f"prior-{options.prior_steps}-{options.bridge_steps}"
        return name if variant.fusion == "sft" else f"{name}-{variant.fusion}"
    if variant.longer:
        return f"longer-{options.longer_steps}"
    return "plain" if variant is VARIANTS[0] else variant.altered.__name__


def _begun(scale: int, seed: int) -> Restorer:
    """Return a fresh network with the shipped estimator."""
    shipped = load_model(f"{default_model(scale)}-x{scale}").restorer
    torch.manual_seed(seed)
    fresh = Restorer(get_preset(PRESET), scale)
    fresh.estimator.load_state_dict(shipped.estimator.state_dict())
    fresh.basis.load_state_dict(shipped.basis.state_dict())
    return fresh


def _stage(
    name: str,
    start: Path,
    path: Path,
    scale: int,
    seed: int,
    steps: int,
    options: argparse.Namespace,
    fusion: str = "sft",
) -> None:
    """Train one stage unless it was trained, or go on with it where it was stopped; a file appears when it is done."""
    if path.is_file():
        return
    asked = StageOptions(
        preset=PRESET,
        scale=scale,
        steps=steps,
        start=start,
        fusion=fusion,
        seed=seed,
        threads=options.threads,
        resume=(path.with_name(f"{path.name}.train") / name).is_dir(),
    )
    print(f"  {name}, x{scale}, seed {seed}: {path.name}", flush=True)
    train_stage(name, options.data, path, asked)


def judged(variant: Variant, path: Path, scale: int, images: Sequence[ValidationImage]) -> dict[str, float]:
    """Return gains by case, dB, and mean scores of a variant."""
    method: Any = load_network(
        str(path), scale=scale, realness=REALNESS if variant.with_prior else 0.0,
        device="cpu", precision="fp32", seed=0, lock=True, kernel=None,
    )  # fmt: skip
    candidate = from_method(variant.name, Unknowing(method) if variant.blind_to_kernel else method)
    with variant.altered():
        each = [[_figures(candidate, case, image) for case in _cases(scale)] for image in images]
    figures = _means(one for of_image in each for one in of_image)
    figures |= {f"image {index}": _gain(_means(iter(of_image))) for index, of_image in enumerate(each)}
    if variant.with_prior:
        of_training = load_model(path).info["training"]["bridge"]["figures"]
        figures |= {name: float(of_training[name]) for name in FRECHET}
    return figures


def _cases(scale: int) -> list[Case]:
    """Return the degradations of a scale."""
    return [case for case in CASES.values() if case.scale == scale]


def _means(figures: Iterator[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each figure over images, and of the scores over cases too; gains come first."""
    found: dict[str, list[float]] = {}
    for one in figures:
        for key, value in one.items():
            found.setdefault(key, []).append(value)
    gains = [key for key in found if key.startswith("gain")]
    return {key: float(np.nanmean(found[key])) for key in (*gains, *SCORES)}


def _figures(candidate: Candidate, case: Case, image: ValidationImage) -> dict[str, float]:
    """Return gain and scores for one image."""
    pair = case.apply(image)
    restored = to_bytes(candidate.restore(pair.degraded))
    return _scored(restored, case, psnr(restored, pair.clean) - psnr(reference_of(pair, case), pair.clean))


def _scored(image: NDArray[np.uint8], case: Case, gain: float) -> dict[str, float]:
    """Return the gain with the scores of an image."""
    scores = engine().score(unit(image))
    return {f"gain {case.key}": gain} | {name: scores[name] for name in SCORES}


def of_the_input(scale: int, images: Sequence[ValidationImage]) -> dict[str, float]:
    """Return the same figures of the input, at x2 enlarged by Catmull-Rom."""
    return _means(
        _scored(reference_of(case.apply(image), case), case, 0.0)
        for case in _cases(scale)
        for image in images
    )


def measure(options: argparse.Namespace) -> str:
    """Train and judge all variants; return the tables, keep the figures, and put them into the model cards."""
    images = validation_images(CROP_PX)
    results: dict[str, Any] = {}
    texts = []
    for scale in options.scales:
        rows: dict[str, list[dict[str, float]]] = {}
        for seed in range(options.seeds):
            for variant in VARIANTS:
                asked = options.only is None or variant.name in options.only
                if asked and scale in variant.scales and (options.prior_steps or not variant.with_prior):
                    path = trained(variant, scale, seed, options)
                    rows.setdefault(variant.name, []).append(judged(variant, path, scale, images))
        results[f"x{scale}"] = rows
        texts.append(section(scale, rows, of_the_input(scale, images), options))
        if options.cards is not None:
            put_section(options.cards / f"{default_model(scale)}-x{scale}.md", "Ablation", texts[-1])
    write_json("ablation", results)
    return "\n\n".join(texts)


def section(
    scale: int, rows: dict[str, list[dict[str, float]]], before: dict[str, float], options: argparse.Namespace
) -> str:
    """Return the Markdown of a card's section: how it was measured, every figure, and what each part brings."""
    keys, seeds = list(before), len(next(iter(rows.values())))
    lines = [
        f"Not this model but `{PRESET}` ones, trained for it on processors: {options.steps:,} steps of fidelity, where "
        f"there is a prior {options.prior_steps:,} of it and {options.bridge_steps:,} of the bridge, and in the row of "
        f"equal time {options.longer_steps:,} more of fidelity instead; {seeds} seeds, mean +- standard deviation over "
        f"them. Judged blind on the middle {CROP_PX} px of the images of the validation; gains in dB over "
        f"{'the input' if scale == 1 else 'Catmull-Rom'}, scores in the mean of all cases.",
        "",
        markdown_row([f"x{scale}", *keys]),
        markdown_row(["---"] * (1 + len(keys))),
        markdown_row(["input", *(f"{before[key]:.2f}" for key in keys)]),
    ]
    for name, found in rows.items():
        lines.append(markdown_row([name, *(_spread([each[key] for each in found]) for key in keys)]))
    for name, found in rows.items():
        if all(key in each for each in found for key in FRECHET):
            y1, free, before_it = (_spread([each[key] for each in found]) for key in FRECHET)
            lines += [
                "",
                f"{name}: Frechet distance of held-out outputs {y1}, of free samples {free} (before: {before_it}).",
            ]
    lines += [
        "",
        "What a part brings, seed by seed, in the mean of the gains and in NIQE (less is more natural):",
        "",
    ]
    for part, (with_it, without) in PARTS.items():
        if with_it in rows and without in rows:
            brought = [_gain(a) - _gain(b) for a, b in zip(rows[with_it], rows[without], strict=True)]
            looks = [a["niqe"] - b["niqe"] for a, b in zip(rows[with_it], rows[without], strict=True)]
            nothing = all(_by_chance(found) for found in (brought, looks))
            said = f"- {part}: {_spread(brought)} dB{_over_images(rows[with_it], rows[without])}, {_spread(looks)}"
            lines.append(said + (", no more than chance: it brings nothing here" if nothing else ""))
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    """Return mean and standard deviation of a figure over seeds."""
    deviation = np.std(values, ddof=1) if len(values) > 1 else np.nan
    return f"{np.mean(values):.2f} +- {deviation:.2f}"


def _over_images(with_it: Sequence[dict[str, float]], without: Sequence[dict[str, float]]) -> str:
    """Return the 95 % interval over images of what a part brings, in the mean of the seeds."""
    names = [name for name in with_it[0] if name.startswith("image ")]
    if not names:
        return ""
    brought = [[a[name] - b[name] for name in names] for a, b in zip(with_it, without, strict=True)]
    low, high = interval(np.mean(brought, axis=0))
    return f" (over images {low:+.2f} to {high:+.2f})"


def _by_chance(differences: Sequence[float]) -> bool:
    """Return whether the mean of differences is no larger than their spread over seeds."""
    return len(differences) > 1 and bool(abs(np.mean(differences)) <= np.std(differences, ddof=1))


def _gain(figures: dict[str, float]) -> float:
    """Return the mean gain over the cases."""
    return float(np.mean([value for key, value in figures.items() if key.startswith("gain")]))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.ablation")
    parser.add_argument("--scales", type=lambda text: [int(part) for part in text.split(",")], default=[1, 2])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1500, help="of fidelity")
    parser.add_argument("--prior-steps", type=int, default=1200, help="0: without the variant")
    parser.add_argument("--bridge-steps", type=int, default=500)
    parser.add_argument(
        "--longer-steps", type=int, default=1800, help="of fidelity that take as long as those two"
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=[each.name for each in VARIANTS],
        help="this row alone; as often as wanted",
    )
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument(
        "--cards", type=Path, default=None, help="folder of the model cards to put the tables into"
    )
    parser.add_argument("--data", type=Path, default=None, help="images to train on  [train/ of the data]")
    options = parser.parse_args()
    options.data = options.data or data_folder() / "train"
    print(measure(options))


if __name__ == "__main__":
    main()

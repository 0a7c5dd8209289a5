"""What each part of the network brings: the same small network without it, trained alike.

    python -m tests.bench.ablation [--scales 1,2] [--seeds 3] [--steps 1500] [--prior-steps 1200] [--bridge-steps 500]
                                   [--longer-steps 1800]

Every variant is a nano network of the same steps, batches and rate, with the estimator of the shipped model, and is
judged blind on the middle of the images of val/: PSNR over the degraded input (over Catmull-Rom at x2), and the three
scores without a reference. As many seeds as are asked for; the table says mean and, behind the +-, the standard
deviation over seeds. A part that brings nothing shows as such. Steps and not minutes are held equal, so that
what else the machine does is no part of the result; a variant's step costs what the whole network's does, or less.
What prior and bridge cost beside that is given to the network without them too, in a row of its own.

Parts: the prior (the whole network at realness 0 has none), the code of the kernel with its deconvolutions
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
from torch import Tensor

from bigrestore.methods.base import Method, SectionStatistics
from bigrestore.methods.network import load_network
from bigrestore.nn import restorer
from bigrestore.nn.checkpoint import load_model, save_model
from bigrestore.nn.interpolation import catmull_rom
from bigrestore.nn.presets import get_preset
from bigrestore.nn.restorer import Restorer
from bigrestore.score.engine import create_engine
from bigrestore.train import fidelity
from bigrestore.train.codes import drawn_codes
from bigrestore.train.options import StageOptions
from bigrestore.train.stages import train_stage
from tests.bench.material import CASES, Case, ValidationImage, data_folder, validation_images
from tests.bench.metrics import RESULTS, psnr, table, to_bytes, write_json
from tests.bench.models import default_model
from tests.bench.naturalness import SCORES
from tests.bench.quality import reference_of
from tests.bench.restorers import Candidate, from_method

PRESET = "nano"
CROP_PX = 512
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
    """

    name: str
    scales: tuple[int, ...] = (1, 2)
    altered: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
    blind_to_kernel: bool = False
    with_prior: bool = False
    longer: bool = False


WHOLE = "whole, realness 1"
VARIANTS = (
    Variant("without the prior (realness 0)"),
    Variant("... trained for as long as the whole", longer=True),
    Variant("... and without the kernel", altered=without_kernel, blind_to_kernel=True),
    Variant("... and without rational interpolation", scales=(2,), altered=without_rational),
    Variant(WHOLE, with_prior=True),
)


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
        _stage("bridge", half, path, scale, seed, options.bridge_steps, options)
        return path
    with variant.altered():
        steps = options.longer_steps if variant.longer else options.steps
        _stage("fidelity", begin, path, scale, seed, steps, options)
    return path


def _file_name(variant: Variant, options: argparse.Namespace) -> str:
    """Return the name of a variant's file, without its ending, that says what it was trained for."""
    if variant.with_prior:
        return f"prior-{options.prior_steps}-{options.bridge_steps}"
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
    name: str, start: Path, path: Path, scale: int, seed: int, steps: int, options: argparse.Namespace
) -> None:
    """Train one stage unless it was trained, or go on with it where it was stopped; a file appears when it is done."""
    if path.is_file():
        return
    asked = StageOptions(
        preset=PRESET,
        scale=scale,
        steps=steps,
        start=start,
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
    cases = [case for case in CASES.values() if case.scale == scale]
    found: dict[str, list[float]] = {}
    with variant.altered():
        for case in cases:
            for image in images:
                for key, value in _figures(candidate, case, image).items():
                    found.setdefault(key, []).append(value)
    return {key: float(np.nanmean(values)) for key, values in found.items()}


def _figures(candidate: Candidate, case: Case, image: ValidationImage) -> dict[str, float]:
    """Return gain and scores for one image."""
    pair = case.apply(image)
    restored = to_bytes(candidate.restore(pair.degraded))
    gain = psnr(restored, pair.clean) - psnr(reference_of(pair, case), pair.clean)
    scores = create_engine("native").score(restored.astype(np.float32) / np.float32(255))
    return {f"gain {case.key}": gain} | {name: scores[name] for name in SCORES}


def measure(options: argparse.Namespace) -> str:
    """Train and judge all variants; return the table, and keep the figures."""
    images = validation_images(CROP_PX)
    results: dict[str, Any] = {}
    tables = []
    for scale in options.scales:
        rows: dict[str, list[dict[str, float]]] = {}
        for seed in range(options.seeds):
            for variant in VARIANTS:
                if scale in variant.scales and (options.prior_steps or not variant.with_prior):
                    path = trained(variant, scale, seed, options)
                    rows.setdefault(variant.name, []).append(judged(variant, path, scale, images))
        results[f"x{scale}"] = rows
        tables.append(_table(scale, rows))
    write_json("ablation", results)
    return "\n\n".join(tables)


def _table(scale: int, rows: dict[str, list[dict[str, float]]]) -> str:
    """Return mean and spread of every figure by variant."""
    keys = list(next(iter(rows.values()))[0])
    body = []
    for name, found in rows.items():
        values = np.array([[each[key] for key in keys] for each in found])
        spread = values.std(0, ddof=1) if len(found) > 1 else np.full(len(keys), np.nan)
        body.append([name, *(f"{m:.2f} +- {s:.2f}" for m, s in zip(values.mean(0), spread, strict=True))])
    return table([f"x{scale}", *keys], body)


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
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--data", type=Path, default=None, help="images to train on  [train/ of the data]")
    options = parser.parse_args()
    options.data = options.data or data_folder() / "train"
    print(measure(options))


if __name__ == "__main__":
    main()

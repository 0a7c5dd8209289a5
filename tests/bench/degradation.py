"""Learned degradations: does a training on what was learned from pairs beat one on the default recipe?

    python -m tests.bench.degradation [--folder DIR] [--minutes 30] [--network-minutes 60] [--only fit,default]

A hidden process, which the recipes cannot draw, makes pairs on one half of the tissue: disks of a radius that varies from
place to place, a sharpening halo, and JPEG 2000. From these pairs a degradation is learned, by the fit alone and by the
network. Then the shipped `tiny-x1` is trained further on other clean tissue, for as many minutes each, under the recipe
`default`, the fit and the network, and restores validation images under the hidden process. Minutes are those of the
processor. Everything is kept in the folder: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve

from tests.bench.beyond import HALO_SIGMA_PX, through_jpeg2000
from tests.bench.clock import processor_minutes, train_or_go_on
from tests.bench.material import Grey, data_folder, disk, validation_images

RADII_PX = (0.6, 1.4, 2.2, 3.2)
"""Of the disks; the place chooses between two neighbours."""

DEPTH_PX = 24.0
"""Standard deviation of the Gaussian that makes depth from noise."""

HALO = 0.8
NOISE_255 = 1.5
JPEG2000_RATIO = 12
PAIR_PX = 384
PAIRS, TRAINED_ON = 24, 24
CROP_PX = 512
START = "tiny-x1"
RECIPES = ("default", "fit", "network")
BATCH_RATE = 2e-4
"""Highest learning rate: a quarter of that of a training from nothing, as `adapt` takes."""


def hidden(image: Grey, seed: int) -> Grey:
    """Return an image, (h, w), under the hidden process."""
    rng = np.random.default_rng([77, seed])
    clean = image.astype(np.float64)
    depth = gaussian_filter(rng.standard_normal(clean.shape), DEPTH_PX)
    depth = (depth - depth.min()) / max(float(np.ptp(depth)), 1e-9) * (len(RADII_PX) - 1)
    padded = np.pad(clean, 8, mode="reflect")
    planes = [fftconvolve(padded, disk(radius), mode="same")[8:-8, 8:-8] for radius in RADII_PX]
    soft = sum(plane * np.clip(1 - np.abs(depth - index), 0, 1) for index, plane in enumerate(planes))
    sharpened = soft + HALO * (soft - gaussian_filter(soft, HALO_SIGMA_PX))
    noisy = sharpened + rng.normal(0, NOISE_255, clean.shape)
    return through_jpeg2000(np.clip(np.rint(noisy), 0, 255).astype(np.uint8), JPEG2000_RATIO)


def make_pairs(folder: Path) -> Path:
    """Write pairs of the hidden process, and a folder of other clean images; return the folder of pairs."""
    pairs, clean = folder / "pairs", folder / "clean"
    if (folder / "made").is_file():
        return pairs
    paths = sorted((data_folder() / "train").glob("brain_section_dab_mouse*.png"))
    paths += sorted((data_folder() / "train").glob("human_cortex*.png"))
    for side in (pairs / "lq", pairs / "hq", clean):
        side.mkdir(parents=True, exist_ok=True)
    for path in paths[1::2][:TRAINED_ON]:
        shutil.copy(path, clean)
    crops = [crop for path in paths[::2] for crop in tissue_crops(np.asarray(Image.open(path).convert("L")))]
    for index, crop in enumerate(crops[:PAIRS]):
        Image.fromarray(crop).save(pairs / "hq" / f"{index:03d}.png")
        Image.fromarray(hidden(crop, index)).save(pairs / "lq" / f"{index:03d}.png")
    (folder / "made").touch()
    return pairs


def tissue_crops(image: Grey, most: int = 3) -> list[Grey]:
    """Return the crops of an image with most contrast, at most three."""
    crops = [
        image[y : y + PAIR_PX, x : x + PAIR_PX]
        for y in range(0, image.shape[0] - PAIR_PX + 1, PAIR_PX)
        for x in range(0, image.shape[1] - PAIR_PX + 1, PAIR_PX)
    ]
    return sorted(crops, key=lambda crop: -float(crop.std()))[:most]


def learn(folder: Path, pairs: Path, minutes: float | None) -> Path:
    """Return the file of a learned degradation, by the network where minutes are given."""
    from bigrestore.settings.train import StageOptions
    from bigrestore.training.stages.learning import learn_degradation

    network = minutes is not None
    path = folder / ("network.safetensors" if network else "fit.safetensors")
    if not (folder / f"{path.stem}.done").is_file():
        options = StageOptions(minutes=minutes, resume=network, threads=1, rate=1e-3)
        with processor_minutes():
            trained = learn_degradation(pairs, (None, None), path, options, network=network).trained
        if trained is not None and trained.status != "done":
            raise SystemExit("The training of the network was stopped; the same command goes on with it.")
        (folder / f"{path.stem}.done").touch()
    return path


def train_under(folder: Path, name: str, recipe: str, minutes: float) -> Path:
    """Return a model trained further under a recipe, by fidelity."""
    from bigrestore.model.nets.parts.part import find_weights
    from bigrestore.settings.train import StageOptions

    path = folder / f"model-{name}.safetensors"
    if path.is_file():
        return path
    options = StageOptions(
        minutes=minutes, recipe=recipe, start=find_weights(START), rate=BATCH_RATE, threads=1
    )
    return train_or_go_on("fidelity", folder / "clean", path, options)


def gains(model: str | Path) -> dict[str, float]:
    """Return the PSNR gain of a model over the input on each validation image under the hidden process, dB."""
    from bigrestore.model.registry import create_method
    from bigrestore.settings import RunSettings
    from tests.bench.restorers import from_method

    method = create_method(RunSettings(model=str(model), realness=0.0))
    candidate = from_method(str(model), method)
    found = {}
    for index, image in enumerate(validation_images(CROP_PX)):
        degraded = hidden(image.pixels, 1000 + index)
        restored = np.clip(candidate.restore(degraded), 0, 1) * 255
        found[image.name] = _psnr(restored, image.pixels) - _psnr(degraded, image.pixels)
    return found


def _psnr(image: NDArray[np.generic], clean: Grey) -> float:
    inner = np.s_[16:-16, 16:-16]
    error = (image.astype(np.float64) - clean)[inner]
    return float(10 * np.log10(255**2 / np.mean(error**2)))


def measure(
    folder: Path, minutes: float, network_minutes: float, only: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return the gains under each recipe, and those of the start."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs = make_pairs(folder)
    results = {"start": gains(START)}
    for name in only:
        recipe = (
            "default"
            if name == "default"
            else str(learn(folder, pairs, network_minutes if name == "network" else None))
        )
        results[name] = gains(train_under(folder, name, recipe, minutes))
        (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    return results


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path("bench-results/degradation"))
    parser.add_argument("--minutes", type=float, default=30.0, help="of each fidelity training")
    parser.add_argument("--network-minutes", type=float, default=60.0)
    parser.add_argument("--only", default=",".join(RECIPES))
    asked = parser.parse_args()
    results = measure(asked.folder, asked.minutes, asked.network_minutes, asked.only.split(","))
    print("| recipe | mean gain, dB | images |\n|---|---|---|")
    for name, found in results.items():
        each = ", ".join(f"{image} {gain:+.2f}" for image, gain in found.items())
        print(f"| {name} | {np.mean(list(found.values())):+.2f} | {each} |")
    print(json.dumps({"folder": str(asked.folder)}))


if __name__ == "__main__":
    main()

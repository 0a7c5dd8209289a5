"""What a section may expect of a shipped model, by its blur and noise: the table that `profile` reads for a volume.

    python -m tests.bench.expected [--models tiny-x1,tiny-x2] [--write]

Windows of the images of val/ are degraded by draws of the recipe `default`, of which a third is made as BigBrain's sections
were, and restored blindly. A cell of the table holds the median gain of the draws that were read like it, nearer ones
counting more, and the spread, 1.48 times the median distance from it. Blur is in input pixels, with the averaging of one.

Then the twins of BigBrain are restored, and what the table expects by the blur and noise that are read of them is compared
with what they gain.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import bigrestore
from bigrestore.core.interpolation import catmull_rom
from bigrestore.core.stated_blur import averaging_sigma_px
from bigrestore.run.profile.expected import expected_gain, read_gains
from bigrestore.run.profile.words import noise_levels
from tests.bench.metrics import psnr, to_bytes
from tests.bench.models import load_method
from tests.bench.restorers import restore_whole, unit, windows_of
from tests.bench.twin.grid import tissue_images
from tests.bench.twin.pairs import twin_pairs

SIGMAS = (0.4, 0.55, 0.7, 0.85, 1.0, 1.3, 1.7, 2.3)
NOISES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
"""The cells: blur beyond the averaging of a pixel in input pixels, and noise of 255."""
NEAR_SIGMA, NEAR_NOISE = 0.15, 0.35
"""How near a draw is: in the logarithm of blur, and in that of one level more than the noise."""
DRAWS = 24
"""Of every image."""
PATCH_PX = 192
"""Side of the windows, input pixels."""
SOUND_DB = 45.0
"""A window with a higher PSNR has no faults whose removal could be measured; it is left out."""
EDGE_PX = 16
"""Not compared, output pixels."""
WEIGHTS = Path(bigrestore.__file__).parent / "weights"


def gain_of(method: Any, low: Any, clean: Any) -> tuple[float, Any]:
    """Return the gain in dB over the input, or its enlargement (NaN where that has no faults), and what was read."""
    import torch

    statistics = method.analyse(windows_of(unit(low)))
    restored = restore_whole(method, unit(low), statistics)
    before = catmull_rom(torch.from_numpy(unit(low))[None, None], int(method.scale))[0, 0].numpy().clip(0, 1)
    inside = slice(EDGE_PX, -EDGE_PX)
    after = psnr(to_bytes(restored)[inside, inside], clean[inside, inside])
    input_db = psnr(to_bytes(before)[inside, inside], clean[inside, inside])
    return (after - input_db if input_db < SOUND_DB else float("nan")), statistics


def draws(name: str) -> NDArray[np.float64]:
    """Return (n, 3): blur and noise that are read of every draw, and its gain."""
    method = load_method(name, realness=0.0, precision="auto")
    scale, rows = int(method.scale), []
    for index, image in enumerate(tissue_images()):
        with tempfile.TemporaryDirectory() as folder:
            source, pairs = Path(folder) / "clean.png", Path(folder) / "pairs"
            Image.fromarray(image.pixels).save(source)
            bigrestore.degrade(source, pairs, count=DRAWS, scale=scale, patch_px=PATCH_PX * scale, seed=index)
            for file in sorted((pairs / "lq").iterdir()):
                low, clean = (np.asarray(Image.open(pairs / kind / file.name)) for kind in ("lq", "hq"))
                gain, statistics = gain_of(method, low, clean)
                rows.append((statistics.details["sigma_px"] / scale, noise_levels(statistics), gain))
        print(f"{name} {image.name}: {np.nanmedian([row[2] for row in rows[-DRAWS:]]):.2f} dB", flush=True)
    found = np.array(rows)
    return found[np.isfinite(found[:, 2])]


def measure(name: str) -> dict[str, Any]:
    """Return the table of a model."""
    rows = draws(name)
    own = averaging_sigma_px(load_method(name, realness=0.0).scale)
    sigmas = [round(float(np.hypot(sigma, own)), 3) for sigma in SIGMAS]
    cells = [[_cell(rows, sigma, noise) for noise in NOISES] for sigma in sigmas]
    return {"sigma_input_px": sigmas, "noise_levels": list(NOISES), "draws": len(rows), "gain_db": cells}


def _cell(rows: NDArray[np.float64], sigma: float, noise: float) -> tuple[float, float]:
    """Return the weighted median of the gains near a cell, and the spread about it."""
    read_sigma, read_noise, gains = rows.T
    apart = (np.log(np.maximum(read_sigma, 0.2) / sigma) / NEAR_SIGMA) ** 2
    apart += (np.log((1 + read_noise) / (1 + noise)) / NEAR_NOISE) ** 2
    weights = np.exp(-apart / 2)
    middle = _weighted_median(gains, weights)
    return round(middle, 2), round(1.48 * _weighted_median(np.abs(gains - middle), weights), 2)


def _weighted_median(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def against_twins(name: str) -> list[float]:
    """Return, for every twin, by how many dB it gains more than is expected."""
    method = load_method(name, realness=0.0, precision="auto")
    scale, apart = int(method.scale), []
    gains = read_gains(name)
    assert gains is not None
    for pair in twin_pairs(scale, crop_px=640):
        gain, statistics = gain_of(method, pair.low, pair.target)
        expected = expected_gain(gains, statistics.details["sigma_px"] / scale, noise_levels(statistics))
        assert expected is not None
        apart.append(gain - expected[0])
        print(
            f"{name} {pair.name}: gain {gain:.2f}, expected {expected[0]:.2f} +- {expected[1]:.2f}",
            flush=True,
        )
    return apart


def main() -> None:
    """Measure the tables, write them where asked to, and hold them against the twins."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.expected")
    parser.add_argument("--models", default="tiny-x1,tiny-x2")
    parser.add_argument("--write", action="store_true", help="measure, and put the tables beside the models")
    options = parser.parse_args()
    for name in options.models.split(","):
        if options.write:
            (WEIGHTS / f"{name}-gain.json").write_text(json.dumps(measure(name)) + "\n")
        apart = np.abs(against_twins(name))
        print(f"{name}: within 0.5 dB of {np.mean(apart <= 0.5):.0%} of {len(apart)} twins")


if __name__ == "__main__":
    main()

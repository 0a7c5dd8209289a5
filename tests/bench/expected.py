"""What a section may expect of a shipped model at realness 0: the numbers that `profile` of a volume works by.

    python -m tests.bench.expected [--models tiny-x1,tiny-x2] [--write]

The images of train/ are degraded by draws of the recipe `default`, and as the twins of BigBrain are, the latter also under
other optics, noise and shifts. Their gain in PSNR is fitted by what their restored crops show
(`bigrestore.run.profile.expected`), the draws and the twins counting alike. The spread is that of images that were left out
of the fit.

Then the twins of val/ are profiled as a volume is, and what is expected of them is compared with what they gain.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

import bigrestore
from bigrestore.core.interpolation import catmull_rom
from bigrestore.io.open_section import open_section
from bigrestore.run.profile.expected import signs_of
from bigrestore.run.profile.triage import triage
from tests.bench.material import Grey, ValidationImage, data_folder
from tests.bench.metrics import psnr, to_bytes
from tests.bench.models import load_method
from tests.bench.restorers import restore_whole, unit, windows_of
from tests.bench.twin import pairs
from tests.bench.twin.pairs import make_pair, twin_pairs

GROUPS = {
    "brain_nissl_rat": 1,
    "brain_section_dab_mouse": 16,
    "brain_section_he_mouse": 6,
    "human_cortex": 1,
    "histology_he": 14,
    "brightfield_grey": 4,
    "em_neural_rat": 3,
}
"""Images of train/ by the beginning of their name, and how many."""
DRAWS, PATCH_PX = 24, 256
"""Draws of the recipe of every image, and the side of their patches, input pixels."""
TWIN_PX = 640
"""Side of the twins, input pixels, at most."""
VARIED = {"OPTICS_PX": (0.2, 0.7), "SCAN_NOISE": (0.4, 2.6), "SHIFT_PX": (0.5, 2.5)}
"""Ranges of what makes twins, for every second one."""
LEAST_DB, SOUND_DB = 10.0, 45.0
"""Left out: a window of a higher PSNR has no faults whose removal could be measured, one of a lower is destroyed."""
FOLDS = 8
TRUSTED_DB = 0.5
"""From a larger error on an image counts less: Huber's loss."""
EDGE_PX = 16
"""Not compared, output pixels."""
WEIGHTS = Path(bigrestore.__file__).parent / "weights"


@attrs.frozen
class Row:
    """One degraded image: where it comes from, what its crop shows, and its gain."""

    name: str
    twin: bool
    foretold_db: float
    fall_db: float
    gain_db: float


def gain_of(method: Any, low: Grey, clean: Grey) -> float:
    """Return the gain in dB over the input, or its enlargement; NaN where it is not measured."""
    restored = restore_whole(method, unit(low), method.analyse(windows_of(unit(low))))
    before = catmull_rom(torch.from_numpy(unit(low))[None, None], int(method.scale))[0, 0].numpy().clip(0, 1)
    inside = slice(EDGE_PX, -EDGE_PX)
    after = psnr(to_bytes(restored)[inside, inside], clean[inside, inside])
    input_db = psnr(to_bytes(before)[inside, inside], clean[inside, inside])
    return after - input_db if LEAST_DB < input_db < SOUND_DB else float("nan")


def material() -> Iterator[ValidationImage]:
    """Yield the images of train/, and those of 900 px or more also at half and a quarter of their size."""
    for group, most in GROUPS.items():
        paths = sorted((data_folder() / "train").glob(f"{group}*.png"))
        for path in paths[:: 2 if len(paths) >= 2 * most else 1][:most]:
            levels = [np.asarray(Image.open(path).convert("L"))]
            while min(levels[-1].shape) >= 900 and len(levels) < 3:
                height, width = (side // 2 * 2 for side in levels[-1].shape)
                means = levels[-1][:height, :width].reshape(height // 2, 2, width // 2, 2).mean((1, 3))
                levels.append(np.rint(means).astype(np.uint8))
            # Photographs of rat tissue are blurred at full size.
            for pixels in levels[1:] if group == "brain_nissl_rat" else levels:
                yield ValidationImage(path.stem, pixels)


def drawn(image: ValidationImage, scale: int, seed: int) -> Iterator[tuple[Grey, Grey]]:
    """Yield draws of the recipe `default` and their clean targets."""
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder) / "clean.png", Path(folder) / "pairs"
        Image.fromarray(image.pixels).save(source)
        side = min(PATCH_PX, (min(image.pixels.shape) - 192) // scale // 16 * 16)
        bigrestore.degrade(source, made, count=DRAWS, scale=scale, patch_px=side, seed=seed, progress="none")
        for file in sorted((made / "lq").iterdir()):
            low, clean = (np.asarray(Image.open(made / kind / file.name)) for kind in ("lq", "hq"))
            yield low, clean


def twins(image: ValidationImage, scale: int, seed: int) -> Iterator[tuple[Grey, Grey]]:
    """Yield a twin of an image and its target, and one under other optics, noise and shifts."""
    usual, rng = {name: getattr(pairs, name) for name in VARIED}, np.random.default_rng(seed)
    pixels = ValidationImage(image.name, image.pixels[: 2 * TWIN_PX, : 2 * TWIN_PX])
    for constants in (usual, {name: rng.uniform(*limits) for name, limits in VARIED.items()}):
        try:
            for name, value in constants.items():
                setattr(pairs, name, value)
            pair = make_pair(pixels, scale, seed).middle(TWIN_PX)
        finally:
            for name, value in usual.items():
                setattr(pairs, name, value)
        yield pair.low, pair.target


def measure(name: str) -> list[Row]:
    """Return what crops show and what they gain, of draws and twins of all images."""
    method = load_method(name, realness=0.0, precision="auto")
    scale, rows = int(method.scale), []
    for index, image in enumerate(material()):
        for twin, made in ((False, drawn), (True, twins)):
            for low, clean in made(image, scale, index):
                signs = signs_of(method, [unit(low)], method.analyse(windows_of(unit(low))))
                assert signs is not None
                gain = gain_of(method, low, clean)
                rows.append(Row(image.name, twin, signs.foretold_db, signs.fall_db, gain))
        print(f"{name} {image.name}: {len(rows)} rows", flush=True)
    return [row for row in rows if np.isfinite(row.gain_db)]


def fit(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the fitted numbers of a model."""
    foretold = np.array([row.foretold_db for row in rows])
    limits = np.quantile(foretold, [0.01, 0.99])
    known = np.stack([np.ones(len(rows)), foretold.clip(*limits), [row.fall_db for row in rows]], -1)
    gains, are_twins = np.array([row.gain_db for row in rows]), np.array([row.twin for row in rows])
    counts = np.where(are_twins, 0.5 / are_twins.sum(), 0.5 / (~are_twins).sum())
    names = sorted({row.name for row in rows})
    folds = np.array([names.index(row.name) % FOLDS for row in rows])
    apart = np.zeros(len(rows))
    for fold in range(FOLDS):
        out = folds == fold
        apart[out] = np.abs(known[out] @ _regression(known[~out], gains[~out], counts[~out]) - gains[out])
    for kind, chosen in (("draws", ~are_twins), ("twins", are_twins)):
        print(f"left-out {kind}: {np.mean(apart[chosen] <= 0.5):.0%} of {chosen.sum()} within 0.5 dB")
    order = np.argsort(apart)
    middle = apart[order][np.searchsorted(np.cumsum(counts[order]), 0.5)]
    return {
        "foretold_db": [round(float(limit), 2) for limit in limits],
        "weights": [round(float(weight), 3) for weight in _regression(known, gains, counts)],
        "spread_db": round(1.48 * float(middle), 2),
        "draws": int((~are_twins).sum()),
        "twins": int(are_twins.sum()),
    }


def _regression(
    known: NDArray[np.float64], gains: NDArray[np.float64], counts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the weights of a linear fit by Huber's loss, reweighted until it stands."""
    trust = counts
    for _ in range(30):
        weights = np.linalg.solve(known.T @ (known * trust[:, None]), known.T @ (trust * gains))
        trust = counts * np.minimum(1, TRUSTED_DB / np.maximum(np.abs(gains - known @ weights), 1e-6))
    return np.asarray(weights)


def against_twins(name: str, seed: int = pairs.SEED) -> list[float]:
    """Return, for every twin of val/, by how many dB it gains more than is expected."""
    method = load_method(name, realness=0.0, precision="auto")
    scale, apart = int(method.scale), []
    for pair in twin_pairs(scale, seed, crop_px=TWIN_PX):
        with tempfile.TemporaryDirectory() as folder:
            Image.fromarray(pair.low).save(Path(folder) / "twin.png")
            (line,) = triage(open_section(Path(folder) / "twin.png"), [0], method, scale)
        gain = gain_of(method, pair.low, pair.target)
        assert line.gain_db is not None
        apart.append(gain - line.gain_db)
        print(
            f"{name} {pair.name}: gain {gain:.2f}, expected {line.gain_db:.2f} +- {line.gain_spread_db:.2f}",
            flush=True,
        )
    return apart


def main() -> None:
    """Fit the numbers and write them where asked to, and hold them against the twins."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.expected")
    parser.add_argument("--models", default="tiny-x1,tiny-x2")
    parser.add_argument("--write", action="store_true", help="fit, and put the numbers beside the models")
    options = parser.parse_args()
    for name in options.models.split(","):
        if options.write:
            (WEIGHTS / f"{name}-gain.json").write_text(json.dumps(fit(measure(name))) + "\n")
        apart = np.abs(against_twins(name))
        print(f"{name}: within 0.5 dB of {np.mean(apart <= 0.5):.0%} of {len(apart)} twins")


if __name__ == "__main__":
    main()

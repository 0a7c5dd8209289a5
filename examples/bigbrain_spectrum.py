"""How the recipe `bigbrain` was chosen: the power spectrum of degraded mouse sections beside BigBrain's.

BigBrain's 20-um sections lose power smoothly up to the highest frequency, without a floor of noise. A
degradation that is to stand for them must do the same to sharp sections. Content differs at low
frequencies, so slopes are compared from 0.14 cycles/px on.

    BIGRESTORE_DATA=/path/to/data python examples/bigbrain_spectrum.py spectrum.png

reads the coronal mouse sections `train/brain_section_dab_mouse*.png` of that folder, prints the table and
draws clean, degraded and BigBrain's power into spectrum.png.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from bigrestore.degradation.recipe import Recipe, draw_degradations
from bigrestore.degradation.scanner import degrade_batch, margin_px

FREQUENCIES = (0.141, 0.203, 0.266, 0.328, 0.391, 0.453, 0.484)
"""Cycles per pixel: centres of rings that are 1/32 wide."""

BIGBRAIN_DB = (-7.6, -11.6, -15.8, -20.8, -26.6, -31.7, -33.4)
"""Mean radial power of BigBrain's 20-um sections at these frequencies, in dB against 0.047 cycles/px."""

COMPARED = len(FREQUENCIES)
"""The recipe must agree at all of them."""

WINDOW_PX = 128
TISSUE_BELOW = 240

Array = NDArray[np.float64]


def ring_power(window: Array) -> Array:
    """Return the mean power of a Hann-weighted window in 16 rings of 1/32 cycles/px."""
    taper = np.hanning(WINDOW_PX + 1)[:-1]
    power = np.abs(np.fft.fft2((window - window.mean()) * np.outer(taper, taper))) ** 2
    frequency = np.fft.fftfreq(WINDOW_PX)
    ring = (np.hypot(frequency[:, None], frequency) * 32).astype(int).ravel()
    return (np.bincount(ring, power.ravel()) / np.bincount(ring))[:16]


def spectra(
    folder: Path, recipe: Recipe, every: int = 1, seed: int = 0, scale: int = 1
) -> tuple[Array, Array]:
    """Return the mean ring power of the clean and of the degraded tissue windows of every n-th section.

    At x2 and x4 the clean windows are as many times larger, and their power is that of their block means.
    """
    margin, rng = margin_px(scale), np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    clean, degraded = [], []
    for path in sorted(folder.glob("train/brain_section_dab_mouse*.png"))[::every]:
        with Image.open(path) as image:
            section = np.asarray(image.convert("L"), np.float32)
        padded = np.pad(section / 255, margin, mode="reflect")
        step = WINDOW_PX * scale
        for y in range(0, section.shape[0] - step + 1, step):
            for x in range(0, section.shape[1] - step + 1, step):
                if np.mean(section[y : y + step, x : x + step] < TISSUE_BELOW) < 0.5:
                    continue
                side = step + 2 * margin
                patch = torch.from_numpy(padded[y : y + side, x : x + side].copy())[None, None]
                lq, _, hq = degrade_batch(patch, draw_degradations(recipe, scale, 1, rng), scale, generator)
                means = torch.nn.functional.avg_pool2d(hq, scale)
                clean.append(ring_power(means[0, 0].double().numpy()))
                degraded.append(ring_power(lq[0, 0].double().numpy()))
    return np.mean(clean, axis=0), np.mean(degraded, axis=0)


def relative_db(power: Array) -> Array:
    """Return ring powers in dB against the ring at 0.141 cycles/px, at `FREQUENCIES`."""
    decibels = 10 * np.log10(power[[int(32 * frequency) for frequency in FREQUENCIES]])
    return np.asarray(decibels - decibels[0])


def plot(clean: Array, degraded: Array, target: Path) -> None:
    """Draw the three curves."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    bigbrain = np.array(BIGBRAIN_DB) - BIGBRAIN_DB[0]
    axes.fill_between(
        FREQUENCIES[:COMPARED],
        bigbrain[:COMPARED] - 3,
        bigbrain[:COMPARED] + 3,
        alpha=0.2,
        label="within 3 dB",
    )
    axes.plot(FREQUENCIES, bigbrain, "k-o", label="BigBrain, 20 um")
    axes.plot(FREQUENCIES, relative_db(clean), "C1--s", label="mouse sections, clean")
    axes.plot(FREQUENCIES, relative_db(degraded), "C0-s", label="mouse sections, bigbrain")
    axes.set(xlabel="cycles per pixel", ylabel="mean radial power, dB against 0.141", title="Recipe bigbrain")
    axes.legend()
    figure.savefig(target, dpi=120)
    pyplot.close(figure)


def main() -> None:
    """Compute, print and plot."""
    folder = os.environ.get("BIGRESTORE_DATA")
    if not folder:
        sys.exit("Set BIGRESTORE_DATA to the folder that holds train/brain_section_dab_mouse*.png.")
    clean, degraded = spectra(Path(folder), Recipe.load("bigbrain"))
    bigbrain = np.array(BIGBRAIN_DB) - BIGBRAIN_DB[0]
    print("cycles/px   clean  degraded  BigBrain  difference")
    for row in zip(FREQUENCIES, relative_db(clean), relative_db(degraded), bigbrain, strict=True):
        print("{:9.3f} {:7.1f} {:9.1f} {:9.1f} {:11.1f}".format(*row, row[2] - row[3]))
    plot(clean, degraded, Path(sys.argv[1] if len(sys.argv) > 1 else "bigbrain_spectrum.png"))


if __name__ == "__main__":
    main()

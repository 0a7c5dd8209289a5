"""Tissue that is made, and pairs of it under a known degradation."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from bigrestore.core.kernels import Kernel, delta, kernel_size
from bigrestore.degradation.section import correlate_exactly
from bigrestore.training.fitting.real_pairs import RealWindow

Grey = NDArray[np.float32]


def tissue_image(height: int, width: int, seed: int = 0) -> Grey:
    """Return dark cells of all sizes on a light, slowly varying ground, 0..1, with texture."""
    return _tissue_image(height, width, seed).copy()


@functools.cache
def _tissue_image(height: int, width: int, seed: int) -> Grey:
    rng = np.random.default_rng(seed)
    image = 0.85 + 0.05 * gaussian_filter(rng.standard_normal((height, width)), 20) * 20
    for _ in range(height * width // 180):
        y, x, r = rng.integers(0, height), rng.integers(0, width), rng.uniform(1, 7)
        reach = int(r) + 2
        rows, columns = slice(max(0, y - reach), y + reach + 1), slice(max(0, x - reach), x + reach + 1)
        yy, xx = np.ogrid[rows.start : min(rows.stop, height), columns.start : min(columns.stop, width)]
        image[rows, columns][(yy - y) ** 2 + (xx - x) ** 2 < r * r] = rng.uniform(0.25, 0.7)
    image += 0.03 * gaussian_filter(rng.standard_normal(image.shape), 0.6)
    return np.clip(image, 0, 1).astype(np.float32)


def degraded_image(
    clean: Grey, kernel: Kernel | None, scale: int, *, gain: float = 0.0, read: float = 0.0, seed: int = 1
) -> Grey:
    """Return a clean image under a kernel and a law of noise, rounded to 8 bits."""
    kernel = delta(kernel_size(scale)) if kernel is None else kernel
    soft = correlate_exactly(torch.from_numpy(clean), kernel, scale).numpy()
    field = np.random.default_rng(seed).standard_normal(soft.shape)
    noisy = soft + field * np.sqrt(gain * np.clip(soft, 0, None) + read**2)
    return (np.rint(np.clip(noisy, 0, 1) * 255) / 255).astype(np.float32)


def made_window(
    kernel: Kernel | None, scale: int = 1, side: int = 160, seed: int = 0, **noise: float
) -> RealWindow:
    """Return a window in register."""
    clean = tissue_image(side * scale, side * scale, seed)
    return RealWindow.unmoved(degraded_image(clean, kernel, scale, seed=seed + 1, **noise), clean)  # type: ignore[arg-type]


def write_pairs_folder(
    folder: Path, count: int, kernel: Kernel | None, scale: int = 1, side: int = 112, **noise: float
) -> Path:
    """Write `lq/` and `hq/` as `degrade` does."""
    for name in ("lq", "hq"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for index in range(count):
        clean = np.rint(tissue_image(side * scale, side * scale, 10 + index) * 255).astype(np.uint8)
        made = degraded_image(clean.astype(np.float32) / 255, kernel, scale, seed=index, **noise)  # type: ignore[arg-type]
        save_grey(folder / "hq" / f"{index:06d}.png", clean)
        save_grey(folder / "lq" / f"{index:06d}.png", np.rint(made * 255).astype(np.uint8))
    return folder


def save_grey(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write an image."""
    Image.fromarray(pixels).save(path)

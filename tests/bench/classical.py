"""The opponents of the quality table: interpolation, and deconvolution that is told the true kernel.

Richardson-Lucy and Wiener are scikit-image's, on images padded by reflection. Each is given more than a
blind method has: the kernel itself, and the one setting (rounds, balance) that turns out best for that very
image, found by comparing with the clean original. To beat them is to beat their best.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.restoration import richardson_lucy, wiener

from tests.bench.material import Kernel, Pair
from tests.bench.metrics import psnr, to_bytes

RICHARDSON_LUCY_ROUNDS = (3, 6, 12, 25, 50)
WIENER_BALANCES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
PAD_PX = 32


def catmull_rom_twice(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the image enlarged by two with Pillow's cubic, whose a = -1/2 is Catmull-Rom."""
    height, width = image.shape
    values = Image.fromarray(image.astype(np.float32))
    large = np.asarray(values.resize((2 * width, 2 * height), Image.Resampling.BICUBIC))
    return np.clip(np.rint(large), 0, 255).astype(np.uint8)


def best_richardson_lucy(pair: Pair) -> tuple[NDArray[np.uint8], int]:
    """Return the best Richardson-Lucy result for this pair and its number of rounds."""
    padded = _padded(pair)
    tried = {
        rounds: _cropped(richardson_lucy(padded, pair.kernel, num_iter=rounds), pair)
        for rounds in RICHARDSON_LUCY_ROUNDS
    }
    best = max(tried, key=lambda rounds: psnr(tried[rounds], pair.clean))
    return tried[best], best


def best_wiener(pair: Pair) -> tuple[NDArray[np.uint8], float]:
    """Return the best Wiener result for this pair and its balance."""
    padded = _padded(pair)
    tried = {
        balance: _cropped(wiener(padded, _odd(pair.kernel), balance), pair) for balance in WIENER_BALANCES
    }
    best = max(tried, key=lambda balance: psnr(tried[balance], pair.clean))
    return tried[best], best


def _odd(kernel: Kernel) -> Kernel:
    """Give a one-pixel kernel a rim of zeros: the transfer function needs a neighbourhood."""
    return np.pad(kernel, 1) if kernel.shape == (1, 1) else kernel


def _padded(pair: Pair) -> NDArray[np.float64]:
    return np.pad(pair.degraded.astype(np.float64) / 255, PAD_PX, mode="symmetric")


def _cropped(image: NDArray[np.float64], pair: Pair) -> NDArray[np.uint8]:
    height, width = pair.clean.shape
    return to_bytes(image[PAD_PX : PAD_PX + height, PAD_PX : PAD_PX + width])

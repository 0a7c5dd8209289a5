"""A kernel stands in its centre, whichever way it comes, so that no output is moved against its input."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy.ndimage import center_of_mass, gaussian_filter
from skimage import data

from bigrestore.core.kernels import (
    Kernel,
    equivalent_sigma,
    fold_downsampling,
    gaussian,
    kernel_size,
    motion,
    narrowed,
)
from bigrestore.core.stated_blur import averaging_sigma_px, blur_kernel, placed_kernel
from bigrestore.degradation.recipe import Recipe, draw_degradations
from bigrestore.model.nets.prior_gate import SEEN_SIGMA_PX
from bigrestore.model.nets.reading.kernel_family import averaged, blur_kernels
from bigrestore.model.nets.redegrade import redegrade

MOST_OFF_PX = 0.02

SCALES = pytest.mark.parametrize("scale", [1, 2, 4])


@pytest.fixture(scope="module")
def tissue() -> np.ndarray:
    grey = np.asarray(data.immunohistochemistry()[..., 1][:480, :480], np.float32) / 255
    return gaussian_filter(grey, 2.0)


def off_centre(kernel: Kernel, scale: int) -> float:
    """Return how far the centre of mass is from where kernels stand, output pixels."""
    centre = kernel.shape[0] // 2 + (scale - 1) / 2 - (scale - 1) // 2
    return float(np.abs(np.array(center_of_mass(kernel.astype(np.float64))) - centre).max())


def moves(kernel: Kernel, scale: int, image: np.ndarray) -> float:
    """Return how far a kernel moves an image, in output pixels: half of the way to the image by its mirrored kernel."""
    straight = np.pad(kernel, 2)
    mirrored = np.roll(straight[::-1, ::-1], (1 - scale % 2,) * 2, (0, 1))
    seen, other = (
        redegrade(torch.from_numpy(image)[None], torch.from_numpy(each.copy()), scale)[0].numpy()
        for each in (straight, mirrored)
    )
    inside = (slice(32 // scale, -(32 // scale)),) * 2
    slopes = np.stack([slope[inside].ravel() for slope in np.gradient(seen + other)], axis=1)
    way = np.linalg.lstsq(slopes, (seen - other)[inside].ravel(), rcond=None)[0]
    return float(np.abs(way).max()) * scale


def drawn(recipe: str, scale: int) -> Iterator[Kernel]:
    """Yield the widest effective kernels of some draws of a recipe."""
    pairs = draw_degradations(Recipe.load(recipe), scale, 400, np.random.default_rng(3))
    kernels = [pair.effective_kernel for pair in pairs if not pair.identity]
    yield from sorted(kernels, key=equivalent_sigma)[-6:]


def read(scale: int) -> Iterator[Kernel]:
    """Yield kernels as the estimator states them, up to the widest and the most pointed; narrowed as a run does."""
    for sigma, shape in ((0.5, 1.0), (2.0, 0.6), (3.0, 0.5), (3.0, 2.5)):
        fine = blur_kernels(
            torch.tensor([scale * sigma]),
            torch.tensor([[0.4, 0.3]]),
            torch.tensor([shape]),
            kernel_size(scale),
        )
        kernel = averaged(fine, scale)[0].numpy()
        yield kernel
        yield narrowed(kernel, SEEN_SIGMA_PX[scale])


def given(scale: int) -> Iterator[Kernel]:
    """Yield kernels from a file that lie beside their place, some of them in too large a square."""
    size = kernel_size(scale)
    wide, place = gaussian(2 * size + 1, SEEN_SIGMA_PX[scale] * 0.8), np.zeros((9, 9), np.float32)
    place[1, 7] = 1.0
    yield placed_kernel(np.roll(wide, (3, -4), (0, 1)), scale, size)
    yield placed_kernel(place, scale, size)
    yield placed_kernel(np.roll(motion(21, 9.0, 0.7), (2, 3), (0, 1)), scale, size)
    yield placed_kernel(np.roll(wide, (0, 2), (0, 1)), scale, size)


def stated(scale: int) -> Iterator[Kernel]:
    """Yield the kernels of stated blurs, up to the widest."""
    widest = SEEN_SIGMA_PX[scale] / scale
    for sigma in np.linspace(averaging_sigma_px(scale) + 0.01, widest, 4):
        yield blur_kernel((sigma, widest, 33.0), scale, SEEN_SIGMA_PX[scale], "")


WAYS = {
    "default": lambda scale: drawn("default", scale),
    "optics": lambda scale: drawn("optics", scale),
    "bigbrain": lambda scale: drawn("bigbrain", scale),
    "the estimator": read,
    "--kernel": given,
    "--blur": stated,
}


@SCALES
@pytest.mark.parametrize("way", list(WAYS))
def test_no_kernel_moves_an_image(way: str, scale: int, tissue: np.ndarray) -> None:
    for kernel in WAYS[way](scale):
        assert kernel.sum(dtype=np.float64) == pytest.approx(1, abs=1e-5)
        assert off_centre(kernel, scale) < MOST_OFF_PX
        assert moves(kernel, scale, tissue) < MOST_OFF_PX


def test_a_kernel_that_is_off_its_place_is_seen_to_move_an_image(tissue: np.ndarray) -> None:
    for scale in (1, 2, 4):
        kernel = gaussian(21, 2.0) if scale == 1 else fold_downsampling(gaussian(41, 2.0), "area", scale)
        assert moves(kernel, scale, tissue) < 0.001
        beside = np.roll(kernel, 1, 0) * 0.3 + kernel * 0.7
        assert moves(beside.astype(np.float32), scale, tissue) == pytest.approx(0.3, abs=0.06)

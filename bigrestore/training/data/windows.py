"""The windows of a training image worth training on, chosen once, so drawing costs nothing.

Empty background teaches nothing, and a soft window teaches softness. Tissue is seen on a map of cells of 7 x 7
pixels: a cell is tissue if darker than the background or textured. Sharpness is judged against one standard: a clean
image uses its pixel grid. The power of its tissue falls by at most 21 dB from 0.141 to 0.484 cycles/px; a larger fall
is blur by definition. This power is measured on patches of 64 pixels. Sums of cells and patches under every window
come from integral images, and an image leaves a list of origins. Cells of 7 pixels, not 8, put the origins on every
phase of the grids in use (unshuffling by 2, downsampling by 2 and 4, blocks of 8 from JPEG).
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d

TISSUE_CELL_PX = 7
"""Side of the judged cells, and step between window origins, in pixels."""

BACKGROUND_MARGIN = 0.05
"""A cell this much (of 0..1) below the background level in its mean is tissue."""

TEXTURE_DEVIATION = 0.02
"""A cell above this standard deviation (of 0..1) is tissue, however bright."""


SPECTRUM_PX = 64
"""Side of the patches of a spectrum."""

SPECTRUM_STEP_PX = 32
"""Step between them."""

LOW_RING, HIGH_RING = 9 / 64, 31 / 64
"""Centres of the two rings of the standard, cycles per pixel: 0.141 and 0.484. Each is 1/32 wide."""

STANDARD_FALL_DB = 21.0
"""The standard: power of a clean image falls by no more from the low ring to the high one."""


@attrs.frozen
class WindowRule:
    """What a window must have to be drawn.

    Attributes
    ----------
    tissue : float
        Least share of tissue cells, 0..1.
    contrast : float
        Least root mean square of the finest band (pixel minus its 3x3 mean), as a share of the image's grey range
        (0.5 to 99.5 percent).
    fall_db : float
        Largest fall of power from 0.141 to 0.484 cycles/px.
    flat_db : float
        Least fall: less is noise rather than tissue.
    """

    tissue: float = 0.5
    contrast: float = 0.006
    fall_db: float = STANDARD_FALL_DB
    flat_db: float = 1.5


@attrs.frozen
class GreyLevels:
    """The grey levels of one image for a contrast remap, all 0..1.

    Attributes
    ----------
    background : float
        Level of the brightest cells.
    tissue : float
        Median of the tissue cells.
    spread : float
        Range between 0.5 and 99.5 percent of the pixels.
    """

    background: float
    tissue: float
    spread: float


@attrs.frozen(eq=False)
class CellMaps:
    """What is known of the cells and patches of one image, all float32.

    Attributes
    ----------
    tissue, fine : ndarray, (h // 7, w // 7)
        0 or 1; mean square of the finest band.
    low, high : ndarray, ((h - 32) // 32, (w - 32) // 32)
        Power of each patch in the two rings of the standard.
    levels : GreyLevels
        Of the image.
    """

    tissue: NDArray[np.float32]
    fine: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    levels: GreyLevels


def to_float(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """Return uint8 or uint16 pixels as float32, 0..1 of the storage range."""
    return pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)


def area_downscale(pixels: NDArray[Any], factor: float) -> NDArray[Any]:
    """Downscale an image by averaging areas, keeping its dtype.

    Parameters
    ----------
    pixels : ndarray, (h, w), uint8 or uint16
    factor : float
        Output pixels per input pixel, 0 < factor <= 1.

    Returns
    -------
    ndarray, (round(h * factor), round(w * factor))
        Whole steps use the box filter; other factors a Hamming-windowed one. A box of fractional width would change
        in sharpness from pixel to pixel.
    """
    if factor == 1:
        return pixels
    size = (max(1, round(pixels.shape[1] * factor)), max(1, round(pixels.shape[0] * factor)))
    whole = float(1 / factor).is_integer()
    resampling = Image.Resampling.BOX if whole else Image.Resampling.HAMMING
    resized = np.asarray(Image.fromarray(pixels.astype(np.float32)).resize(size, resampling))
    limit = np.iinfo(pixels.dtype).max
    return np.asarray(np.clip(np.rint(resized), 0, limit), dtype=pixels.dtype)


def local_mean(image: Tensor, side: int) -> Tensor:
    """Return the means over side x side pixels, side odd, of (N, 1, H, W); at the border over the inside."""
    return avg_pool2d(image, side, stride=1, padding=side // 2, count_include_pad=False)


def cell_maps(pixels: NDArray[Any], noise_variance: float = 0.0) -> CellMaps:
    """Measure tissue and sharpness in every cell of an image.

    Parameters
    ----------
    pixels : ndarray, (h, w), uint8 or uint16
        At least one cell of 7 x 7 pixels.
    noise_variance : float
        Variance of the image's white noise, grey values 0..1; it counts as no power of the tissue.

    Returns
    -------
    CellMaps
    """
    image = torch.from_numpy(to_float(pixels))[None, None]
    mean = avg_pool2d(image, TISSUE_CELL_PX)
    deviation = (avg_pool2d(image * image, TISSUE_CELL_PX) - mean * mean).clamp_min(0).sqrt()
    # At the border the mean is one-sided and sees the slope as detail: nothing is measured there.
    inside = torch.zeros_like(image)
    inside[..., 3:-3, 3:-3] = 1
    fine = avg_pool2d((image - local_mean(image, 3)) ** 2 * inside, TISSUE_CELL_PX)

    cells = mean[0, 0].numpy()
    background = float(np.percentile(cells, 99.5))
    tissue = (cells < background - BACKGROUND_MARGIN) | (deviation[0, 0].numpy() > TEXTURE_DEVIATION)
    sample = pixels[:: max(1, pixels.shape[0] // 512), :: max(1, pixels.shape[1] // 512)]
    low_end, high_end = np.percentile(to_float(sample), (0.5, 99.5))
    median = float(np.median(cells[tissue])) if tissue.any() else background
    levels = GreyLevels(background, median, max(float(high_end - low_end), 1e-3))
    low, high = (_without_noise(power, noise_variance) for power in ring_powers(image[0, 0]))
    return CellMaps(tissue.astype(np.float32), fine[0, 0].numpy(), low, high, levels)


def ring_powers(image: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the power of every patch of 64 px, at a step of 32 px, in the two rings of the standard.

    Parameters
    ----------
    image : Tensor, (h, w), float32

    Returns
    -------
    low, high : ndarray, (rows, columns), float32
        Mean power of a Hann-weighted patch at 0.141 and 0.484 cycles/px; empty for an image smaller than one.
    """
    if min(image.shape) < SPECTRUM_PX:
        return np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32)
    hann = torch.hann_window(SPECTRUM_PX, periodic=False)
    taper = torch.outer(hann, hann)
    fy, fx = torch.fft.fftfreq(SPECTRUM_PX)[:, None], torch.fft.rfftfreq(SPECTRUM_PX)[None]
    radius = torch.hypot(fy, fx)
    rings = [(radius - centre).abs() <= 1 / 64 for centre in (LOW_RING, HIGH_RING)]
    lines: tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]] = ([], [])
    for y in range(0, image.shape[0] - SPECTRUM_PX + 1, SPECTRUM_STEP_PX):
        patches = image[y : y + SPECTRUM_PX].unfold(1, SPECTRUM_PX, SPECTRUM_STEP_PX).transpose(0, 1)
        centred = patches - (patches * taper).sum((1, 2), keepdim=True) / taper.sum()
        power = torch.fft.rfft2(centred * taper).abs().square()
        for line, ring in zip(lines, rings, strict=True):
            line.append(power[:, ring].mean(1).numpy())
    return np.stack(lines[0]), np.stack(lines[1])


def _without_noise(power: NDArray[np.float32], variance: float) -> NDArray[np.float32]:
    """Return the power of patches without white noise; none if noise is more than half of it."""
    if not variance:
        return power
    noise = np.float32(variance * (np.hanning(SPECTRUM_PX) ** 2).sum() ** 2)
    return np.where(power > 2 * noise, power - noise, np.float32(0))


def _window_means(cells: NDArray[np.float32], size: int) -> NDArray[np.float64]:
    """Return the mean of every size x size block of cells, by an integral image."""
    sums = np.pad(cells.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    blocks = sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]
    return np.asarray(blocks / size**2)


def _window_falls(maps: CellMaps, shape: tuple[int, ...], patch_px: int) -> NDArray[np.float64]:
    """Return the fall of power, dB, of the windows at cells of a shape, by the patches inside each.

    A window too small for two patches is judged by the patches it touches.
    """
    if not maps.low.size:
        return np.zeros(shape)
    count = max(1, (patch_px - SPECTRUM_PX) // SPECTRUM_STEP_PX)
    count = min(count, *maps.low.shape)
    low, high = (_window_means(power, count) for power in (maps.low, maps.high))
    ratio = 10 * np.log10(np.maximum(low, 1e-12) / np.maximum(high, 1e-12))
    rows, columns = (
        np.minimum(-(-np.arange(n) * TISSUE_CELL_PX // SPECTRUM_STEP_PX), limit - 1)
        for n, limit in zip(shape, ratio.shape, strict=True)
    )
    return np.asarray(ratio[rows[:, None], columns[None]])


def falls_at(maps: CellMaps, origins: NDArray[np.int32], patch_px: int) -> NDArray[np.float64]:
    """Return the fall of power, dB, of the windows at some origins, (n,).

    Parameters
    ----------
    maps : CellMaps
        Of the image.
    origins : ndarray, (n, 2)
        As `window_origins` lists them for windows of `patch_px` pixels.
    patch_px : int
        Side of the windows.
    """
    size = max(1, patch_px // TISSUE_CELL_PX)
    shape = tuple(n - size + 1 for n in maps.tissue.shape)
    rows, columns = (origins // TISSUE_CELL_PX).T
    falls: NDArray[np.float64] = _window_falls(maps, shape, patch_px)[rows, columns]
    return falls


def window_origins(
    maps: CellMaps, shape: tuple[int, int], patch_px: int, rule: WindowRule
) -> NDArray[np.int32]:
    """List the origins of the windows obeying a rule.

    Parameters
    ----------
    maps : CellMaps
        Of the image.
    shape : (int, int)
        Height and width of the image in pixels.
    patch_px : int
        Side of the windows. The rule is applied to the whole cells in a window, so up to 6 pixels at its far
        edges are not looked at.
    rule : WindowRule

    Returns
    -------
    ndarray, (n, 2), int32
        (y, x) of the first pixel, multiples of 7; empty for an image smaller than a window.
    """
    size = max(1, patch_px // TISSUE_CELL_PX)
    if min(shape) < patch_px or min(maps.tissue.shape) < size:
        return np.empty((0, 2), np.int32)
    fine = np.sqrt(np.maximum(_window_means(maps.fine, size), 0))
    good = _window_means(maps.tissue, size) >= rule.tissue - 1e-9
    good &= fine >= rule.contrast * maps.levels.spread
    fall = _window_falls(maps, good.shape, patch_px)
    good &= (fall <= rule.fall_db) & (fall >= rule.flat_db)
    rows, columns = (
        np.arange(n) * TISSUE_CELL_PX + patch_px <= limit for n, limit in zip(good.shape, shape, strict=True)
    )
    good &= rows[:, None] & columns[None, :]
    return (np.argwhere(good) * TISSUE_CELL_PX).astype(np.int32)

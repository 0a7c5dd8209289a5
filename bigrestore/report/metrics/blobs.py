"""Count invented and lost structure: dark blobs of the size of a cell.

The share of invented detail (`detail`) does not tell an invented cell from sharper grain. So blobs are counted:
maxima of the scale-normalised Laplacian of Gaussian, sigma^2 (d2/dy2 + d2/dx2) G, at three scales (Lindeberg,
International Journal of Computer Vision 30, 1998). A Gaussian blob of contrast A answers with A / 2 at its own scale,
a disk is matched by sigma = diameter / (2 sqrt 2).

A blob is supported if the other image answers with the same sign, at the same scale, within two pixels (or one block
mean, if larger), and at least a third as strongly. The strongest blur of the training (sigma 2.5 px) leaves about a
third of a blob of the smallest scale: t0 = 4 becomes 4 + 6.25, and the answer at t0 falls from 1/2 to 4 * 4 * 2 / (4
+ 10.25)^2. So sharpening a blurred blob is no invention; amplifying noise more than three times is one.

Only dark blobs count, because cells are dark on light ground in cell stains; the light gaps between them are the
lobes of the same blobs, and would count each twice. For light cells hand in 1 - image. Rims, fibres and the borders
of layers answer as well, but their answer is a ridge and no peak: a peak curved more than six times as much one way
as the other is dropped (by the criterion of Lowe, International Journal of Computer Vision 60, 2004).

Everything is computed on block means of 2 pixels (more for larger cells), for speed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from bigrestore.core.geometry import Box
from bigrestore.core.pixels import Floats

CELL_UM = (8.0, 20.0)
"""Diameters of the cells that are looked for."""

SMALLEST_SIGMA_PX = 2.0
"""Scale of the smallest blob in pixels: where cells are finer, or the pixel size is unknown, blobs of 2 to 5 px."""

BLOB_SCALES = 3

LEAST_CONTRAST = 6 / 255
"""Contrast of the faintest blob that counts, of 0..1."""

NOISE_SIGMAS = 3.0
"""A blob also stands out of what white noise answers with by this many standard deviations."""

SUPPORT = 1 / 3
"""Answer of the other image, over that of the blob, from which on it is supported."""

SUPPORT_PX = 2.0
"""Distance within which it is looked for."""

MOST_RIDGE = 6.0
"""Ratio of the curvatures of the answer along and across, above which it is a ridge."""

_TRUNCATE = 3.0


@attrs.frozen
class BlobScales:
    """The scales of a search for blobs.

    Attributes
    ----------
    sigmas_px : tuple of float
        Ascending.
    step_px : int
        Side of the block means.
    """

    sigmas_px: tuple[float, ...]
    step_px: int

    @classmethod
    def of_voxel(cls, voxel_um: float | None = None) -> BlobScales:
        """Return the scales of cells for a pixel size; None: it is unknown."""
        finest = CELL_UM[0] / (2 * math.sqrt(2)) / voxel_um if voxel_um else 0.0
        finest = max(SMALLEST_SIGMA_PX, finest)
        span = CELL_UM[1] / CELL_UM[0]
        sigmas = tuple(finest * span ** (index / (BLOB_SCALES - 1)) for index in range(BLOB_SCALES))
        return cls(sigmas, 2 ** int(math.log2(finest)))  # largest power of two up to the finest sigma

    @property
    def blurs(self) -> list[float]:
        """Standard deviations, in steps, of the successive Gaussians.

        Subtracted: the variance of a block mean, (1 - 1 / step^2) / 12, and half of the 1/6 added by the differences
        of the Laplacian along their axis.
        """
        step, done, deviations = self.step_px, 0.0, []
        for sigma in self.sigmas_px:
            variance = (sigma / step) ** 2 - (1 - 1 / step**2) / 12 - 1 / 12
            deviations.append(math.sqrt(variance - done))
            done = variance
        return deviations

    @property
    def reach_px(self) -> int:
        """Pixels on each side needed to find a blob and its support; whole steps."""
        steps = sum(int(_TRUNCATE * blur + 0.5) for blur in self.blurs)
        return (steps + 1 + self.support_steps) * self.step_px

    @property
    def support_steps(self) -> int:
        """Steps on each side searched for support."""
        return max(1, round(SUPPORT_PX / self.step_px))

    def thresholds(self, noise: float, scale: int = 1) -> Floats:
        """Return the smallest answer of a blob, by scale.

        White noise of standard deviation s answers with s / (sqrt(2 pi) sigma); enlarged by `scale` it is
        `scale` times as strong at the same sigma, because its grains are as much larger.

        Parameters
        ----------
        noise : float
            Standard deviation of the noisier image's noise on its own grid, 0..1.
        scale : int
            By how much it was enlarged.
        """
        sigmas = np.asarray(self.sigmas_px)
        grains = NOISE_SIGMAS * noise * scale / (math.sqrt(2 * math.pi) * sigmas)
        return np.maximum(LEAST_CONTRAST / 2, grains).astype(np.float32)


@attrs.frozen(eq=False)
class Blobs:
    """Blobs of one image.

    Attributes
    ----------
    y, x : ndarray of float32, (n,)
        Centres, in pixels of the image; centres of pixels are whole numbers.
    index : ndarray of int, (n,)
        Scale of each.
    strength : ndarray of float32, (n,)
        Answer at its scale: half the contrast of a Gaussian blob, 0..1.
    cells : ndarray of int, (n, 2)
        Row and column in the answers.
    """

    y: Floats
    x: Floats
    index: NDArray[np.int64]
    strength: Floats
    cells: NDArray[np.int64]

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.y.size)

    def chosen(self, which: NDArray[np.bool_]) -> Blobs:
        """Return some of them."""
        return Blobs(self.y[which], self.x[which], self.index[which], self.strength[which], self.cells[which])

    def inside(self, core: Box) -> Blobs:
        """Return the blobs with their centre in a box; its last edges belong to its neighbours."""
        which = (self.y >= core.y0 - 0.5) & (self.y < core.y1 - 0.5)
        which &= (self.x >= core.x0 - 0.5) & (self.x < core.x1 - 0.5)
        return self.chosen(which)


@attrs.frozen
class BlobCount:
    """Blobs found in one image, and those of them without support in another.

    Attributes
    ----------
    found, unsupported : int
        Numbers of blobs.
    pixels : int
        Where they were looked for.
    """

    found: int
    unsupported: int
    pixels: int

    @property
    def share(self) -> float:
        """Share of the blobs without support; NaN without blobs."""
        return self.unsupported / self.found if self.found else math.nan

    @property
    def per_mpx(self) -> float:
        """Unsupported blobs per megapixel."""
        return self.unsupported / self.pixels * 1e6

    def __add__(self, other: BlobCount) -> BlobCount:
        """Return the count over two images."""
        return BlobCount(
            self.found + other.found, self.unsupported + other.unsupported, self.pixels + other.pixels
        )


def answers(image: Floats, scales: BlobScales) -> Floats:
    """Return the scale-normalised Laplacian of Gaussian on the grid of block means, positive at dark blobs.

    Parameters
    ----------
    image : ndarray, (h, w), float32
        Grey values, 0..1; mirrored beyond its border. Rows and columns that fill no whole step are not seen.
    scales : BlobScales
        At which.

    Returns
    -------
    ndarray, (scales, h // step, w // step), float32
    """
    step = scales.step_px
    height, width = image.shape[0] // step, image.shape[1] // step
    cut = image[: height * step, : width * step]
    means = sum((cut[:, at::step] for at in range(1, step)), start=cut[:, ::step])
    means = sum((means[at::step] for at in range(1, step)), start=means[::step]) / np.float32(step**2)
    answered = np.empty((len(scales.sigmas_px), height, width), np.float32)
    smooth = means
    for plane, sigma, blur in zip(answered, scales.sigmas_px, scales.blurs, strict=True):
        for axis in (0, 1):
            smooth = gaussian_filter1d(smooth, blur, axis, mode="reflect", truncate=_TRUNCATE)
        padded = np.pad(smooth, 1, mode="edge")
        np.multiply(smooth, np.float32(-4), out=plane)
        for part in (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]):
            plane += part
        plane *= np.float32((sigma / step) ** 2)
    return answered


def find_blobs(answered: Floats, scales: BlobScales, thresholds: Floats) -> Blobs:
    """Return the blobs of an image: maxima of the answer over scale and position.

    Parameters
    ----------
    answered : ndarray, (scales, h, w)
        From `answers`.
    scales : BlobScales
        The scales.
    thresholds : ndarray, (scales,)
        From `BlobScales.thresholds`.
    """
    ratios = answered[0] / thresholds[0]
    for plane, threshold in zip(answered[1:], thresholds[1:], strict=True):
        np.maximum(ratios, plane / threshold, out=ratios)
    padded = np.pad(ratios, 1, constant_values=-np.inf)
    height, width = ratios.shape
    peak = ratios >= 1
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            if dy or dx:
                other = padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
                # Of two equal neighbours the first one is the blob.
                peak &= ratios > other if (dy, dx) < (0, 0) else ratios >= other
    rows, columns = np.nonzero(peak)
    at_all = answered[:, rows, columns]
    index = np.argmax(at_all / thresholds[:, None], axis=0)
    strength = np.asarray(at_all[index, np.arange(index.size)], np.float32)
    middle = np.float32((scales.step_px - 1) / 2)
    y, x = (axis.astype(np.float32) * scales.step_px + middle for axis in (rows, columns))
    every = Blobs(y, x, index, strength, np.stack([rows, columns], axis=1))
    return every.chosen(~_ridges(answered, index, rows, columns))


def _ridges(
    answered: Floats, index: NDArray[np.int64], rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Mark the peaks on ridges, by trace and determinant of the Hessian of the answer, as Lowe does."""
    height, width = answered.shape[1:]

    def at(dy: int, dx: int) -> Floats:
        y, x = np.clip(rows + dy, 0, height - 1), np.clip(columns + dx, 0, width - 1)
        return np.asarray(answered[index, y, x])

    middle = 2 * at(0, 0)
    yy, xx = at(-1, 0) + at(1, 0) - middle, at(0, -1) + at(0, 1) - middle
    yx = (at(1, 1) + at(-1, -1) - at(1, -1) - at(-1, 1)) / 4
    determinant = yy * xx - yx**2
    return np.asarray((yy + xx) ** 2 * MOST_RIDGE >= (MOST_RIDGE + 1) ** 2 * determinant)


def supported(blobs: Blobs, other: Floats, scales: BlobScales) -> NDArray[np.bool_]:
    """Mark the blobs supported by the other image.

    Parameters
    ----------
    blobs : Blobs
        Of one image.
    other : ndarray, (scales, h, w)
        `answers` of the other one, of the same size.
    scales : BlobScales
        The scales.
    """
    if not blobs.count:
        return np.zeros(0, np.bool_)
    reach = scales.support_steps
    rows, columns = blobs.cells.T
    best = np.full(blobs.count, -np.inf, np.float32)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            y, x = np.clip(rows + dy, 0, other.shape[1] - 1), np.clip(columns + dx, 0, other.shape[2] - 1)
            np.maximum(best, other[blobs.index, y, x], out=best)
    return np.asarray(best >= SUPPORT * blobs.strength)


def pixel_um(voxel_size_um: Sequence[float | None], scale: int = 1) -> float | None:
    """Return the pixel size on a grid `scale` times finer, of the (z, y, x) voxel size: the mean of y and x, or None."""
    _, y, x = voxel_size_um
    return math.sqrt(y * x) / scale if y and x else None


def compare(
    image: Floats,
    other: Floats,
    scales: BlobScales | None = None,
    *,
    noise: float = 0.0,
    scale: int = 1,
) -> tuple[Blobs, NDArray[np.bool_]]:
    """Return the blobs of an image, and mark those supported by another image.

    Parameters
    ----------
    image, other : ndarray, (h, w), float32
        Grey values, 0..1, on one grid.
    scales : BlobScales, optional
        By default those of an unknown pixel size.
    noise : float
        Standard deviation of the noise of the noisier one on its own grid, 0..1.
    scale : int
        By how much that one was enlarged.

    Raises
    ------
    ValueError
        If the two are not of one size.
    """
    if image.shape != other.shape:
        raise ValueError(f"the images have {image.shape} and {other.shape} pixels; blobs need one grid")
    chosen = scales or BlobScales.of_voxel()
    blobs = find_blobs(answers(image, chosen), chosen, chosen.thresholds(noise, scale))
    return blobs, supported(blobs, answers(other, chosen), chosen)


def invented(
    restored: Floats, reference: Floats, scales: BlobScales | None = None, *, noise: float = 0.0
) -> BlobCount:
    """Count the blobs of a restored image, and those without support in the clean one."""
    blobs, kept = compare(restored, reference, scales, noise=noise)
    return BlobCount(blobs.count, int(np.count_nonzero(~kept)), restored.size)


def lost(
    restored: Floats, reference: Floats, scales: BlobScales | None = None, *, noise: float = 0.0
) -> BlobCount:
    """Count the blobs of the clean image, and those without support in the restored one."""
    return invented(reference, restored, scales, noise=noise)

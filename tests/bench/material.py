"""The images of the quality figures and the damage done to them, independent of the package.

A restoration judged by the degradation model that it was trained with is judged by itself. So nothing here
comes from `bigrestore.degrade`: blur is an FFT convolution of SciPy with kernels written down here, JPEG is
Pillow's own encoder, noise is NumPy's generator with a seed made of the case and the image's name.

Every image is blurred whole and then loses a margin, and so does its clean original: the degraded
image has real tissue right up to its border, never an invented continuation.
"""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import attrs
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.signal import fftconvolve

Grey = NDArray[np.uint8]
Kernel = NDArray[np.float64]

MARGIN_PX = 24
"""Pixels cut off every side after blurring: more than the radius of any kernel here."""

SEED = 20


@attrs.frozen(eq=False)
class ValidationImage:
    """A clean 8-bit grey image and its short name."""

    name: str
    pixels: Grey


@attrs.frozen(eq=False)
class Pair:
    """A degraded image, the clean one it came from (cropped alike), and the kernel between them."""

    name: str
    degraded: Grey
    clean: Grey
    kernel: Kernel
    noise_sd: float


@attrs.frozen
class Case:
    """One degradation with a known kernel: blur, area downsampling by `scale`, noise, perhaps JPEG.

    Attributes
    ----------
    key : str
        What `--cases` calls it.
    title : str
        What the table calls it.
    kernel : callable
        Makes the (k, k) kernel on the clean grid; sums to one.
    noise : float
        Standard deviation of the noise in grey levels of 8 bits.
    jpeg : int
        Quality of the JPEG file that the image goes through last; 0: none.
    scale : int
        Area downsampling after the blur.
    """

    key: str
    title: str
    kernel: Callable[[], Kernel]
    noise: float
    jpeg: int = 0
    scale: int = 1

    def apply(self, image: ValidationImage) -> Pair:
        """Return the pair of this image; the same pair on every call and every machine."""
        kernel = self.kernel()
        side = MARGIN_PX
        clean = image.pixels[side:-side, side:-side]
        height, width = (n - n % self.scale for n in clean.shape)
        clean = clean[:height, :width]
        margin = side - kernel.shape[0] // 2
        source = image.pixels[margin : 2 * side + height - margin, margin : 2 * side + width - margin]
        blurred = fftconvolve(source.astype(np.float64), kernel, mode="valid")
        small = blurred.reshape(height // self.scale, self.scale, width // self.scale, self.scale)
        rng = np.random.default_rng([SEED, zlib.crc32(f"{self.key}/{image.name}".encode())])
        noisy = small.mean(axis=(1, 3))
        noisy += rng.normal(0.0, self.noise, noisy.shape)
        degraded = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
        if self.jpeg:
            degraded = through_jpeg(degraded, self.jpeg)
        return Pair(image.name, degraded, np.ascontiguousarray(clean), kernel, self.noise)


def gaussian(sigma_y: float, sigma_x: float, degrees: float = 0.0) -> Kernel:
    """Return a Gaussian with these standard deviations (px), rotated, sampled at pixel centres."""
    radius = int(np.ceil(4 * max(sigma_y, sigma_x)))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float64)
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    along, across = x * cosine + y * sine, y * cosine - x * sine
    kernel = np.exp(-0.5 * ((along / sigma_x) ** 2 + (across / sigma_y) ** 2))
    return kernel / kernel.sum()


def disk(radius_px: float, samples: int = 15) -> Kernel:
    """Return a uniform disk, each pixel the share of its `samples` x `samples` points inside."""
    half = int(np.ceil(radius_px))
    n = (2 * half + 1) * samples
    axis = (np.arange(n) + 0.5) / samples - (half + 0.5)
    inside = (axis[:, None] ** 2 + axis[None, :] ** 2 <= radius_px**2).astype(np.float64)
    kernel = inside.reshape(2 * half + 1, samples, 2 * half + 1, samples).mean(axis=(1, 3))
    return kernel / kernel.sum()


def delta() -> Kernel:
    """Return the kernel that changes nothing."""
    return np.ones((1, 1))


CASES: dict[str, Case] = {
    case.key: case
    for case in (
        Case("a", "(a) Gaussian 1.3, noise 2/255", lambda: gaussian(1.3, 1.3), 2.0),
        Case("b", "(b) defocus disk r 2.2, noise 1/255", lambda: disk(2.2), 1.0),
        Case(
            "c",
            "(c) Gaussian 1.8/0.9 at 30 deg, noise 2/255, JPEG 75",
            lambda: gaussian(0.9, 1.8, 30),
            2.0,
            75,
        ),
        Case("d", "(d) noise 8/255", delta, 8.0),
        Case("x2", "(x2) Gaussian 1.0, area by 2, noise 2/255", lambda: gaussian(1.0, 1.0), 2.0, scale=2),
    )
}


def through_jpeg(image: Grey, quality: int) -> Grey:
    """Return the image as a JPEG file of this quality gives it back."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def sigma_of(kernel: NDArray[np.floating]) -> float:
    """Return the standard deviation (px) of a kernel about its own centre, mean of both axes' variances."""
    weights = np.asarray(kernel, np.float64) / np.sum(kernel, dtype=np.float64)
    variances = []
    for axis in (0, 1):
        profile = weights.sum(axis=1 - axis)
        at = np.arange(profile.size)
        mean = float(profile @ at)
        variances.append(float(profile @ (at - mean) ** 2))
    return float(np.sqrt(np.mean(variances)))


def data_folder() -> Path:
    """Return the folder that BIGRESTORE_DATA names, or stop with the way out."""
    folder = os.environ.get("BIGRESTORE_DATA")
    if not folder:
        raise SystemExit(
            "The quality figures need real images: set BIGRESTORE_DATA to a folder that has val/."
        )
    if not (Path(folder) / "val").is_dir():
        raise SystemExit(f"BIGRESTORE_DATA is {folder}, which has no folder val/ with images in it.")
    return Path(folder)


def validation_images(crop_px: int | None = None) -> list[ValidationImage]:
    """Return the images of val/, prepared: the Nissl files area-downsampled by 4 (`*example1` by 2).

    With `crop_px` only the middle of each is kept, that many pixels a side after the margin is gone.
    """
    found = []
    for path in sorted((data_folder() / "val").glob("*.png")):
        factor = 1
        if path.name.startswith("brain_nissl"):
            factor = 2 if path.stem.endswith("example1") else 4
        pixels = area_downsampled(np.asarray(Image.open(path).convert("L")), factor)
        if crop_px is not None:
            pixels = middle(pixels, crop_px + 2 * MARGIN_PX)
        found.append(ValidationImage(short_name(path.stem), pixels))
    if not found:
        raise SystemExit(f"There is no PNG image in {data_folder() / 'val'}.")
    return found


def short_name(stem: str) -> str:
    """Return a name of a few letters: `brain_nissl_rat__chistotinsa_example1` becomes `nissl example1`."""
    group, _, rest = stem.partition("__")
    words = {
        "brain_nissl_rat": "nissl",
        "brain_section_he_mouse": "he",
        "human_cortex_cellbody_inm1": "cortex",
    }
    return f"{words.get(group, group)} {rest.rsplit('_', 1)[-1]}".strip()


def area_downsampled(image: Grey, factor: int) -> Grey:
    """Return block means, rounded; rows and columns that fill no block are dropped."""
    if factor == 1:
        return image
    height, width = image.shape[0] // factor, image.shape[1] // factor
    blocks = image[: height * factor, : width * factor].reshape(height, factor, width, factor)
    return np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)


def middle(image: Grey, side_px: int) -> Grey:
    """Return the central `side_px` x `side_px` pixels, or what there is of them."""
    tops = [max(0, (n - side_px) // 2) for n in image.shape]
    return image[tops[0] : tops[0] + side_px, tops[1] : tops[1] + side_px]

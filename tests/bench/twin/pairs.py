"""Pairs that are soft the way BigBrain's sections are, made without a line of the package.

A clean image stands for the scan, on a grid twice as fine as the section's. The input is what a pipeline leaves of it:
optics, camera noise and 8 bits on the scan's grid, the mean of 2 x 2 pixels, two linear resamplings along a smooth shift
(registration), 8 bits again. The target goes along the same shift by a fifth-order spline: at x2 it is the moved
scan, at x1 its mean of 2 x 2. So input and target are in register, and between them there is a blur that has no
closed form, no noise but rounding, and no kernel that is the same everywhere.

The seed and the order of the draws are part of the definition: seed 1 gives the same pairs everywhere.
"""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates

from tests.bench.material import ValidationImage, data_folder

Grey = NDArray[np.uint8]
Plane = NDArray[np.float64]

OPTICS_PX = 0.35
"""Sigma of the optics, pixels of the section's grid."""

SCAN_NOISE = 1.2
"""Standard deviation of the noise on the scan's grid, of 255."""

SHIFT_PX = 1.5
"""Amplitude of one wave of the shift, pixels of the section's grid."""

PERIODS_PX = (280.0, 600.0)
"""Shortest and longest period of a wave, pixels of the section's grid."""

WAVES = 2
SEED = 1
BORDER_PX = 24
"""Input pixels left out at every side of a comparison: the shift reaches beyond the scan there."""

CORTEX = "human_cortex*.png"


@attrs.frozen(eq=False)
class TwinPair:
    """An input and its target, both 8-bit grey; the target is `scale` times as large."""

    name: str
    scale: int
    low: Grey
    target: Grey

    def inside(self, image: Grey) -> Grey:
        """Return an image of the target's or of the input's grid without the border."""
        border = BORDER_PX * (image.shape[0] // self.low.shape[0])
        return image[border:-border, border:-border]

    def middle(self, crop_px: int | None) -> TwinPair:
        """Return the central pair that compares `crop_px` x `crop_px` input pixels, or what there is of it."""
        if crop_px is None:
            return self
        side, scale = crop_px + 2 * BORDER_PX, self.scale
        y, x = (max(0, (n - side) // 2) for n in self.low.shape)
        low = self.low[y : y + side, x : x + side]
        target = self.target[scale * y : scale * (y + side), scale * x : scale * (x + side)]
        return attrs.evolve(self, low=low, target=target)


def clean_images() -> list[ValidationImage]:
    """Return the clean images: those of val/twin/, and the human cortex of val/."""
    folder = data_folder() / "val"
    paths = [*sorted((folder / "twin").glob("*.png")), *sorted(folder.glob(CORTEX))]
    if not paths:
        raise SystemExit(f"There is no PNG image in {folder / 'twin'}, and no {CORTEX} in {folder}.")
    return [ValidationImage(title(path.stem), np.asarray(Image.open(path).convert("L"))) for path in paths]


def title(stem: str) -> str:
    """Return a short name: `brain_section_dab_mouse__641_2002_2567_NM01_s104` becomes `mouse s104`."""
    group, _, rest = stem.partition("__")
    if group == "brain_section_dab_mouse":
        return f"mouse {rest.rsplit('_', 1)[-1]}"
    return "human cortex" if group.startswith("human_cortex") else rest.replace("_", " ")


def twin_pairs(scale: int, seed: int = SEED, crop_px: int | None = None) -> list[TwinPair]:
    """Return the pairs of all clean images."""
    return [make_pair(image, scale, seed).middle(crop_px) for image in clean_images()]


def make_pair(image: ValidationImage, scale: int, seed: int = SEED) -> TwinPair:
    """Make the pair of a clean image for a scale of 1 or 2."""
    height, width = (n // 2 for n in image.pixels.shape)
    scan = image.pixels[: 2 * height, : 2 * width] / 255.0
    rng = np.random.default_rng(seed)
    shift = draw_shift(height, width, rng)
    on_scan = np.stack([2 * doubled(gaussian_filter(part, 1)) for part in shift])
    target = resampled(scan, on_scan, order=5)
    if scale == 1:
        target = means_of_four(target)
    blurred = gaussian_filter(scan, 2 * OPTICS_PX)
    noisy = blurred + rng.standard_normal(scan.shape) * SCAN_NOISE / 255
    section = means_of_four(eight_bits(noisy) / 255.0)
    registered = resampled(resampled(section, shift / 2, order=1), shift / 2, order=1)
    return TwinPair(image.name, scale, eight_bits(registered), eight_bits(target))


def draw_shift(height: int, width: int, rng: np.random.Generator) -> Plane:
    """Draw the registration's shift, (2, height, width): two waves along y, then two along x.

    Of each axis the directions are drawn first, then the phases, then the periods.
    """
    y, x = np.arange(height)[:, None], np.arange(width)[None, :]
    shift = np.zeros((2, height, width))
    for axis in range(2):
        directions = rng.uniform(0, 2 * np.pi, WAVES)
        phases = rng.uniform(0, 2 * np.pi, WAVES)
        periods = rng.uniform(*PERIODS_PX, WAVES)
        for direction, phase, period in zip(directions, phases, periods, strict=True):
            along = np.cos(direction) * y + np.sin(direction) * x
            shift[axis] += SHIFT_PX * np.sin(2 * np.pi / period * along + phase)
    return shift


def resampled(image: Plane, shift: Plane, order: int) -> Plane:
    """Return the image at p + shift(p), by splines of an order; beyond the border it is mirrored."""
    places = np.indices(image.shape) + shift
    return np.asarray(map_coordinates(image, places, order=order, mode="reflect"), np.float64)


def doubled(image: Plane) -> Plane:
    """Return every pixel as 2 x 2."""
    return image.repeat(2, axis=0).repeat(2, axis=1)


def means_of_four(image: Plane) -> Plane:
    """Return the means of 2 x 2 pixels of an image with even sides."""
    return (image[0::2, 0::2] + image[0::2, 1::2] + image[1::2, 0::2] + image[1::2, 1::2]) / 4


def eight_bits(image: Plane) -> Grey:
    """Return 0..1 as 8 bits."""
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)

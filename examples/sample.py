"""Make `section.png`, the sample of the README: real tissue, made soft the way BigBrain's sections are.

The image is `skimage.data.immunohistochemistry()`, colonic glands stained by DAB and haematoxylin; scikit-image states
no known copyright restrictions. No shipped model has seen it. It was stored as JPEG, so its blocks and its noise are
taken out first, by non-local means. Then it is blurred, as optics and the averaging of finer pixels blur, and resampled
twice by linear interpolation along a smooth shift, as a registration does. No noise is left. The size of its pixels is
not known.

    python examples/sample.py

writes `section.png` beside this script.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates
from skimage.data import immunohistochemistry
from skimage.restoration import denoise_nl_means

Float = NDArray[np.float64]

SAMPLE = Path(__file__).with_name("section.png")
SIDE_PX = 480
"""Six score tiles of 192 px fill it, the fewest for an interval."""
BLUR_SIGMA_PX = 0.7
SHIFT_PX, SHIFT_PERIOD_PX = 1.5, 110.0


def registered(channel: Float) -> Float:
    """Return a channel moved along a smooth shift, by two linear interpolations of half of it each."""
    grid = np.mgrid[: channel.shape[0], : channel.shape[1]].astype(np.float64)
    rows, columns = grid * (2 * np.pi / SHIFT_PERIOD_PX)
    shift = SHIFT_PX * np.stack([np.sin(rows + 0.5 * columns), np.cos(columns - 0.3 * rows)])
    for _ in range(2):
        channel = map_coordinates(channel, grid + shift / 2, order=1, mode="reflect")
    return channel


def soft_section() -> NDArray[np.uint8]:
    """Return the sample, (480, 480, 3)."""
    clean = denoise_nl_means(
        immunohistochemistry() / 255, patch_size=3, patch_distance=9, h=0.03, sigma=0.02, channel_axis=2
    )
    blurred = gaussian_filter(clean, (BLUR_SIGMA_PX, BLUR_SIGMA_PX, 0), mode="reflect")
    soft = np.stack([registered(channel) for channel in np.moveaxis(blurred, 2, 0)], axis=2)
    first = (soft.shape[0] - SIDE_PX) // 2
    cut = soft[first : first + SIDE_PX, first : first + SIDE_PX]
    return np.clip(np.rint(255 * cut), 0, 255).astype(np.uint8)


def main() -> None:
    """Write the sample."""
    Image.fromarray(soft_section()).save(SAMPLE, optimize=True)
    print(f"{SAMPLE}: {SAMPLE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()

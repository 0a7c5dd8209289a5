"""Computed views of windows must equal the statistics of changed windows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from bigrestore.core.kernels import gaussian
from bigrestore.model.nets.reading import spectrum
from bigrestore.model.nets.reading.estimator import JUDGED, see
from bigrestore.training.data.seen import Truth, turned, with_contrast
from bigrestore.training.data.tilt import FOR_RESTORING, LEAST_FALL_DB, TiltSettings, tilted
from bigrestore.training.data.windows import STANDARD_FALL_DB, ring_powers


def windows(count: int = 4, side: int = 128, exponent: float = 1.0) -> Tensor:
    """Return textures of amplitude frequency to the minus `exponent`, leaning to one side."""
    generator = torch.Generator().manual_seed(3)
    white = torch.fft.rfft2(torch.randn(count, side, side, generator=generator))
    fy, fx = torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)[None]
    gain = (fy**2 + 0.6 * fy * fx + 1.5 * fx**2 + 0.02**2) ** (-exponent / 2)
    image: Tensor = torch.fft.irfft2(white * gain, s=(side, side))
    return 0.6 + 0.08 * (image / image.std())[:, None]


def truth(count: int) -> Truth:
    kernel = torch.from_numpy(gaussian(21, 0.8, 1.6, 0.4)).expand(count, -1, -1)
    scalars = torch.zeros(count, 8)
    scalars[:, 1] = 0.3
    return Truth(kernel, scalars)


@pytest.mark.parametrize("symmetry", range(8))
def test_a_turned_view_is_the_view_of_the_turned_window(symmetry: int) -> None:
    image, known = windows(), truth(4)
    turned_image, kernel = image, known.kernel
    if symmetry & 1:
        turned_image, kernel = turned_image.mT, kernel.mT
    for bit, axis in ((2, 2), (4, 3)):
        if symmetry & bit:
            turned_image, kernel = turned_image.flip(axis), kernel.flip(axis - 1)
    seen, other = turned(see(image)[:, None], known, symmetry)
    apart = (seen[:, 0] - see(turned_image))[:, :JUDGED].abs()
    # The half plane of a real transform holds its corners, and blocks begin at one border: nearly, not to the bit.
    rings = slice(0, (spectrum.SPECTRUM_RINGS - 2) * spectrum.DIRECTIONS)
    assert float(apart[:, rings].max()) < 0.05
    assert float(apart[:, spectrum.SPECTRUM_FEATURES :].max()) < 0.1
    torch.testing.assert_close(other.kernel, kernel)


def test_a_view_of_other_contrast_is_the_view_of_that_window() -> None:
    image = windows()
    seen, other = with_contrast(see(image)[:, None], truth(4), np.random.default_rng(1))
    decades = (other.scalars[:, 1] - 0.3).tolist()
    assert any(abs(d) > 0.01 for d in decades), "some are changed"
    assert any(d == 0 for d in decades), "some are not"
    for index, d in enumerate(decades):
        mean = image[index].mean()
        changed = see((mean + (image[index] - mean) * 10**d)[None])
        torch.testing.assert_close(seen[index, 0, :-16], changed[0, :-16], atol=0.03, rtol=0)


def test_rounding_noise_stays_unchanged() -> None:
    known = truth(64)
    known.scalars[:, 1] = -1.0
    seen = torch.zeros(64, 2, see(windows(1)).shape[1])
    same, other = with_contrast(seen, known, np.random.default_rng(0))
    assert torch.equal(other.scalars, known.scalars)
    assert torch.equal(same, seen)


def falls(images: Tensor) -> Tensor:
    powers = [ring_powers(image[0]) for image in images]
    return torch.tensor([10 * np.log10(low.mean() / high.mean()) for low, high in powers])


def test_slopes_are_spread_over_what_the_standard_allows() -> None:
    made = falls(tilted(windows(24, 160), np.random.default_rng(0), TiltSettings()))
    assert float(made.min()) > LEAST_FALL_DB - 1.5
    assert float(made.max()) < STANDARD_FALL_DB + 1.5
    assert float(made.max() - made.min()) > 6.0


def test_a_set_is_tilted_alike_and_its_mean_stays() -> None:
    image = windows(1, 160).expand(6, -1, -1, -1)
    made = tilted(image, np.random.default_rng(2), TiltSettings(), together=3)
    assert torch.equal(made[0], made[2])
    assert not torch.equal(made[0], made[3])
    torch.testing.assert_close(made.mean((1, 2, 3)), image.mean((1, 2, 3)), atol=2e-3, rtol=0)


def test_a_share_of_the_sets_keeps_its_slope() -> None:
    clean = windows(40, 160)
    for share, least, most in ((0.25, 24, 36), (1.0, 0, 0)):
        made = tilted(clean, np.random.default_rng(0), TiltSettings(share=share))
        kept = torch.isclose(made, clean, atol=1e-4).flatten(1).all(1)
        assert least <= int(kept.sum()) <= most


def test_a_knee_keeps_to_the_standard() -> None:
    image = windows(24, 160, exponent=0.5)
    made = tilted(image, np.random.default_rng(3), TiltSettings(share=0, knee_share=1))
    fell = falls(made) - falls(image)
    assert float(fell.min()) > 1.0
    assert float(falls(made).max()) < STANDARD_FALL_DB + 1.5


def test_what_is_restored_is_never_sharpened() -> None:
    image = windows(24, 160, exponent=0.7)
    made = tilted(image, np.random.default_rng(4), FOR_RESTORING)
    fell = falls(made) - falls(image)
    assert float(fell.min()) > -0.1
    assert 4 < int((fell > 0.5).sum()) < 16

"""The lattice of a JPEG must show in the profile, wherever it begins."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from bigrestore.model.nets.reading.blockiness import PERIOD, STEP_FEATURES, aligned, step_profile


def stored(quality: int, phase: tuple[int, int] = (0, 0)) -> torch.Tensor:
    rng = np.random.default_rng(2)
    coarse = rng.normal(128, 25, (20, 20)).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(coarse).resize((160, 160), Image.Resampling.BICUBIC)
    if quality:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        image = Image.open(file)
    y, x = phase
    pixels = np.asarray(image, np.float32)[y : y + 128, x : x + 128] / 255
    return torch.from_numpy(pixels.copy())[None, None]


@pytest.mark.parametrize("phase", [(0, 0), (3, 5)])
def test_a_lattice_stands_out_at_its_phase(phase: tuple[int, int]) -> None:
    window = stored(30, phase)
    profile = step_profile(window, torch.ones_like(window))
    assert profile.shape == (1, STEP_FEATURES)
    rows, columns = profile[0, :PERIOD], profile[0, PERIOD:]
    assert int(rows.argmax()) == (-phase[0]) % PERIOD
    assert int(columns.argmax()) == (-phase[1]) % PERIOD
    turned = aligned(profile)[0]
    assert float(turned[0]) == float(rows.max())
    assert float(turned[PERIOD]) == float(columns.max())


def test_without_a_jpeg_nothing_stands_out() -> None:
    smooth, blocky = stored(0), stored(30)
    valid = torch.ones_like(smooth)
    assert float(step_profile(smooth, valid).max()) < 0.5 * float(step_profile(blocky, valid).max())


def test_hidden_pixels_do_not_count() -> None:
    window = stored(30)
    valid = torch.ones_like(window)
    valid[..., 50:70, 20:40] = 0
    spoilt = torch.where(valid == 1, window, torch.rand_like(window))
    torch.testing.assert_close(step_profile(window, valid), step_profile(spoilt, valid))

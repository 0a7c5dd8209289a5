"""The JPEG in tensors against a real encoder and decoder."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from bigrestore.degradation.jpeg import jpeg_round_trip, quantisation_table


def tissue() -> np.ndarray:
    data = pytest.importorskip("skimage.data")
    rgb = data.immunohistochemistry()[:256, :256].astype(np.float64)
    return np.round(rgb @ (0.299, 0.587, 0.114)).astype(np.uint8)


def stored(image: np.ndarray, quality: int) -> tuple[np.ndarray, list[int]]:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    with Image.open(io.BytesIO(buffer.getvalue())) as decoded:
        return np.asarray(decoded), list(decoded.quantization[0])


@pytest.mark.parametrize("quality", [40, 49, 50, 63, 75, 90, 95])
def test_within_two_grey_levels_of_a_real_jpeg(quality: int) -> None:
    image = tissue()
    expected, table = stored(image, quality)
    assert sorted(quantisation_table(quality).flatten().int().tolist()) == sorted(table)
    ours = jpeg_round_trip(torch.from_numpy(image)[None].float() / 255, [quality])[0].numpy() * 255
    difference = np.abs(ours - expected)
    blocks = difference.reshape(32, 8, 32, 8).max(axis=(1, 3))
    assert (blocks <= 2.0).mean() >= 0.99, (
        "fixed-point arithmetic tips a coefficient over in a few blocks, not more"
    )
    assert difference.mean() < 0.05
    assert np.abs(expected.astype(float) - image).max() > 2, "the JPEG must do something to compare"


def test_blocks_do_not_know_their_neighbours() -> None:
    image = torch.rand(1, 32, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole = jpeg_round_trip(image, [60])
    part = jpeg_round_trip(image[:, 8:24, 16:40].contiguous(), [60])
    assert torch.equal(part, whole[:, 8:24, 16:40])


def test_each_image_of_a_batch_has_its_own_quality() -> None:
    image = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(0))
    both = jpeg_round_trip(image.repeat(2, 1, 1), [30, 95])
    assert torch.equal(both[:1], jpeg_round_trip(image, [30]))
    assert torch.equal(both[1:], jpeg_round_trip(image, [95]))

"""Wiener's filter undoes a blur it is told, the median takes dust, and windows sum to one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from bigrestore.errors import UsageError
from bigrestore.model.method import TileBatch
from bigrestore.model.methods.linear import MedianMethod
from bigrestore.model.methods.windows import WindowLattice, by_windows
from bigrestore.model.registry import create_method
from bigrestore.settings import RunSettings

ORIGIN = np.zeros((1, 2), np.int64)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(np.square((a - b)[32:-32, 32:-32]).mean()))


@pytest.mark.parametrize(("sigma", "noise", "gain"), [(1.0, 0.5, 4.0), (1.3, 2.0, 2.0), (0.7, 1.0, 2.0)])
def test_wiener_told_the_blur_gains(tissue: np.ndarray, sigma: float, noise: float, gain: float) -> None:
    clean = tissue[:256, :256]
    grain = np.random.default_rng(0).normal(0, noise / 255, clean.shape)
    given = (gaussian_filter(clean, sigma) + grain).astype(np.float32)
    method = create_method(RunSettings(method="wiener", blur=(sigma, sigma, 0.0), noise=noise))
    statistics = method.analyse(np.stack([given[:128, :128], given[128:, 128:]]))
    made = method.restore(TileBatch(given[None], None, ORIGIN, 0), statistics).pixels[0]
    assert psnr(made, clean) > psnr(given, clean) + gain


def test_a_bolder_filter_sharpens_more(tissue: np.ndarray) -> None:
    given = gaussian_filter(tissue[:192, :192], 1.0)
    changes = []
    for boldness in (0.1, 1.0, 10.0):
        settings = RunSettings(
            method="wiener", blur=(1.0, 1.0, 0.0), noise=2.0, options={"boldness": boldness}
        )
        method = create_method(settings)
        statistics = method.analyse(given[None, :128, :128])
        made = method.restore(TileBatch(given[None], None, ORIGIN, 0), statistics).pixels[0]
        changes.append(float(np.abs(made - given).mean()))
    assert changes[0] > changes[1] > changes[2]


@pytest.mark.parametrize("side", [3, 5])
def test_the_median_takes_dust_and_leaves_an_edge(side: int) -> None:
    clean = np.zeros((1, 40, 40), np.float32)
    clean[:, :, 20:] = 0.8
    dusty = clean.copy()
    dusty[0, 5::10, 5::10] = 1.0
    method = MedianMethod(side)
    made = method.restore(TileBatch(dusty, None, ORIGIN, 0), method.analyse(dusty)).pixels
    np.testing.assert_array_equal(made, clean)


@pytest.mark.parametrize("scale", [2, 4])
def test_the_median_does_not_enlarge(scale: int) -> None:
    with pytest.raises(UsageError, match=rf"--scale is {scale}, and --method median restores at 1"):
        create_method(RunSettings(method="median", scale=scale))


@pytest.mark.parametrize("lattice", [WindowLattice(64, 48), WindowLattice(64, 64), WindowLattice(32, 24)])
@pytest.mark.parametrize("scale", [1, 2])
def test_windows_of_what_they_are_given_make_the_image_again(lattice: WindowLattice, scale: int) -> None:
    image = torch.rand(2, 1, 4 * lattice.step_px, 2 * lattice.step_px)

    def enlarged(window: Tensor, y: int, x: int) -> Tensor:
        assert window.shape[-2:] == (lattice.side_px, lattice.side_px)
        assert y % lattice.step_px == x % lattice.step_px == 0
        return window.repeat_interleave(scale, 2).repeat_interleave(scale, 3)

    made = by_windows(image, lattice, scale, enlarged)
    wanted = image.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    torch.testing.assert_close(made, wanted)


def test_a_window_fades_into_the_next_without_a_step() -> None:
    numbers = iter([0.0, 1.0])
    made = by_windows(
        torch.zeros(1, 1, 48, 96),
        WindowLattice(64, 48),
        1,
        lambda window, y, x: torch.full_like(window, next(numbers)),
    )
    row = made[0, 0, 0]
    assert float(row[:48].abs().max()) == 0
    assert bool((row[64:] == 1).all())
    assert float(row.diff().abs().max()) <= 1 / 16 + 1e-6

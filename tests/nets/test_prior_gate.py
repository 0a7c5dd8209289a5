"""Realness lowers itself: out of focus, without structure, on damage, and nowhere else; a tile as the whole."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from bigrestore.core.kernels import delta, fold_downsampling, gaussian
from bigrestore.model.nets import prior_gate as module
from bigrestore.model.nets.prior_gate import (
    GATE_REACH_PX,
    band_filters,
    expected_ratios,
    likeness,
    prior_gate,
)

NOISE = 2 / 255


def texture(side: int, seed: int = 0) -> np.ndarray:
    """Draw an image with the power spectrum of tissue, standard deviation 0.1."""
    frequency = np.fft.fftfreq(side)
    squared = frequency[:, None] ** 2 + frequency[None] ** 2
    white = np.fft.fft2(np.random.default_rng(seed).normal(size=(side, side)))
    drawn = np.fft.ifft2(white * (squared + 0.02**2) ** -0.65).real
    return np.asarray(0.5 + 0.1 * drawn / drawn.std())


def noisy(image: np.ndarray, sigma: float = NOISE, seed: int = 1) -> Tensor:
    noise = np.random.default_rng(seed).normal(0, sigma, image.shape)
    return torch.from_numpy((image + noise).astype(np.float32))[None, None]


def factor(x: Tensor, blur: float, valid: Tensor | None = None, read_noise: float = NOISE) -> np.ndarray:
    kernel = torch.from_numpy(gaussian(21, blur) if blur else delta(21))
    valid = torch.ones_like(x) if valid is None else valid
    return prior_gate(x, valid, kernel, 0.0, read_noise, 1)[0, 0].numpy()


@pytest.mark.parametrize("blur", [0.0, 1.0, 1.5])
def test_out_of_focus_is_told_from_in_focus(blur: float) -> None:
    sharp = gaussian_filter(texture(512), blur) if blur else texture(512)
    half = sharp.copy()
    half[:, 256:] = gaussian_filter(sharp, 3)[:, 256:]
    gate = factor(noisy(half), blur)
    assert np.quantile(gate[:, :220], 0.01) > 0.7
    assert np.median(gate[:, 300:]) < 0.1
    assert gate[:, 300:].mean() < 0.2


@pytest.mark.parametrize(("blur", "levels"), [(1.0, 2), (1.0, 4), (1.0, 8), (1.5, 4), (1.5, 8)])
def test_the_more_out_of_focus_the_less_whatever_the_noise(blur: float, levels: float) -> None:
    """Noise hides the fine energy of a strong blur: no sign of focus."""
    sharp, noise = gaussian_filter(texture(384), blur), levels / 255
    means = [
        float(factor(noisy(gaussian_filter(sharp, further), noise), blur, read_noise=noise).mean())
        for further in (0, 1.0, 1.5, 2, 3, 5)
    ]
    assert all(after < before + 0.02 for before, after in pairwise(means[:-1]))
    assert means[0] > 0.75
    assert max(means[-2:]) < 0.3


@pytest.mark.parametrize("sigma", [0.0, 1 / 255, 6 / 255])
def test_where_there_is_only_noise_there_is_nothing_to_be_real_about(sigma: float) -> None:
    gate = factor(noisy(np.full((256, 256), 0.8), sigma), 1.3, read_noise=sigma)
    assert gate.max() < 0.2


def test_heavy_noise_alone_does_not_mean_out_of_focus() -> None:
    sharp = gaussian_filter(texture(384), 1.5)
    heavy = 6 / 255
    assert factor(noisy(sharp, heavy), 1.5, read_noise=heavy).mean() > 0.8


def test_damage_gets_nothing_around_it_little_and_is_not_looked_at() -> None:
    sharp = texture(256)
    valid = torch.ones(1, 1, 256, 256)
    valid[..., 100:117, 90:150] = 0
    x = noisy(sharp)
    spoilt = torch.where(valid == 1, x, torch.ones_like(x))
    gate = factor(x, 0.0, valid)
    assert not gate[100:117, 90:150].any()
    assert gate[:80].min() > 0.7
    along = gate[117:140, 120]
    assert (np.diff(along[:10]) > -1e-6).all(), "it rises over a few pixels"
    assert 0 < along[2] < 0.6
    np.testing.assert_allclose(gate, factor(spoilt, 0.0, valid), atol=1e-5)
    assert not factor(x, 0.0, torch.zeros_like(valid)).any()


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("damaged", [False, True])
def test_nothing_beyond_the_reach_is_seen(scale: int, damaged: bool) -> None:
    kernel = torch.from_numpy(fold_downsampling(gaussian(21, 1.0), "area", scale) if scale > 1 else delta(21))
    x, other = noisy(texture(320)), noisy(texture(320, seed=5))
    valid = torch.ones_like(x)
    if damaged:
        valid[..., 150:155, 100:250] = 0
    core = slice(144, 176)
    window = slice(144 - GATE_REACH_PX, 176 + GATE_REACH_PX)
    other[..., window, window] = x[..., window, window]
    one, two = (
        prior_gate(image, valid, kernel, 1e-4, NOISE, scale)[
            ..., core.start * scale : core.stop * scale, core.start * scale : core.stop * scale
        ]
        for image in (x, other)
    )
    assert one.shape == (1, 1, 32 * scale, 32 * scale)
    torch.testing.assert_close(one, two, atol=1e-6, rtol=0)
    assert float(one.max()) > 0


def test_the_expected_ratio_is_that_of_a_blurred_spectrum() -> None:
    sigmas, ratios = expected_ratios(torch.from_numpy(gaussian(21, 1.0)), 1)
    assert bool((ratios.diff() < 0).all())
    further = float(sigmas[16])
    bands = [band[None, None] for band in band_filters()]
    images = [gaussian_filter(texture(512, seed), 1.0, mode="wrap") for seed in range(4)]
    blurred = [gaussian_filter(image, further, mode="wrap") for image in images]
    x = torch.from_numpy(np.stack(blurred).astype(np.float32))[:, None]
    energy = [float(torch.nn.functional.conv2d(x, band).square().mean()) for band in bands]
    assert energy[0] / energy[1] == pytest.approx(float(ratios[16]), rel=0.2)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_a_section_blurred_beyond_the_training_is_trusted_less(scale: int) -> None:
    seen = module.SEEN_SIGMA_PX[scale]
    assert likeness(0.9 * seen, scale) == 1.0
    assert 0.2 < likeness(1.2 * seen, scale) < 0.5
    assert likeness(1.6 * seen, scale) < 0.01

"""The fit gives back the kernel, the noise and the JPEG of pairs that were made with known ones."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter, median_filter

from bigrestore.core.kernels import (
    Kernel,
    defocus,
    delta,
    equivalent_sigma,
    fold_downsampling,
    gaussian,
    kernel_size,
    motion,
)
from bigrestore.degradation.degradation import Degradation, Storage
from bigrestore.degradation.section import SectionDegrader
from bigrestore.training.fitting.fit import fit_one, fit_windows
from bigrestore.training.fitting.jpeg_lattice import find_jpeg
from bigrestore.training.fitting.noise_law import without_waves
from bigrestore.training.fitting.real_pairs import RealWindow
from bigrestore.training.fitting.report import fit_lines, fit_rows
from tests.bench import beyond
from tests.fitting.made_pairs import degraded_image, made_window, tissue_image

KERNELS = {
    "gaussian": gaussian(21, 1.6),
    "slanted": gaussian(21, 2.2, 1.0, 0.6),
    "disk": defocus(21, 2.8),
    "motion": motion(21, 7.0, 0.5),
    "none": delta(21),
}


def halo() -> Kernel:
    """Return a Gaussian with the negative rim of a sharpening scanner."""
    kernel = 1.8 * gaussian(21, 1.0).astype(np.float64) - 0.8 * gaussian(21, 2.2)
    return kernel.astype(np.float32)


@pytest.mark.parametrize(("read", "most"), [(0.0, 0.12), (2 / 255, 0.3)])
@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_is_found(name: str, read: float, most: float) -> None:
    fit = fit_one(made_window(KERNELS[name], read=read), 1)
    assert float(np.abs(fit.kernel - KERNELS[name]).sum()) < most
    assert fit.sigma_px == pytest.approx(equivalent_sigma(KERNELS[name]), abs=0.25)
    assert fit.grey == pytest.approx((1.0, 0.0), abs=0.02)


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("sigma_px", [0.0, 1.5, 2.5])
def test_a_kernel_is_found_at_larger_scales(scale: int, sigma_px: float) -> None:
    size = kernel_size(scale)
    kernel = fold_downsampling(gaussian(size, sigma_px) if sigma_px else delta(size), "area", scale)
    fit = fit_one(made_window(kernel, scale, side=112, read=1 / 255), scale)
    assert fit.kernel.shape == (size, size)
    assert fit.sigma_px == pytest.approx(equivalent_sigma(kernel), abs=0.2)
    assert float(np.abs(fit.kernel - kernel).sum()) < (0.12 if scale == 2 else 0.4)


def test_a_halo_is_found_as_negative_taps() -> None:
    fit = fit_one(made_window(halo(), read=1 / 255), 1)
    wanted = float(halo()[halo() < 0].sum())
    assert float(fit.kernel[fit.kernel < 0].sum()) == pytest.approx(wanted, rel=0.35)


@pytest.mark.parametrize(
    ("gain", "read"), [(0.0, 1 / 255), (0.0, 5 / 255), (1e-3, 0.5 / 255), (3e-4, 3 / 255)]
)
def test_a_law_of_noise_is_found(gain: float, read: float) -> None:
    fit = fit_one(made_window(KERNELS["gaussian"], side=224, gain=gain, read=read), 1)
    for grey in (0.45, 0.8):
        wanted = np.sqrt(gain * grey + read**2)
        assert np.sqrt(fit.noise.gain * grey + fit.noise.read**2) == pytest.approx(wanted, rel=0.12)
    assert fit.noise.correlated_share < 0.1


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_smooth_noise_is_told_from_white(share: float) -> None:
    from torch import Generator, randn

    from bigrestore.degradation.steps import noise_field, smooth_noise

    clean, generator = tissue_image(224, 224), Generator().manual_seed(0)
    field = noise_field(
        randn(224, 224, generator=generator), smooth_noise(randn(228, 228, generator=generator)), share
    )
    window = RealWindow.unmoved((clean + 0.015 * field.numpy()).astype(np.float32), clean)
    noise = fit_one(window, 1).noise
    assert noise.correlated_share == pytest.approx(share, abs=0.15)
    assert not window.eight_bits


def test_no_noise_is_found_where_there_is_none() -> None:
    assert fit_one(made_window(None), 1).noise.read == 0


@pytest.mark.parametrize(("gain", "offset"), [(0.8, 0.1), (1.15, -0.1), (0.6, 0.05)])
def test_a_grey_curve_is_recorded_and_is_no_blur(gain: float, offset: float) -> None:
    window = made_window(KERNELS["gaussian"])
    changed = RealWindow.unmoved((gain * window.degraded + offset).astype(np.float32), window.clean)
    fit = fit_one(changed, 1)
    assert fit.grey == pytest.approx((gain, offset), abs=0.01)
    assert float(fit.kernel.sum()) == pytest.approx(1.0, abs=1e-5)
    assert float(np.abs(fit.kernel - KERNELS["gaussian"]).sum()) < 0.12


def through_file(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(np.rint(image * 255).astype(np.uint8)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)).astype(np.float32) / 255


@pytest.mark.parametrize(("quality", "top", "left"), [(50, 0, 0), (75, 3, 5), (88, 6, 1)])
def test_a_jpeg_lattice_is_told_from_none(quality: int, top: int, left: int) -> None:
    image = degraded_image(tissue_image(200, 200), gaussian(21, 0.8), 1, read=2 / 255)
    found = find_jpeg(through_file(image, quality)[top:, left:])
    assert found is not None
    assert (found.quality, found.phase) == (quality, (top, left))
    assert find_jpeg(image) is None


@pytest.mark.parametrize("sigma_px", [0.0, 2.5])
@pytest.mark.parametrize("noise", [0.0, 6 / 255])
def test_blur_and_noise_alone_look_like_no_jpeg(sigma_px: float, noise: float) -> None:
    soft = gaussian_filter(tissue_image(160, 160, 5), sigma_px) if sigma_px else tissue_image(160, 160, 5)
    rough = soft + np.random.default_rng(0).normal(0, noise, soft.shape)
    assert find_jpeg((np.rint(np.clip(rough, 0, 1) * 255) / 255).astype(np.float32)) is None


@pytest.mark.parametrize("quality", [40, 60])
def test_a_jpeg_is_no_blur(quality: int) -> None:
    clean = tissue_image(176, 176)
    window = RealWindow.unmoved(through_file(degraded_image(clean, gaussian(21, 0.9), 1), quality), clean)
    fit = fit_one(window, 1)
    assert fit.jpeg is not None
    assert abs(fit.jpeg.quality - quality) <= 1
    assert fit.sigma_px == pytest.approx(0.9, abs=0.2)
    assert fit.noise.contrast_gain == 0, "what the JPEG explains is no noise"


def through_jpeg2000(image: np.ndarray, ratio: float) -> np.ndarray:
    return beyond.through_jpeg2000(np.rint(image * 255).astype(np.uint8), ratio).astype(np.float32) / 255


def cells_of_another_depth(image: np.ndarray) -> np.ndarray:
    other = gaussian_filter(tissue_image(*image.shape, seed=9), 1.0)
    return np.asarray(image + 0.15 * (other - gaussian_filter(other, 4.0)), np.float32)


UNEXPLAINED = {
    "jpeg2000": lambda image: through_jpeg2000(image, 8),
    "jpeg2000, much": lambda image: through_jpeg2000(image, 25),
    "unsharp edges": lambda image: image + 0.5 * np.maximum(image - gaussian_filter(image, 1.5), 0),
    "median": lambda image: median_filter(image, 3),
    "another depth": cells_of_another_depth,
}


@pytest.mark.parametrize("name", UNEXPLAINED)
def test_what_nothing_explains_is_drawn_as_strong_as_it_is(name: str) -> None:
    """A restorer trained on pairs of blur alone would take it for detail."""
    clean = tissue_image(176, 176)
    image = UNEXPLAINED[name](degraded_image(clean, gaussian(21, 0.9), 1))
    fit = fit_one(RealWindow.unmoved(np.clip(image, 0, 1).astype(np.float32), clean), 1)
    assert fit.noise.contrast_gain > 0.05
    drawn = Degradation(1, fit.kernel, noise=fit.noise, storage=Storage(8))
    made = SectionDegrader(drawn, *clean.shape, seed=1)._degrade(torch.from_numpy(clean), 0, 0, 0).numpy()
    left = float(without_waves(made, fit.expected).std())
    assert left == pytest.approx(fit.residual, rel=0.25)


@pytest.mark.parametrize("name", [*KERNELS, "halo"])
@pytest.mark.parametrize("read", [0.0, 3 / 255])
def test_nothing_is_left_of_blur_and_noise(name: str, read: float) -> None:
    fit = fit_one(made_window(KERNELS.get(name, halo()), read=read), 1)
    assert fit.noise.contrast_gain < 0.02, "the halo's overshoot is clipped here and there"


def test_one_process_shares_a_kernel_and_several_do_not() -> None:
    alike = [made_window(gaussian(21, 1.5), seed=seed, side=112, read=2 / 255) for seed in range(4)]
    several = [
        made_window(gaussian(21, sigma), seed=3, side=112, read=2 / 255) for sigma in (0.6, 1.4, 2.2, 3.0)
    ]
    one, many = fit_windows(alike, 1), fit_windows(several, 1)
    assert one.shared
    assert np.ptp([fit.sigma_px for fit in one.fits]) == 0
    assert not many.shared
    assert [fit.sigma_px for fit in many.fits] == pytest.approx([0.6, 1.4, 2.2, 3.0], abs=0.25)


def test_a_fit_is_the_same_every_time_and_can_be_read() -> None:
    windows = [made_window(gaussian(21, 1.45), seed=seed, side=112, read=2 / 255) for seed in range(2)]
    first, second = ([fit.facts() for fit in fit_windows(windows, 1).fits] for _ in range(2))
    assert first == second
    rows = dict(fit_rows(first, shared=True, scale=1))
    assert rows["kernel"].startswith("one for all windows, sigma 1.4")
    assert rows["JPEG"] == "none found"
    assert "negative taps" not in rows
    assert "drawn as" not in rows["unexplained"]
    more = [fact | {"contrast_gain": 0.5, "residual_255": 8.0} for fact in first]
    told = dict(fit_rows(more, shared=True, scale=1))["unexplained"]
    assert "drawn as noise of 0.50 of the contrast around a pixel, " in told
    assert told.endswith("% of it smooth")
    lines = fit_lines(first, shared=True, scale=1)
    assert sum(line.startswith("| ") for line in lines) == 2 + len(rows) + len(first)

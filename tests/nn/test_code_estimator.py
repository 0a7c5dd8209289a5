"""The degradation code and its estimator: what goes in comes back, and bad windows count less."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bigrestore.degrade.kernels import gaussian
from bigrestore.nn import code
from bigrestore.nn.code import Degradations, KernelBasis, compose_psi
from bigrestore.nn.estimator import DegradationEstimator, Estimate, degradations_of, section_mean


@given(st.floats(2e-6, 9e-3), st.floats(1.2e-3, 0.09))
def test_noise_codes_come_back(gain: float, read: float) -> None:
    assert float(code.code_to_gain(code.gain_to_code(torch.tensor(gain)))) == pytest.approx(gain, rel=1e-3)
    assert float(code.code_to_read(code.read_to_code(torch.tensor(read)))) == pytest.approx(read, rel=1e-3)


def test_no_noise_is_no_noise() -> None:
    zero = torch.zeros(1)
    assert float(code.code_to_gain(code.gain_to_code(zero))) == 0
    assert float(code.code_to_read(code.read_to_code(zero))) == 0
    assert float(code.jpeg_to_code(zero)) == 0


@pytest.fixture(scope="module")
def basis() -> KernelBasis:
    basis = KernelBasis(1)
    rng = np.random.default_rng(0)
    sigmas = rng.uniform(0.5, 2.5, (400, 2))
    kernels = np.stack(
        [gaussian(21, a, b, c) for (a, b), c in zip(sigmas, rng.uniform(0, 3, 400), strict=True)]
    )
    basis.fit(torch.from_numpy(kernels))
    return basis


def test_the_basis_whitens_and_tells_kernels_apart(basis: KernelBasis) -> None:
    narrow, wide = (torch.from_numpy(gaussian(21, s))[None] for s in (0.8, 2.0))
    rebuilt = basis.mean + (basis.encode(wide) * basis.spread) @ basis.components
    assert float((rebuilt.view(21, 21) - wide[0]).abs().max()) < 0.01
    assert float((basis.encode(narrow) - basis.encode(wide)).abs().max()) > 0.5


def test_psi_holds_each_number_at_its_place(basis: KernelBasis) -> None:
    kernel = torch.from_numpy(gaussian(21, 1.0))[None]
    n = torch.ones(1)
    known = Degradations(kernel, 1e-3 * n, 0.02 * n, 70 * n, 0.02 * n, 0.2 * n, n, n, 2 * n)
    psi = compose_psi(basis, known, 2)[0]
    assert psi.shape == (24,)
    assert psi[12:16].tolist() == pytest.approx([0.5, 0.5, 0.5, 1.0])
    assert psi[16:21].tolist() == [0, 1, 0, 1, 0.5]
    assert psi[21:].tolist() == [0, 0, 0]


@pytest.mark.parametrize(("scale", "size"), [(1, 21), (2, 21), (4, 41)])
def test_kernels_are_non_negative_and_sum_to_one(scale: int, size: int) -> None:
    torch.manual_seed(0)
    estimate = DegradationEstimator(scale)(torch.rand(3, 1, 128, 128))
    assert estimate.kernel.shape == (3, size, size)
    assert bool((estimate.kernel >= 0).all())
    torch.testing.assert_close(estimate.kernel.sum((1, 2)), torch.ones(3))


def test_masked_pixels_do_not_reach_the_estimate() -> None:
    torch.manual_seed(0)
    estimator = DegradationEstimator(1)
    window, valid = torch.rand(1, 1, 128, 128), torch.ones(1, 1, 128, 128)
    valid[..., :40] = 0
    other = torch.where(valid == 1, window, torch.zeros_like(window))
    torch.testing.assert_close(estimator(window, valid).scalars, estimator(other, valid).scalars)


def _windows(count: int, basis: KernelBasis) -> Estimate:
    kernels = torch.from_numpy(np.stack([gaussian(21, 1.5)] * count))
    return Estimate(torch.log(kernels + 1e-12), torch.full((count, 8), 0.3), torch.zeros(count, 18))


def test_section_mean_of_equal_windows_is_that_window(basis: KernelBasis) -> None:
    mean = section_mean(_windows(20, basis), basis)
    torch.testing.assert_close(mean.kernel[0], torch.from_numpy(gaussian(21, 1.5)), atol=1e-6, rtol=0)
    torch.testing.assert_close(mean.scalars, torch.full((1, 8), 0.3))


def test_section_mean_drops_outliers_and_trusts_the_certain(basis: KernelBasis) -> None:
    estimate = _windows(20, basis)
    scalars = estimate.scalars.clone()
    scalars[:2] = 50.0
    log_kernel = estimate.log_kernel.clone()
    log_kernel[:2] = torch.log(torch.from_numpy(gaussian(21, 0.4)) + 1e-12)
    mean = section_mean(Estimate(log_kernel, scalars, estimate.log_variance), basis)
    assert float(mean.scalars.max()) == pytest.approx(0.3)
    torch.testing.assert_close(mean.kernel[0], torch.from_numpy(gaussian(21, 1.5)), atol=1e-5, rtol=0)

    variance = torch.zeros(4, 18)
    variance[2:, 10:] = 8.0
    halves = Estimate(
        estimate.log_kernel[:4], torch.tensor([0.2, 0.2, 0.8, 0.8])[:, None].expand(4, 8), variance
    )
    assert float(section_mean(halves, basis).scalars[0, 0]) == pytest.approx(0.2, abs=0.01)


def test_one_window_is_enough(basis: KernelBasis) -> None:
    known = degradations_of(section_mean(_windows(1, basis), basis))
    assert float(known.kernel.sum()) == pytest.approx(1, abs=1e-5)

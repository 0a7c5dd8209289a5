"""The degradation code and its estimator: round trips, and bad windows count less."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bigrestore.core.kernels import gaussian
from bigrestore.degradation.degradation import nothing
from bigrestore.model.nets import code
from bigrestore.model.nets.code import Degradations, KernelBasis, compose_psi
from bigrestore.model.nets.reading.estimator import (
    DegradationEstimate,
    DegradationEstimator,
    degradations_of,
    estimate_section,
    see,
    see_negative,
)
from bigrestore.model.nets.reading.kernel_family import LEAST_SIGMA_PX


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


@pytest.fixture(scope="module")
def estimator() -> DegradationEstimator:
    torch.manual_seed(0)
    estimator = DegradationEstimator()
    for layer in (estimator.weight, estimator.judge[-1]):  # they begin at zero
        torch.nn.init.normal_(layer.weight, std=0.1)
    estimator.fit_inputs(see(textures(32)))
    return estimator.eval()


def textures(count: int, side: int = 128, seed: int = 0) -> torch.Tensor:
    """Return windows of smoothed noise, each smoothed and scaled otherwise."""
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(count, 1, side, side, generator=generator)
    soft = torch.nn.functional.avg_pool2d(white, 3, 1, 1)
    share = torch.rand(count, 1, 1, 1, generator=generator)
    return (0.5 + 0.1 * (share * white + (1 - share) * soft)).clamp(0, 1)


@pytest.mark.parametrize(("scale", "size"), [(1, 21), (2, 21), (4, 41)])
def test_kernels_are_centred_non_negative_and_sum_to_one(
    scale: int, size: int, estimator: DegradationEstimator
) -> None:
    with torch.no_grad():
        kernel = estimator(textures(6)).kernel(scale)
    assert kernel.shape == (6, size, size)
    assert bool((kernel >= 0).all())
    torch.testing.assert_close(kernel.sum((1, 2)), torch.ones(6))
    at = torch.arange(size, dtype=torch.float32) - size // 2
    for profile in (kernel.sum(2), kernel.sum(1)):
        torch.testing.assert_close(
            profile @ at, torch.full((6,), (scale - 1) / 2 - (scale - 1) // 2), atol=1e-3, rtol=0
        )


def test_a_sharp_section_is_only_averaged_at_larger_scales() -> None:
    sharp = DegradationEstimate(
        *(torch.tensor([value]) for value in (LEAST_SIGMA_PX, 0.05)),
        torch.zeros(1, 2),
        torch.ones(1),
        torch.zeros(1, 8),
    )
    for scale in (1, 2, 4):
        kernel = sharp.kernel(scale)[0]
        expected = nothing(scale).kernel
        np.testing.assert_allclose(kernel.numpy(), expected, atol=1e-6)


def test_masked_pixels_do_not_reach_the_estimate(estimator: DegradationEstimator) -> None:
    window, valid = textures(1), torch.ones(1, 1, 128, 128)
    valid[..., :40] = 0
    other = torch.where(valid == 1, window, torch.zeros_like(window))
    torch.testing.assert_close(estimator(window, valid).scalars, estimator(other, valid).scalars)


def test_a_set_is_judged_whatever_the_order_of_its_windows(estimator: DegradationEstimator) -> None:
    windows = textures(6)
    forth, back = estimator(windows, together=6), estimator(windows.flip(0), together=6)
    torch.testing.assert_close(forth.sigma, back.sigma)
    torch.testing.assert_close(forth.scalars, back.scalars)
    assert len(forth.scalars) == 1


def test_sets_do_not_see_each_other(estimator: DegradationEstimator) -> None:
    windows = textures(6, 96)
    both = estimator(windows, together=3)
    torch.testing.assert_close(estimator(windows[3:], together=3).scalars, both.scalars[1:])
    alone = estimator(windows[:1]).scalars
    torch.testing.assert_close(estimator(windows).scalars[:1], alone)


def test_windows_unlike_the_section_are_left_out(estimator: DegradationEstimator) -> None:
    windows = textures(20, 96)[:1] + 0.02 * torch.randn(
        20, 1, 96, 96, generator=torch.Generator().manual_seed(5)
    )
    with torch.no_grad():
        seen = see(windows)
        spoilt = seen.clone()
        spoilt[[3, 11]] *= 3
        clean = estimate_section(estimator, seen)
        kept = estimate_section(estimator, spoilt)
        taken = estimator.merge(spoilt[None])
    error, worse = ((one.scalars - clean.scalars).abs().max() for one in (kept, taken))
    assert float(error) < 0.3 * float(worse)


def test_one_window_is_enough(estimator: DegradationEstimator) -> None:
    with torch.no_grad():
        known = degradations_of(estimate_section(estimator, see(textures(1))), 1)
    assert float(known.kernel.sum()) == pytest.approx(1, abs=1e-5)


def test_statistics_of_a_negative_need_no_look_at_it() -> None:
    windows = (1.4 * textures(6, 96) - 0.2).clamp(0, 1)  # some of it black, some white
    valid = torch.ones_like(windows)
    valid[2, :, 20:40] = 0
    torch.testing.assert_close(
        see_negative(see(windows, valid)), see(1 - windows, valid), atol=2e-3, rtol=2e-3
    )
    assert not torch.equal(see_negative(see(windows)), see(windows))

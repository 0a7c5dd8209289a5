"""Rational interpolation: properties for any shape map, any image and any scale."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bigrestore.core.interpolation import AUTO_GAIN, catmull_rom, rational, rational_auto

SIDE = 11
seeds = st.integers(0, 2**31)
scales = st.one_of(st.integers(2, 6), st.floats(1.01, 6.5))
spreads = st.sampled_from([0.0, 0.3, 3.0, 100.0])
quick = settings(max_examples=30, deadline=None)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def maps(seed: int, spread: float) -> Tensor:
    return spread * draw(seed, 1, 2, SIDE, SIDE)


def positions(count: int, scale: float) -> Tensor:
    return (torch.arange(count, dtype=torch.float64) + 0.5) / scale - 0.5


def interior(count: int, scale: float) -> Tensor:
    """Output pixels with all four taps in the image."""
    at = positions(count, scale)
    return torch.nonzero((at >= 1) & (at <= SIDE - 2)).flatten()


def polynomial(coefficients: Tensor, at: Tensor) -> Tensor:
    """sum_ij c_ij y^i x^j on a grid of positions, (1, 1, n, n)."""
    powers = torch.stack([(at / SIDE) ** i for i in range(len(coefficients))])
    return torch.einsum("ij,iy,jx->yx", coefficients, powers, powers)[None, None]


def keys_weights(at: float) -> dict[int, float]:
    """Return the cubic convolution weights (Keys, a = -1/2) of the samples around a position."""
    weights = {}
    for sample in range(math.floor(at) - 1, math.floor(at) + 3):
        r = abs(at - sample)
        if r <= 1:
            weights[sample] = 1.5 * r**3 - 2.5 * r**2 + 1
        elif r < 2:
            weights[sample] = -0.5 * r**3 + 2.5 * r**2 - 4 * r + 2
    return weights


@quick
@given(seed=seeds, scale=scales, rho=spreads, kappa=spreads)
def test_constants_survive_everywhere_and_sizes_are_the_floor(
    seed: int, scale: float, rho: float, kappa: float
) -> None:
    out = rational(
        torch.full((1, 1, SIDE, SIDE), 0.7, dtype=torch.float64),
        scale,
        maps(seed, rho),
        maps(seed + 1, kappa),
    )
    assert out.shape == (1, 1, math.floor(SIDE * scale), math.floor(SIDE * scale))
    assert (out - 0.7).abs().max() < 1e-12


@quick
@given(seed=seeds, scale=scales, rho=spreads, degree=st.integers(1, 2))
def test_linears_and_quadratics_survive_any_rho(seed: int, scale: float, rho: float, degree: int) -> None:
    coefficients = draw(seed, degree + 1, degree + 1)
    x = polynomial(coefficients, torch.arange(SIDE, dtype=torch.float64))
    out = rational(x, scale, maps(seed, rho), torch.zeros(1, 2, SIDE, SIDE).double())
    exact = polynomial(coefficients, positions(out.shape[-1], scale))
    inside = interior(out.shape[-1], scale)
    assert len(inside) > SIDE // 2
    difference = (out - exact)[..., inside[:, None], inside]
    assert difference.abs().max() < 1e-12 * (1 + coefficients.abs().max())


def test_cubics_do_not_survive_any_rho() -> None:
    """The tests above would pass for an interpolation without rho; this one would not."""
    x = polynomial(draw(0, 4, 4), torch.arange(SIDE, dtype=torch.float64))
    none = torch.zeros(1, 2, SIDE, SIDE).double()
    assert (rational(x, 2, none + 2, none) - rational(x, 2, none, none)).abs().max() > 1e-4
    assert (rational(x, 2, none, none + 2) - rational(x, 2, none, none)).abs().max() > 1e-4


@quick
@given(
    seed=seeds,
    scale=st.sampled_from([3, 5, 7, 7 / 3, 9 / 5]),
    rho=spreads,
    kappa=spreads,
    automatic=st.booleans(),
)
def test_samples_stay_where_they_are(
    seed: int, scale: float, rho: float, kappa: float, automatic: bool
) -> None:
    x = draw(seed, 1, 1, SIDE, SIDE)
    if automatic:
        out = rational_auto(x, scale, 0.01)
    else:
        out = rational(x, scale, maps(seed + 1, rho), maps(seed + 2, kappa))
    at = positions(out.shape[-1], scale)
    nodes = torch.nonzero((at - at.round()).abs() < 1e-9).flatten()
    assert len(nodes) >= SIDE // 9
    samples = at[nodes].round().long()
    difference = out[..., nodes[:, None], nodes] - x[..., samples[:, None], samples]
    assert difference.abs().max() < 1e-6


def rational_taps(t: Tensor, rho: Tensor, kappa0: Tensor, kappa1: Tensor) -> Tensor:
    """Return the interpolant as four filter taps on f[-1], f[0], f[1], f[2]; they sum to one.

    Parameters
    ----------
    t, rho, kappa0, kappa1 : Tensor, broadcastable
        Position in the interval, 0..1; its shape; the slope factors of its two ends.

    Returns
    -------
    Tensor, (4, ...)
    """
    b = torch.sigmoid(4 * torch.tanh(rho / 4))
    w1 = b * t / ((1 - b) * (1 - t) + b * t)
    w0 = 1 - w1
    c = t * (1 - t)
    s0, s1 = (1 + torch.tanh(kappa0)) / 2, (1 + torch.tanh(kappa1)) / 2
    return torch.stack(
        [-c * w0 * s0, 1 - t + c * (w0 - w1) + c * w1 * s1, t - c * (w0 - w1) + c * w0 * s0, -c * w1 * s1]
    )


@quick
@given(t=st.floats(0, 1), rho=st.floats(-1e6, 1e6), kappa0=st.floats(-9, 9), kappa1=st.floats(-9, 9))
def test_taps_sum_to_one_and_have_no_pole(t: float, rho: float, kappa0: float, kappa1: float) -> None:
    taps = rational_taps(*torch.tensor([t, rho, kappa0, kappa1], dtype=torch.float64))
    assert taps.sum().item() == pytest.approx(1, abs=1e-12)
    assert taps.abs().max() < 1.6


@quick
@given(t=st.floats(0.01, 0.99), rho=st.floats(-20, 20))
def test_the_denominator_is_positive(t: float, rho: float) -> None:
    """w1 = b t / Q, read off the last tap, lies in 0..1 and is b t over a Q that is a mean of a and b."""
    position, shape, zero = (torch.tensor(v, dtype=torch.float64) for v in (t, rho, 0.0))
    w1 = -2 * rational_taps(position, shape, zero, zero)[3].item() / (t * (1 - t))
    b = 1 / (1 + math.exp(-4 * math.tanh(rho / 4)))
    q = b * t / w1
    assert 0 < w1 < 1
    assert min(b, 1 - b) - 1e-9 <= q <= max(b, 1 - b) + 1e-9
    assert q == pytest.approx((1 - b) * (1 - t) + b * t)


@quick
@given(seed=seeds, rho=st.floats(-9, 9), kappa0=st.floats(-3, 3), kappa1=st.floats(-3, 3))
def test_slopes_meet_at_the_samples(seed: int, rho: float, kappa0: float, kappa1: float) -> None:
    f = draw(seed, 4)
    shape, k0, k1 = (torch.tensor(v, dtype=torch.float64) for v in (rho, kappa0, kappa1))
    for end, kappa, wanted in [(0.0, kappa0, (f[2] - f[0]) / 2), (1.0, kappa1, (f[3] - f[1]) / 2)]:
        t = torch.tensor(end, dtype=torch.float64, requires_grad=True)
        (rational_taps(t, shape, k0, k1) * f).sum().backward()
        assert t.grad is not None
        assert t.grad.item() == pytest.approx((1 + math.tanh(kappa)) * wanted.item(), abs=1e-9)


@quick
@given(seed=seeds, scale=scales)
def test_without_shape_it_is_catmull_rom(seed: int, scale: float) -> None:
    x, none = draw(seed, 1, 1, SIDE, SIDE), torch.zeros(1, 2, SIDE, SIDE).double()
    out = rational(x, scale, none, none)
    assert (out - catmull_rom(x, scale)).abs().max() < 1e-12
    matrix = torch.zeros(out.shape[-1], SIDE, dtype=torch.float64)
    for u, at in enumerate(positions(out.shape[-1], scale).tolist()):
        for sample, weight in keys_weights(at).items():
            matrix[u, min(max(sample, 0), SIDE - 1)] += weight
    assert (out - matrix @ x @ matrix.T).abs().max() < 1e-6


@quick
@given(seed=seeds, scale=scales, rho=spreads, kappa=spreads)
def test_the_image_is_made_by_the_taps(seed: int, scale: float, rho: float, kappa: float) -> None:
    """On an image, and with maps, that only change along x."""
    row = draw(seed, SIDE)
    rhos, kappas = rho * draw(seed + 1, SIDE), kappa * draw(seed + 2, SIDE)

    def fill(values: Tensor) -> Tensor:
        return values.expand(1, 1, SIDE, SIDE)

    other = maps(seed + 3, 2.0)[:, 1:]
    out = rational(
        fill(row), scale, torch.cat([fill(rhos), other], 1), torch.cat([fill(kappas), 0 * other], 1)
    )
    for u, at in enumerate(positions(out.shape[-1], scale).tolist()):
        j = math.floor(at + 1e-12)
        index = [min(max(j + i, 0), SIDE - 1) for i in (-1, 0, 1, 2)]
        left, right = index[1], index[2]
        t = torch.tensor(max(at - j, 0.0), dtype=torch.float64)
        taps = rational_taps(t, (rhos[left] + rhos[right]) / 2, kappas[left], kappas[right])
        assert (out[..., u] - (taps * row[index]).sum()).abs().max() < 1e-9


@quick
@given(seed=seeds, scale=scales, sigma=st.sampled_from([0.001, 0.1]))
def test_automatic_shape_trusts_the_rougher_side(seed: int, scale: float, sigma: float) -> None:
    """rho = g log((|D3 right| + e) / (|D3 left| + e)), on an image that only changes along x."""
    row = draw(seed, SIDE)
    third = torch.diff(row, n=3).abs() + sigma  # third[i] is centred on the interval from sample i + 1
    out = rational_auto(row.expand(1, 1, SIDE, SIDE), scale, sigma)
    at = positions(out.shape[-1], scale)
    tested = [u for u in interior(out.shape[-1], scale).tolist() if 2 <= at[u] < SIDE - 3]
    for u in tested:
        j = math.floor(at[u].item() + 1e-12)
        rho = AUTO_GAIN * torch.log(third[j] / third[j - 2])
        taps = rational_taps((at[u] - j).clamp(min=0), rho, torch.zeros(()), torch.zeros(()))
        assert (out[..., u] - (taps * row[j - 1 : j + 3]).sum()).abs().max() < 1e-9
    assert AUTO_GAIN > 0
    assert len(tested) > SIDE // 3


@quick
@given(seed=seeds, scale=scales, automatic=st.booleans())
def test_it_commutes_with_transposition(seed: int, scale: float, automatic: bool) -> None:
    x, rho, kappa = draw(seed, 1, 1, SIDE, SIDE), maps(seed + 1, 2.0), maps(seed + 2, 0.5)
    if automatic:
        out, turned = rational_auto(x, scale, 0.01), rational_auto(x.mT, scale, 0.01)
    else:
        out, turned = rational(x, scale, rho, kappa), rational(x.mT, scale, rho.flip(1).mT, kappa.flip(1).mT)
    assert (turned.mT - out).abs().max() < 1e-12


@quick
@given(seed=seeds, scale=st.integers(2, 6))
def test_whole_scales_and_broken_scales_agree(seed: int, scale: int) -> None:
    x, rho, kappa = draw(seed, 1, 1, SIDE, SIDE), maps(seed + 1, 2.0), maps(seed + 2, 0.5)
    broken = scale * (1 + 1e-12)
    assert (rational(x, scale, rho, kappa) - rational(x, broken, rho, kappa)).abs().max() < 1e-8
    assert (catmull_rom(x, scale) - catmull_rom(x, broken)).abs().max() < 1e-8
    assert (rational_auto(x, scale, 0.01) - rational_auto(x, broken, 0.01)).abs().max() < 1e-8


@quick
@given(seed=seeds, scale=st.integers(2, 4), automatic=st.booleans())
def test_a_tile_is_the_images_tile(seed: int, scale: int, automatic: bool) -> None:
    x, rho, kappa = draw(seed, 1, 1, 24, 24), draw(seed + 1, 1, 2, 24, 24), draw(seed + 2, 1, 2, 24, 24)

    def enlarge(window: slice) -> Tensor:
        part = x[..., window, window]
        if automatic:
            return rational_auto(part, scale, 0.01)
        return rational(part, scale, rho[..., window, window], kappa[..., window, window])

    whole, tile = enlarge(slice(0, 24)), enlarge(slice(5, 21))
    core = slice(11 * scale, 15 * scale)
    inner = slice(6 * scale, 10 * scale)
    assert (tile[..., inner, inner] - whole[..., core, core]).abs().max() < 1e-12


@quick
@given(seed=seeds, scale=scales, factor=st.floats(0.1, 10), offset=st.floats(-5, 5))
def test_automatic_shape_does_not_depend_on_gain_or_offset(
    seed: int, scale: float, factor: float, offset: float
) -> None:
    x = draw(seed, 1, 1, SIDE, SIDE)
    out = rational_auto(x, scale, 0.01)
    changed = rational_auto(factor * x + offset, scale, factor * 0.01)
    assert (changed - (factor * out + offset)).abs().max() < 1e-9 * (1 + abs(offset) + factor)


def test_scale_one_changes_nothing() -> None:
    x = draw(0, 1, 1, SIDE, SIDE)
    assert torch.equal(rational(x, 1, maps(1, 1.0), maps(2, 1.0)), x)
    assert torch.equal(rational_auto(x, 1, 0.01), x)
    assert (catmull_rom(x, 1) - x).abs().max() < 1e-12


@pytest.mark.parametrize("scale", [2, 3, 2.5])
def test_gradients_of_the_shape_maps_are_finite(scale: float) -> None:
    x = draw(0, 1, 1, SIDE, SIDE)
    rho, kappa = (torch.zeros(1, 2, SIDE, SIDE, dtype=torch.float64, requires_grad=True) for _ in range(2))
    rational(x, scale, rho, kappa).square().sum().backward()
    for gradient in (rho.grad, kappa.grad):
        assert gradient is not None
        assert torch.isfinite(gradient).all()
        assert (gradient.abs() > 0).double().mean() > 0.9


@pytest.mark.parametrize("scale", [1, 2, 2.5, 4])
def test_catmull_rom_is_as_exact_under_autocast(scale: float) -> None:
    x = torch.rand(2, 3, 9, 8)
    with torch.autocast("cpu", torch.bfloat16):
        enlarged = catmull_rom(x, scale)
    assert torch.equal(enlarged, catmull_rom(x, scale))

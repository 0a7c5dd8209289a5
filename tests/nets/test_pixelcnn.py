"""The likelihood: it is causal, its probabilities are those of 256 levels, and its values those of a plain loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from bigrestore.model.nets.parts.pixelcnn import LEVELS, Mixture, PixelCNN, noise_bits, to_levels

SIDE = 9


def network(scale: int = 1, **sizes: int) -> PixelCNN:
    """Return a small network whose head is not zero."""
    torch.manual_seed(1)
    net = PixelCNN(
        **({"channels": 6, "blocks": 2, "logistics": 3, "condition_channels": 4} | sizes), scale=scale
    )
    torch.nn.init.normal_(net.head.weight, std=0.2)
    return net.eval()


def pair(seed: int, scale: int = 1, count: int = 1, side: int = SIDE) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randint(0, LEVELS, (count, 1, side, side), generator=generator).float()
    return levels, torch.rand(count, 1, side * scale, side * scale, generator=generator)


@pytest.mark.parametrize("scale", [1, 2])
def test_no_pixel_sees_itself_or_a_later_one(scale: int) -> None:
    net, (levels, restored) = network(scale, blocks=1, channels=4), pair(0, scale)
    levels.requires_grad_(True)
    mixture = net(levels, restored)
    made = mixture.log_weight + mixture.mean + mixture.log_scale
    seen = 0
    for p in range(SIDE**2):
        (slope,) = torch.autograd.grad(made[0, :, p // SIDE, p % SIDE].sum(), levels, retain_graph=True)
        assert not slope.flatten()[p:].any()
        seen += int(slope.count_nonzero())
    assert seen > 4 * SIDE**2


def test_a_pixel_sees_its_left_neighbour_those_above_and_the_restoration_around_it() -> None:
    net, (levels, restored) = network(), pair(1)
    levels.requires_grad_(True)
    restored.requires_grad_(True)
    before, around = torch.autograd.grad(net(levels, restored).mean[0, :, 4, 4].sum(), (levels, restored))
    for y, x in [(4, 3), (3, 3), (3, 4), (3, 5), (1, 4)]:
        assert before[0, 0, y, x]
    for y, x in [(4, 4), (5, 4), (4, 6), (7, 7)]:
        assert around[0, 0, y, x]


def test_the_reach_is_that_of_its_convolutions() -> None:
    net = network()
    reach, side = net.reach_px, 2 * net.reach_px + 11
    levels, restored = pair(2, side=side)
    bits = net(levels, restored).bits(levels)
    other = (levels.clone(), restored.clone())
    for image in other:
        image[..., :5, :] = image[..., -5:, :] = image[..., :5] = image[..., -5:] = 0
    changed = net(*other).bits(levels)
    inside = slice(5 + reach, side - 5 - reach)
    assert torch.equal(bits[..., inside, inside], changed[..., inside, inside])
    assert not torch.equal(bits, changed)


def test_the_levels_of_a_pixel_have_probabilities_that_sum_to_one() -> None:
    net, (levels, restored) = network(), pair(3)
    mass = net(levels, restored).probabilities()
    assert mass.shape == (1, SIDE, SIDE, LEVELS)
    assert torch.allclose(mass.sum(dim=-1), torch.ones(1, SIDE, SIDE), atol=1e-6)


@pytest.mark.parametrize(("mean", "level"), [(-1.4, 0), (1.4, 255)])
def test_the_end_levels_are_open(mean: float, level: int) -> None:
    narrow = Mixture(torch.zeros(1, 1, 1, 1), torch.full((1, 1, 1, 1), mean), torch.full((1, 1, 1, 1), -5.0))
    assert float(narrow.probabilities()[0, 0, 0, level]) > 0.999
    assert float(narrow.bits(torch.full((1, 1, 1, 1), float(level)))) < 1e-3


def test_bits_are_those_of_a_plain_loop() -> None:
    net, (levels, restored) = network(), pair(4)
    levels[0, 0, 0, :4] = torch.tensor([0.0, 255.0, 1.0, 254.0])
    with torch.no_grad():
        mixture = net(levels, restored)
    bits = mixture.bits(levels)
    spoken = mixture.probabilities()
    for y in range(SIDE):
        for x in range(SIDE):
            level, mass = float(levels[0, 0, y, x]), 0.0
            for k in range(3):
                weight, mean, log_scale = (
                    float(part[0, k, y, x]) for part in (mixture.log_weight, mixture.mean, mixture.log_scale)
                )

                def below(edge: float, mean: float = mean, log_scale: float = log_scale) -> float:
                    return 0.5 + 0.5 * math.tanh((edge / 127.5 - 1 - mean) / math.exp(log_scale) / 2)

                upper = 1.0 if level == 255 else below(level + 0.5)
                lower = 0.0 if level == 0 else below(level - 0.5)
                mass += math.exp(weight) * (upper - lower)
            assert float(spoken[0, y, x, int(level)]) == pytest.approx(mass, abs=1e-6)
            if mass > 1e-3:
                assert float(bits[0, 0, y, x]) == pytest.approx(-math.log2(mass), rel=1e-3)


def test_an_impossible_level_has_finite_bits_and_a_slope() -> None:
    parts = [torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), torch.full((1, 1, 1, 1), -6.0)]
    parts[1].requires_grad_(True)
    bits = Mixture(*parts).bits(torch.full((1, 1, 1, 1), 200.0))
    (slope,) = torch.autograd.grad(bits.sum(), parts[1])
    assert 100 < float(bits.detach()) < 1000
    assert float(slope) < 0


def test_expected_bits_are_those_of_pixels_drawn_from_the_mixture() -> None:
    parts = (torch.log(torch.tensor([0.3, 0.7])), torch.tensor([-0.1, 0.3]), torch.tensor([-3.5, -4.5]))
    mixture = Mixture(*(part[None, :, None, None] for part in parts))
    mean, variance = mixture.expected_bits()
    mass = mixture.probabilities()[0, 0, 0].double().numpy()
    drawn = np.random.default_rng(0).choice(LEVELS, 20_000, p=mass / mass.sum())
    many = Mixture(*(part[None, :, None, None].expand(1, 2, 1, drawn.size) for part in parts))
    bits = many.bits(torch.from_numpy(drawn).float()[None, None, None])
    assert float(bits.mean()) == pytest.approx(float(mean), abs=0.03)
    assert float(bits.var()) == pytest.approx(float(variance), rel=0.05)


@pytest.mark.parametrize(("sigma", "bits"), [(2.0, 3.06), (5.0, 4.37), (0.0, 0.25)])
def test_the_entropy_of_noise_is_that_of_rounded_gaussians(sigma: float, bits: float) -> None:
    zero = torch.zeros(())
    closed = float(noise_bits(zero, torch.tensor(sigma / 255), torch.tensor(0.5)))
    assert closed == pytest.approx(bits, abs=0.01)
    if sigma:
        drawn = np.rint(np.random.default_rng(0).normal(128, sigma, 200_000)).astype(int)
        share = np.bincount(drawn)[np.bincount(drawn) > 0] / drawn.size
        assert closed == pytest.approx(float(-(share * np.log2(share)).sum()), abs=0.01)


def test_the_noise_of_light_grows_with_it() -> None:
    grey = torch.tensor([0.0, 0.25, 1.0])
    dark, half, bright = noise_bits(torch.tensor(1e-3), torch.tensor(0.0), grey).tolist()
    assert dark < half < bright == pytest.approx(half + 1, abs=0.01)


def test_values_are_counted_in_whole_levels() -> None:
    grey = torch.tensor([-0.1, 0.0, 0.5 / 255 + 1e-4, 100.4 / 255, 1.3])
    assert to_levels(grey).tolist() == [0, 0, 1, 100, 255]

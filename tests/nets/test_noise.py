"""Hashed noise: the same number at the same place, whoever asks, and normal and white besides."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bigrestore.model.nets.prior import noise
from bigrestore.model.nets.prior.noise import hashed_normal, hashed_normal_fields

SIDE = 1024


@pytest.fixture(scope="module")
def field() -> torch.Tensor:
    return hashed_normal(7, 3, 2, 1000, 20000, SIDE, SIDE)


@settings(max_examples=40, deadline=None)
@given(
    y=st.integers(-40, 200000),
    x=st.integers(-40, 200000),
    dy=st.integers(0, 30),
    dx=st.integers(0, 30),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
)
def test_a_window_of_a_field_is_the_fields_window(
    y: int, x: int, dy: int, dx: int, height: int, width: int
) -> None:
    whole = hashed_normal(5, 1, 4, y, x, 50, 50)
    window = hashed_normal(5, 1, 4, y + dy, x + dx, height, width)
    assert torch.equal(window, whole[dy : dy + height, dx : dx + width])


@pytest.mark.parametrize("other", [{"seed": 8}, {"seed": 7 + 2**32}, {"seed": -7}, {"z": 4}, {"layer": 3}])
def test_another_seed_section_or_layer_is_another_field(other: dict[str, int]) -> None:
    names = {"seed": 7, "z": 3, "layer": 2}
    first = hashed_normal(**names, y0=0, x0=0, height=256, width=256)
    second = hashed_normal(**(names | other), y0=0, x0=0, height=256, width=256)
    correlation = np.corrcoef(first.flatten().numpy(), second.flatten().numpy())[0, 1]
    assert abs(correlation) < 5 / 256


def test_swapped_arguments_are_not_the_same_field() -> None:
    assert not torch.equal(hashed_normal(1, 2, 3, 0, 0, 8, 8), hashed_normal(2, 1, 3, 0, 0, 8, 8))
    assert not torch.equal(hashed_normal(1, 2, 3, 0, 0, 8, 8), hashed_normal(1, 3, 2, 0, 0, 8, 8))
    assert not torch.equal(hashed_normal(1, 2, 3, 0, 0, 8, 8), hashed_normal(1, 2, 3, 0, 0, 8, 8).T)


def test_moments_are_those_of_the_normal_distribution(field: torch.Tensor) -> None:
    count = field.numel()
    for power, expected, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:
        moment = (field.double() ** power).mean().item()
        assert abs(moment - expected) < 5 * (variance / count) ** 0.5, power


@pytest.mark.parametrize("limit", [0.0, 0.5, 1.0, 2.0, 3.0])
def test_tails_hold_the_share_of_the_normal_distribution(field: torch.Tensor, limit: float) -> None:
    share = (field > limit).double().mean().item()
    expected = 0.5 * (1 - torch.erf(torch.tensor(limit / 2**0.5, dtype=torch.float64)).item())
    assert abs(share - expected) < 5 * (expected / field.numel()) ** 0.5


@pytest.mark.parametrize("step", [(0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (0, 16), (16, 0), (64, 64)])
def test_neighbours_know_nothing_of_each_other(field: torch.Tensor, step: tuple[int, int]) -> None:
    dy, dx = step
    near, far = field[: SIDE - dy, : SIDE - dx].double(), field[dy:, dx:].double()
    bound = 5 / near.numel() ** 0.5
    assert abs((near * far).mean().item()) < bound
    assert abs(((near**2 - 1) * (far**2 - 1)).mean().item() / 2) < bound


def test_the_spectrum_is_flat(field: torch.Tensor) -> None:
    power = torch.fft.rfft2(field).abs()[:, : SIDE // 2].square() / field.numel()
    bands = power.reshape(32, SIDE // 32, 16, SIDE // 32).mean(dim=(1, 3))
    assert (bands - 1).abs().max() < 5 / (SIDE // 32)
    assert power.max() < 25


def test_several_windows_at_once_are_the_single_ones() -> None:
    origins = torch.tensor([[0, 5], [100, 7], [-3, 90000]])
    layers = [4, 0, 9]
    many = hashed_normal_fields(11, 2, layers, origins, 6, 9)
    for field, layer, (y, x) in zip(many, layers, origins.tolist(), strict=True):
        assert torch.equal(field, hashed_normal(11, 2, layer, y, x, 6, 9))
    one_layer = hashed_normal_fields(11, 2, [4], origins, 6, 9)
    assert torch.equal(one_layer[1], hashed_normal(11, 2, 4, 100, 7, 6, 9))
    one_origin = hashed_normal_fields(11, 2, layers, [[8, 8]], 6, 9)
    assert torch.equal(one_origin[2], hashed_normal(11, 2, 9, 8, 8, 6, 9))


def test_bytes_stay_what_they_were() -> None:
    """A change here changes every restored section: it must be wanted, and a new version."""
    digest = hashlib.sha256()
    digest.update(hashed_normal(1, 2, 3, 4, 5, 64, 64).numpy().tobytes())
    assert digest.hexdigest()[:16] == "a346b9594c3e76a6"


def test_a_first_use_in_inference_leaves_training_possible() -> None:
    noise._box_muller_tables.cache_clear()
    with torch.inference_mode():
        hashed_normal(1, 0, 0, 0, 0, 4, 4)
    assert not any(table.is_inference() for table in noise._box_muller_tables("cpu"))
    strength = torch.zeros((), requires_grad=True)
    (strength * hashed_normal(1, 0, 0, 0, 0, 4, 4)).square().sum().backward()
    assert strength.grad is not None

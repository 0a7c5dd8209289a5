"""Five numbers make the kernel: its width, its direction, its place, its shape."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from bigrestore.core.kernels import defocus, equivalent_sigma, fold_downsampling, gaussian
from bigrestore.model.nets.reading.kernel_family import averaged, blur_kernels, widths


def one(sigma: float, stretch: tuple[float, float] = (0.0, 0.0), shape: float = 1.0) -> torch.Tensor:
    return blur_kernels(torch.tensor([sigma]), torch.tensor([stretch]), torch.tensor([shape]), 21)[0]


@pytest.mark.parametrize("shape", [0.7, 1.0, 2.0, 6.0])
@pytest.mark.parametrize("sigma", [1.0, 1.7])
def test_the_width_is_the_second_moment_whatever_the_shape(sigma: float, shape: float) -> None:
    assert float(widths(one(sigma, shape=shape)[None])) == pytest.approx(sigma, abs=0.03)


def test_shape_one_is_the_gaussian_in_any_direction() -> None:
    for degrees in (0, 30, 45, 110):
        angle = math.radians(degrees)
        stretch = 0.6 * math.cos(2 * angle), 0.6 * math.sin(2 * angle)
        expected = gaussian(21, 1.2 * math.exp(-0.3), 1.2 * math.exp(0.3), angle)
        np.testing.assert_allclose(one(1.2, stretch).numpy(), expected, atol=1e-5)


def test_a_large_shape_is_nearly_a_disk() -> None:
    disk = defocus(21, 2.2)
    flat = one(equivalent_sigma(disk), shape=6.0).numpy()
    assert np.abs(flat - disk).sum() < 0.15
    assert np.abs(one(equivalent_sigma(disk)).numpy() - disk).sum() > 0.3, "a Gaussian of the width is not"


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_averaging_is_that_of_area_downsampling(scale: int) -> None:
    kernel = gaussian(41, 1.5, 2.5, 0.3)
    expected = fold_downsampling(kernel, "area", scale) if scale > 1 else kernel
    np.testing.assert_allclose(
        averaged(torch.from_numpy(kernel)[None], scale)[0].numpy(), expected, atol=1e-6
    )


def test_gradients_reach_all_numbers() -> None:
    numbers = [torch.tensor([0.8]), torch.tensor([[0.2, 0.1]]), torch.tensor([1.5])]
    for number in numbers:
        number.requires_grad_()
    blur_kernels(numbers[0], numbers[1], numbers[2], 21)[0, 10, 11].backward()  # type: ignore[no-untyped-call]
    assert all(number.grad is not None and bool((number.grad != 0).all()) for number in numbers)

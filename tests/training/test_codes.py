"""What a network is told wrongly must be wrong as a reading of a section is, and no more."""

from __future__ import annotations

import numpy as np
import torch

from bigrestore.degradation.degradation import psi_targets
from bigrestore.degradation.recipe import draw_degradations
from bigrestore.degradation.schema import Recipe
from bigrestore.model.nets.prior_gate import SEEN_SIGMA_PX
from bigrestore.model.nets.reading.kernel_family import widths
from bigrestore.training.data.codes import limited, misread, misread_kernels
from bigrestore.training.data.pairs import known_of
from bigrestore.training.stages.fidelity import LARGEST_ERROR, with_bounded_errors


def kernels(scale: int, count: int = 200) -> torch.Tensor:
    return psi_targets(draw_degradations(Recipe.load("default"), scale, count, np.random.default_rng(0)))[
        "kernel"
    ]


def test_a_misread_kernel_has_the_wanted_width() -> None:
    for scale in (1, 2):
        true = kernels(scale)
        sigma = widths(true)
        for relative in (-0.15, 0.15):
            none = torch.zeros(len(true))
            made = misread_kernels(true, torch.full_like(none, relative), none, none, scale)
            torch.testing.assert_close(made.sum((1, 2)), torch.ones(len(true)), atol=1e-4, rtol=0)
            assert float(made.min()) >= 0
            wide = sigma > 0.6
            error = (widths(made) / sigma - 1 - relative)[wide].abs()
            assert float(error.quantile(0.9)) < 0.06


def test_a_misread_kernel_may_be_a_gaussian() -> None:
    disk = kernels(1)[:40]
    none = torch.zeros(40)
    made = misread_kernels(disk, none, none, torch.ones(40), 1)
    at = torch.arange(21.0) - 10
    expected = torch.exp(-0.5 * (at / widths(disk).clamp_min(0.2)[:, None]) ** 2)
    line = made.sum(1)
    torch.testing.assert_close(
        line / line.sum(1, keepdim=True), expected / expected.sum(1, keepdim=True), atol=2e-3, rtol=0
    )


def test_no_kernel_is_told_wider_than_a_run_tells() -> None:
    for scale in (1, 2, 4):
        told = limited(kernels(scale), scale)
        assert float(widths(told).max()) < 1.05 * SEEN_SIGMA_PX[scale]
        torch.testing.assert_close(told.sum((1, 2)), torch.ones(len(told)), atol=1e-4, rtol=0)


def test_a_misreading_errs_as_stated_and_keeps_the_rest() -> None:
    known = known_of(
        draw_degradations(Recipe.load("optics"), 1, 800, np.random.default_rng(2)), torch.device("cpu")
    )
    wrong = misread(known, 1, np.random.default_rng(3))
    noisy = known.read_noise > 0
    ratio = torch.log(wrong.read_noise[noisy] / known.read_noise[noisy])
    assert abs(float(ratio.std()) - 0.2) < 0.03
    stored = known.jpeg_quality > 0
    assert 0.03 < float((wrong.jpeg_quality[stored] == 0).float().mean()) < 0.2
    assert not bool(wrong.jpeg_quality[~stored].any())
    assert torch.equal(wrong.banding, known.banding)


def test_monstrous_errors_count_no_more_than_large_ones() -> None:
    target = torch.rand(3, 1, 16, 16)
    apart = torch.tensor([0.01, 0.5, 9.0]).view(3, 1, 1, 1) * torch.sign(torch.randn(3, 1, 16, 16))
    bounded = with_bounded_errors(target + apart, target) - target
    torch.testing.assert_close(bounded[0], apart[0])
    for index in (1, 2):
        assert abs(float(bounded[index].abs().mean()) - LARGEST_ERROR) < 1e-6
        assert torch.equal(torch.sign(bounded[index]), torch.sign(apart[index]))

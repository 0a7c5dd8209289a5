"""The bench of the parts: what a table says of a part follows from the seeds, and what is left out is left out."""

from __future__ import annotations

import argparse

import numpy as np
import pytest
import torch

from bigrestore.core.interpolation import catmull_rom
from bigrestore.model.method import SectionStatistics
from bigrestore.model.nets import restorer
from bigrestore.training.stages import fidelity
from tests.bench import ablation

ASKED = argparse.Namespace(steps=1000, prior_steps=900, bridge_steps=400, longer_steps=1300)
SCORES = {"niqe": 6.0, "brisque": 30.0, "piqe": 20.0}


def rows_of(gains: dict[str, list[float]]) -> dict[str, list[dict[str, float]]]:
    return {name: [{"gain x2": gain} | SCORES for gain in found] for name, found in gains.items()}


def test_a_part_that_is_no_better_than_chance_is_said_to_bring_nothing() -> None:
    rows = rows_of(
        {
            ablation.PLAIN: [1.0, 1.1, 1.2],
            ablation.NO_KERNEL: [0.5, 0.6, 0.65],
            ablation.NO_RATIONAL: [1.05, 1.05, 1.2],
            ablation.WHOLE: [0.3, 0.5, 0.2],
        }
    )
    for found, niqe in zip(rows[ablation.NO_KERNEL], (6.11, 6.1, 6.09), strict=True):
        found["niqe"] = niqe
    said = ablation.section(2, rows, {"gain x2": 0.0} | SCORES, ASKED).splitlines()
    assert "- the kernel, as code and deconvolutions: 0.52 +- 0.03 dB, -0.10 +- 0.01" in said
    assert (
        "- rational interpolation: 0.00 +- 0.05 dB, 0.00 +- 0.00, no more than chance: it brings nothing here"
        in said
    )
    assert "- the prior, at realness 1: -0.77 +- 0.21 dB, 0.00 +- 0.00" in said
    assert not any("as much time" in line for line in said), "not measured"
    assert (
        "| without prior and kernel | 0.58 +- 0.08 | 6.10 +- 0.01 | 30.00 +- 0.00 | 20.00 +- 0.00 |" in said
    )
    assert any(line.startswith("| input | 0.00 | 6.00") for line in said)


def test_two_ways_of_joining_the_prior_are_compared_with_their_distances_from_tissue() -> None:
    rows = rows_of({ablation.WHOLE: [0.3, 0.5], ablation.FUSED: [0.5, 0.6]})
    for found in rows.values():
        for index, each in enumerate(found):
            each |= {"frechet_y1": 2.0 + index, "frechet_prior": 5.0, "frechet_prior_before": 4.0}
    said = ablation.section(2, rows, {"gain x2": 0.0} | SCORES, ASKED).splitlines()
    assert (
        "- features in the place of noise, against channel-split transforms: 0.15 +- 0.07 dB, 0.00 +- 0.00"
        in said
    )
    wanted = "Frechet distance of held-out outputs 2.50 +- 0.71, of free samples 5.00 +- 0.00 (before: 4.00 +- 0.00)."
    assert f"{ablation.FUSED}: {wanted}" in said
    files = {ablation._file_name(variant, ASKED) for variant in ablation.VARIANTS if variant.with_prior}
    assert files == {"prior-900-400", "prior-900-400-noise"}


class Knowing:
    """A method that has read something."""

    scale = 1

    def analyse(self, windows: object) -> SectionStatistics:
        return SectionStatistics(np.ones((3, 3), np.float32), np.ones(24, np.float32), 0.0, 0.1)


def test_what_a_variant_goes_without_is_gone_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    told = torch.ones(2, 24), torch.ones(2, 3, 5, 5)
    monkeypatch.setattr(ablation, "drawn_codes", lambda *drawn: told)
    before, shape_by_maps = fidelity.drawn_codes, restorer.rational
    with ablation.without_kernel():
        psi, filters = fidelity.drawn_codes()
        assert not psi.any()
        assert filters is told[1]
    x = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with ablation.without_rational():
        assert torch.equal(restorer.rational(x, 2, x, x), catmull_rom(x, 2))
    assert fidelity.drawn_codes is before
    assert restorer.rational is shape_by_maps
    unknowing = ablation.Unknowing(Knowing())
    assert unknowing.scale == 1
    assert not unknowing.analyse(None).psi.any()

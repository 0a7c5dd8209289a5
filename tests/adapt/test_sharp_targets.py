"""A section is learned from at the sizes at which it is sharp, and at no other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bigrestore.adapt.sections import Tissue
from bigrestore.adapt.sharpness import Judged, judge_section
from bigrestore.methods.base import SectionStatistics
from bigrestore.train.data import PatchSource
from bigrestore.train.images import GreyImage
from tests.adapt.conftest import blurred, texture

WINDOW_PX = 132


def tissue(pixels: Any, noise: float = 0.0) -> Tissue:
    statistics = SectionStatistics(np.ones((1, 1), np.float32), np.zeros(24, np.float32), 0.0, 0.0)
    return Tissue("a", *pixels.shape, statistics, (noise / 255) ** 2, (pixels,))


def accepted(judged: list[Judged]) -> list[float]:
    return [one.factor for one in judged if one.accepted]


def test_a_sharp_section_is_taken_at_its_own_size() -> None:
    assert 1.0 in accepted(judge_section(tissue(texture(300, 320).astype(np.uint8)), WINDOW_PX))


def test_a_blurred_section_is_taken_only_where_it_is_reduced() -> None:
    judged = judge_section(tissue(blurred(texture(640, 640, 1), 0.8)), WINDOW_PX)
    assert judged[0].factor == 1.0
    assert judged[0].fall_db > 25
    assert judged[0].sharp == 0
    assert max(accepted(judged)) <= 0.6
    assert 0.35 in accepted(judged)
    soft, sharp = judged[0], next(one for one in judged if one.accepted)
    assert soft.soft_examples
    assert all(example.fall_db > 21 for example in soft.soft_examples)
    assert sharp.sharp_examples
    assert all(example.fall_db <= 21 for example in sharp.sharp_examples)
    assert sharp.sharp_examples[0].pixels.shape == (WINDOW_PX, WINDOW_PX)


def test_noise_is_not_taken_for_sharp_tissue() -> None:
    pixels = blurred(texture(400, 400, 1), 1.5, noise=4.0)
    assert 1.0 in accepted(judge_section(tissue(pixels), WINDOW_PX)), "noise fills the spectrum"
    assert 1.0 not in accepted(judge_section(tissue(pixels, noise=4.0), WINDOW_PX))


def test_a_few_sharp_windows_do_not_make_a_section_sharp() -> None:
    pixels = blurred(texture(600, 600, 1), 1.5)
    pixels[:150, :150] = texture(150, 150).astype(np.uint8)
    judged = judge_section(tissue(pixels), WINDOW_PX)
    assert judged[0].sharp >= 2
    assert not judged[0].accepted


def test_factors_that_hold_no_window_are_left_out() -> None:
    factors = [one.factor for one in judge_section(tissue(texture(300, 320).astype(np.uint8)), WINDOW_PX)]
    assert factors == [1.0, 0.75, 0.6, 0.5]
    assert judge_section(tissue(texture(120, 320).astype(np.uint8)), WINDOW_PX) == []


def test_the_windows_that_are_counted_are_those_that_are_drawn() -> None:
    pixels = blurred(texture(600, 600, 1), 0.8, noise=2.0)
    for one in judge_section(tissue(pixels, noise=2.0), WINDOW_PX):
        if not one.sharp:
            continue
        image = GreyImage("1 a__0", pixels, (2 / 255) ** 2)
        source = PatchSource([image], WINDOW_PX, group_scale_weights={"1 a": {one.factor: 1.0}})
        assert source.windows == one.sharp


@pytest.mark.parametrize("sigma", [0.8, 1.0, 1.5])
def test_the_fall_shrinks_with_the_section(sigma: float) -> None:
    falls = [one.fall_db for one in judge_section(tissue(blurred(texture(640, 640, 3), sigma)), WINDOW_PX)]
    assert falls[0] > falls[-1] + 4

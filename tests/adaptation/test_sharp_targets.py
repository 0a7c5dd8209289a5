"""A section is learned from at the sizes at which it is sharp, and at no other."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import pytest

from bigrestore.core.kernels import gaussian
from bigrestore.degradation.schema import Recipe
from bigrestore.training.adaptation.adaptation import Chosen, material_of
from bigrestore.training.adaptation.reading import Reading, noise_after, sharpened
from bigrestore.training.adaptation.reduction import averaging, noise_factor, reduced
from bigrestore.training.adaptation.sections import Tissue
from bigrestore.training.adaptation.sharpness import MOST_LOST_DB, Judged, judge_section
from bigrestore.training.data.patches import PatchSource
from bigrestore.training.data.windows import area_downscale
from tests.adaptation.conftest import blurred, texture

WINDOW_PX = 132


def reading(sigma: float, noise: float = 0.0) -> Reading:
    kernel = gaussian(25, sigma) if sigma else np.pad(np.ones((1, 1), np.float32), 12)
    return Reading(kernel, sigma, 0.08, sigma, sigma, 0.0, noise / 255, 0.0, 20)


def tissue(pixels: Any, sigma: float = 0.0, noise: float = 0.0) -> Tissue:
    """A section as it is taken in by a start model that reads it rightly."""
    read = reading(sigma, noise)
    block = sharpened(pixels.astype(np.float32) / 255, read)
    return Tissue("a", *pixels.shape, read, (block,), noise_after(read))


def accepted(judged: list[Judged]) -> list[float]:
    return [one.factor for one in judged if one.accepted]


def test_a_sharp_section_is_taken_at_its_own_size() -> None:
    assert 1.0 in accepted(judge_section(tissue(texture(300, 320)), WINDOW_PX))


def test_a_blurred_section_is_taken_only_where_it_is_reduced() -> None:
    judged = judge_section(tissue(blurred(texture(640, 640, 1), 0.9), 0.9), WINDOW_PX)
    assert accepted(judged) == [0.5, 0.35, 0.25]
    assert judged[0].factor == 1.0
    assert judged[0].fall_db > 21
    assert judged[0].sharp == 0
    soft, sharp = judged[0], next(one for one in judged if one.accepted)
    assert soft.soft_examples
    assert all(example.fall_db > 21 for example in soft.soft_examples)
    assert sharp.sharp_examples
    assert all(example.fall_db <= 21 for example in sharp.sharp_examples)
    assert sharp.sharp_examples[0].pixels.shape == (WINDOW_PX, WINDOW_PX)


def test_a_section_that_is_blurred_more_than_is_read_is_refused_by_its_spectrum() -> None:
    judged = judge_section(tissue(blurred(texture(640, 640, 1), 1.5), 0.3), WINDOW_PX)
    assert judged[0].lost_db < MOST_LOST_DB
    assert accepted(judged) == [0.25]


def test_a_blur_that_took_too_much_is_not_given_back() -> None:
    judged = judge_section(tissue(texture(640, 640, 1), 1.5), WINDOW_PX)
    assert {one.factor: one.accepted for one in judged if one.lost_db > MOST_LOST_DB} == dict.fromkeys(
        (1.0, 0.75, 0.6, 0.5, 0.35), False
    )


def test_what_the_blur_takes_is_that_of_its_gaussian() -> None:
    assert reading(0.8).lost_db(1.0) == pytest.approx(-20 * np.log10(np.exp(-2 * (np.pi * 0.8 * 0.5) ** 2)))
    assert reading(0.8).lost_db(0.5) == pytest.approx(reading(0.4).lost_db(1.0))
    stretched = attrs.evolve(reading(0.8), along=1.2)
    assert stretched.lost_db(1.0) == pytest.approx(reading(1.2).lost_db(1.0))


def test_a_reduced_target_has_the_spectrum_of_the_truth() -> None:
    truth = texture(640, 640, 1)
    section = blurred(truth, 0.8)
    made = reduced(sharpened(section.astype(np.float32) / 255, reading(0.8)), 0.5) / 65535
    wanted = reduced(np.rint(257 * truth).astype(np.uint16), 0.5) / 65535
    soft = reduced(section * np.uint16(257), 0.5) / 65535
    inside = (slice(16, -16), slice(16, -16))

    def error(image: Any) -> float:
        return float(np.std((image - wanted)[inside]))

    assert error(made) < 0.3 * error(soft)


def test_noise_is_not_taken_for_sharp_tissue() -> None:
    pixels = blurred(texture(400, 400, 1), 0.8, noise=6.0)
    unknown = attrs.evolve(tissue(pixels), reading=reading(0.3))
    assert 1.0 in accepted(judge_section(unknown, WINDOW_PX)), "noise fills the spectrum"
    known = attrs.evolve(unknown, noise_variance=(6 / 255) ** 2)
    assert 1.0 not in accepted(judge_section(known, WINDOW_PX))


def test_a_few_sharp_windows_do_not_make_a_section_sharp() -> None:
    pixels = blurred(texture(600, 600, 1), 1.5)
    pixels[:150, :150] = texture(150, 150).astype(np.uint8)
    judged = judge_section(tissue(pixels), WINDOW_PX)
    assert judged[0].sharp >= 2
    assert not judged[0].accepted


def test_factors_that_hold_no_window_are_left_out() -> None:
    factors = [one.factor for one in judge_section(tissue(texture(300, 320)), WINDOW_PX)]
    assert factors == [1.0, 0.75, 0.6, 0.5]
    assert judge_section(tissue(texture(120, 320)), WINDOW_PX) == []


def test_the_windows_that_are_counted_are_those_that_are_drawn() -> None:
    one = tissue(blurred(texture(600, 600, 1), 0.7, noise=2.0), 0.7, 2.0)
    accepted_ones = [judged for judged in judge_section(one, WINDOW_PX) if judged.accepted]
    assert len(accepted_ones) > 1
    for judged in accepted_ones:
        material = material_of([Chosen(one, [judged])], Recipe.load("default"))
        assert PatchSource(material.training, WINDOW_PX, **material.draws).windows == judged.sharp


@pytest.mark.parametrize("factor", [0.75, 0.6, 0.5, 0.25])
def test_a_reduced_image_has_half_of_the_blur_of_the_averaging(factor: float) -> None:
    frequency = 0.4 * factor
    wave = 30000 + 8000 * np.cos(2 * np.pi * frequency * (np.arange(800) + 0.5))
    pixels = np.broadcast_to(np.rint(wave).astype(np.uint16), (800, 800))

    def amplitude(image: Any) -> float:
        return float(np.std(image[40:-40, 40:-40].astype(float)))

    averaged, full = amplitude(area_downscale(pixels, factor)), amplitude(pixels)
    assert averaged < 0.85 * full
    assert amplitude(reduced(pixels, factor)) == pytest.approx(np.sqrt(averaged * full), rel=0.04)
    assert reduced(pixels, factor).shape == (800 * factor, 800 * factor)


def test_what_averaging_leaves_of_a_box_is_its_sinc() -> None:
    frequency = np.array([0.0, 0.2, 0.5])
    assert averaging(frequency, 1 / 50) == pytest.approx(np.sinc(frequency), abs=2e-3)
    assert averaging(frequency, 0.5) == pytest.approx(np.cos(np.pi * frequency / 2))


@pytest.mark.parametrize("factor", [1.0, 0.6, 0.5])
def test_noise_is_reckoned_as_it_is_after_a_reduction(factor: float) -> None:
    noise = 30000 + 2000 * np.random.default_rng(0).standard_normal((900, 900))
    left = reduced(np.rint(noise).astype(np.uint16), factor).astype(float)
    side = len(left)
    radius = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None])
    power = np.abs(np.fft.fft2(left - left.mean())) ** 2 / left.size
    measured = power[np.abs(radius - 0.484) < 1 / 64].mean() / 2000**2
    assert noise_factor(factor) == pytest.approx(measured, rel=0.1)

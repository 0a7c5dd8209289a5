"""What two sections have in common: found again where it is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from bigrestore.io.open_section import open_section
from bigrestore.run.neighbours.coherence import AROUND_PX, coherence, detail_sigma, find_shift
from tests.neighbours.conftest import layers, made_volume, stored, to_bytes


def around(image: np.ndarray, side: int = 256) -> np.ndarray:
    return image[100 - AROUND_PX : 100 + side + AROUND_PX, 100 - AROUND_PX : 100 + side + AROUND_PX]


@pytest.mark.parametrize("moved", [(0.0, 0.0), (5.0, -9.0), (-3.5, 12.25), (15.0, 15.0)])
def test_a_shift_is_found_to_half_a_pixel(moved: tuple[float, float]) -> None:
    tissue = layers()
    chance = np.random.default_rng(1)
    there = shift(tissue, moved, order=3, mode="reflect") + chance.normal(0, 0.02, tissue.shape)
    seen = find_shift(tissue[100:356, 100:356] + chance.normal(0, 0.02, (256, 256)), around(there))
    assert (seen.y, seen.x) == pytest.approx(moved, abs=0.5)
    assert seen.correlation > 0.95


def test_damage_does_not_lead_astray() -> None:
    tissue = layers()
    own, valid = tissue[100:356, 100:356].copy(), np.ones((256, 256), bool)
    own[60:200, 60:200], valid[60:200, 60:200] = 0, False
    seen = find_shift(own, around(shift(tissue, (4, -6), order=1, mode="reflect")), valid)
    assert (seen.y, seen.x) == pytest.approx((4, -6), abs=1)


def test_nothing_valid_is_no_shift() -> None:
    tissue = layers()
    seen = find_shift(tissue[100:356, 100:356], around(tissue), np.zeros((256, 256), bool))
    assert seen.correlation == 0


def test_sections_share_their_layers_and_films_their_detail(tmp_path: Path) -> None:
    serial = coherence(open_section(stored(tmp_path / "v.zarr", to_bytes(made_volume(2)))), 0, 1)
    assert 8 < serial.length_px < 64
    assert serial.values[1] > 0.9
    assert serial.values[12:].max() < 0.1, "cells differ"
    chance = np.random.default_rng(2)
    scene = layers() + gaussian_filter(chance.normal(0, 0.2, layers().shape), 1)
    film = np.clip([np.roll(scene, 3 * z, 0) + chance.normal(0, 0.004, scene.shape) for z in range(2)], 0, 1)
    seen = coherence(open_section(stored(tmp_path / "film.zarr", to_bytes(film))), 0, 1)
    assert seen.length_px < 4
    assert seen.shift_px == pytest.approx(3, abs=0.2)


def test_strangers_share_nothing(tmp_path: Path) -> None:
    chance = np.random.default_rng(3)
    noise = 0.5 + gaussian_filter(chance.normal(0, 1, (2, 512, 512)), (0, 3, 3))
    seen = coherence(open_section(stored(tmp_path / "v.zarr", to_bytes(noise))), 0, 1)
    assert not np.isfinite(seen.length_px) or seen.length_px > 64
    assert seen.to_json()["length_px"] is None or seen.to_json()["length_px"] > 64


def test_the_gaussian_halves_a_wave_of_the_coherence_length(tmp_path: Path) -> None:
    section = open_section(stored(tmp_path / "v.zarr", to_bytes(made_volume(2))))
    sigma, length = detail_sigma(section, 0), coherence(section, 0, 1).length_px
    y = np.arange(4 * int(length))
    wave = np.cos(2 * np.pi * y / length)
    kept = np.abs(np.fft.fft(gaussian_filter(wave, sigma, mode="wrap")))[4] / np.abs(np.fft.fft(wave))[4]
    assert kept == pytest.approx(0.5, abs=0.02) or sigma == 4


def test_a_small_section_is_a_sentence(
    call: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    source = stored(tmp_path / "v.zarr", to_bytes(np.full((2, 100, 100), 0.5)))
    assert call("profile", source, "--neighbours") == 3
    assert "has no window of 256 px with tissue" in " ".join(capsys.readouterr().err.split())


def test_the_profile_prints_it(
    call: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    source = stored(tmp_path / "v.zarr", to_bytes(made_volume(2)))
    assert call("profile", source, "--neighbours", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["sections"] == [0, 1]
    assert len(document["values"]) == 48
    assert call("profile", source, "--neighbours") == 0
    assert "what is longer than" in capsys.readouterr().out

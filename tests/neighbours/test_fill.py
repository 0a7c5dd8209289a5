"""Damage is filled with the low frequencies of the sections beside it, and with nothing where they do not fit."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from scipy import sparse
from scipy.ndimage import gaussian_filter
from scipy.sparse.linalg import spsolve

import bigrestore
from bigrestore.core.geometry import Box
from bigrestore.errors import OutputExistsError
from bigrestore.io.open_section import open_section
from bigrestore.run.neighbours.fill import Filler
from bigrestore.run.tile.mask import UserMask
from tests.neighbours.conftest import HOLE, HOLED, SIDE, to_bytes, with_hole

WHOLE = Box(0, SIDE, 0, SIDE)
Change = Callable[[np.ndarray], np.ndarray]
Holed = tuple[Path, Path]


def filled(holed: Holed, box: Box = WHOLE, reach: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Fill the damage of a part of the second section; return the pixels, and where they were filled."""
    section = open_section(holed[0])
    mask = UserMask.open(str(holed[1]), section.shape, Fraction(1))
    place = (HOLED, box.y0, box.y1, box.x0, box.x1)
    filler = Filler(section, mask, reach, sigma_px=6.0)
    return filler.fill(HOLED, box, section.read(*place), mask.section.read(*place) != 2)


def restored(holed: Holed, output: Path, **settings: Any) -> np.ndarray:
    given = {"method": "rational", "report": False, "progress": "none", "neighbours": 1} | settings
    bigrestore.restore(holed[0], output, mask=holed[1], **given)
    pixels: np.ndarray = zarr.open_array(output, path="0", mode="r")[:]
    return pixels


def in_low_band(image: np.ndarray) -> np.ndarray:
    return gaussian_filter(image.astype(float), 4)[HOLE]


def error_of(image: np.ndarray, true: np.ndarray) -> float:
    return float((in_low_band(image) - in_low_band(true)).std())


def harmonic(image: np.ndarray) -> np.ndarray:
    """Fill the hole as a soap film: every pixel is the mean of those around it."""
    film = image.astype(float)
    film[HOLE] = 0
    height, width = film[HOLE].shape
    around = film[199:299, 180:310] + film[201:301, 180:310] + film[200:300, 179:309] + film[200:300, 181:311]
    steps = [2 * sparse.eye(n) - sparse.eye(n, k=1) - sparse.eye(n, k=-1) for n in (height, width)]
    film[HOLE] = spsolve(sparse.csc_matrix(sparse.kronsum(steps[1], steps[0])), around.ravel()).reshape(
        height, width
    )
    return film


def test_a_hole_shows_what_the_next_section_does(holed: Holed, volume: np.ndarray) -> None:
    made, where = filled(holed)
    true = to_bytes(volume)[HOLED]
    wanted = np.zeros((SIDE, SIDE), bool)
    wanted[HOLE] = True
    assert np.array_equal(where, wanted)
    assert np.array_equal(made[~wanted], true[~wanted]), "valid pixels stay"
    assert 20 * np.log10(error_of(harmonic(true), true) / error_of(made, true)) > 2
    fine = made - gaussian_filter(made.astype(float), 2)
    assert fine[220:280, 200:290].std() < 0.6, "no texture is put on it, but the rounding of grey levels"


@pytest.fixture(scope="module")
def in_one_piece(
    volume: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> tuple[np.ndarray, np.ndarray]:
    """Return the second section filled in one piece, and where it was filled."""
    return filled(with_hole(volume, tmp_path_factory.mktemp("whole")))


@pytest.mark.parametrize("box", [Box(150, 260, 200, 420), Box(0, 230, 0, 512), Box(299, 512, 309, 512)])
def test_no_cut_is_seen(holed: Holed, in_one_piece: tuple[np.ndarray, np.ndarray], box: Box) -> None:
    part, where = filled(holed, box)
    whole, everywhere = in_one_piece
    assert np.array_equal(part, whole[box.slices(WHOLE)])
    assert np.array_equal(where, everywhere[box.slices(WHOLE)])


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(lambda volume: volume[:, ::-1], id="mirrored"),
        pytest.param(lambda volume: np.roll(volume, (40, 40), (1, 2)), id="shifted by 40 px"),
        pytest.param(lambda volume: np.rot90(volume, axes=(1, 2)), id="another brain"),
        pytest.param(np.zeros_like, id="empty"),
    ],
)
def test_what_does_not_fit_is_refused(holed: Holed, volume: np.ndarray, other: Change) -> None:
    source = zarr.open_array(holed[0], mode="r+")
    wrong = to_bytes(other(volume))
    for z in (0, 2, 3):
        source[z] = wrong[z]
    made, where = filled(holed, reach=2)
    assert not where.any()
    assert not made[HOLE].any(), "damage passes through"


def test_damage_of_a_neighbour_is_not_taken(holed: Holed, volume: np.ndarray) -> None:
    source, mask = (zarr.open_array(path, mode="r+") for path in holed)
    source[0, 190:320, 170:320], mask[0, 190:320, 170:320] = 0, 2
    made, where = filled(holed)
    assert where.any()
    assert error_of(made, to_bytes(volume)[HOLED]) < 8, "it is that of the other neighbour"
    mask[2, 190:320, 170:320] = 2
    assert not filled(holed)[1].any()


def test_a_neighbour_that_cannot_be_read_is_left_out(holed: Holed, caplog: pytest.LogCaptureFixture) -> None:
    for chunk in holed[0].glob("c/0/*/*"):
        chunk.write_bytes(b"torn")
    assert filled(holed)[1].any()
    assert "Section 0 fills no damage" in caplog.text
    assert caplog.text.count("fills no damage") == 1, "it is said once"


def test_a_run_fills_maps_and_counts(holed: Holed, tmp_path: Path) -> None:
    output = tmp_path / "out.zarr"
    settings = {"method": "rational", "report": False, "progress": "none", "neighbours": 1}
    summary = bigrestore.restore(holed[0], output, mask=holed[1], scale=2, maps="filled", **settings)
    shown: np.ndarray = zarr.open_array(output, path="maps/filled/0", mode="r")[:]
    wanted = np.zeros((4, SIDE, SIDE), np.float32)
    wanted[HOLED][HOLE] = 1
    assert np.array_equal(shown, np.kron(wanted, np.ones((1, 2, 2), np.float32)))
    assert ("damage", "100% of 13000 px filled from neighbouring sections") in summary.rows()


def test_blocks_and_regions_give_the_same(holed: Holed, tmp_path: Path) -> None:
    whole = restored(holed, tmp_path / "whole.zarr")
    blocks = restored(holed, tmp_path / "blocks.zarr", block_size=480, tile_size=240, roi="1:2,0:512,0:512")
    assert whole[HOLED][HOLE].all()
    assert np.array_equal(blocks[0], whole[HOLED])
    source = zarr.open_array(holed[0], mode="r+")
    source[0, 250, 400] ^= 1
    with pytest.raises(OutputExistsError, match="was changed since"):
        restored(holed, tmp_path / "whole.zarr", resume=True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--neighbours", 1), "--mask is auto and names no damage"),
        (("--neighbours", 9, "--mask", "M"), "--neighbours is 9"),
        (("--neighbours", -1, "--mask", "M"), "--neighbours is -1"),
        (("--maps", "filled"), "give --neighbours N"),
    ],
)
def test_a_wrong_setting_is_a_sentence(
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    holed: Holed,
    tmp_path: Path,
    arguments: tuple[object, ...],
    words: str,
) -> None:
    given = [holed[1] if each == "M" else each for each in arguments]
    assert call("run", holed[0], tmp_path / "out.zarr", "--method", "rational", *given) == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_one_section_has_no_neighbours(
    call: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    zarr.save_array(tmp_path / "one.zarr", np.full((64, 64), 9, np.uint8))
    zarr.save_array(tmp_path / "mask.zarr", np.full((64, 64), 2, np.uint8))
    given = ("--neighbours", 1, "--mask", tmp_path / "mask.zarr", "--method", "rational")
    assert call("run", tmp_path / "one.zarr", tmp_path / "out.zarr", *given) == 2
    assert "is one section" in " ".join(capsys.readouterr().err.split())

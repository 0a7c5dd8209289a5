"""Sections of a volume that cannot be read: their blocks fail, the others are restored, the first section included."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import attrs
import numpy as np
import pytest
import zarr

import bigrestore
from bigrestore.errors import InputError
from bigrestore.run.execute import execute
from bigrestore.run.view.dry_run import estimate
from bigrestore.settings import RunSettings
from tests.run.engine_toys import level0

PLAIN = RunSettings(method="rational", progress="none", report=False)


def volume(path: Path, tissue: np.ndarray, damaged: set[int], side: int = 160) -> Path:
    """Store three sections, one chunk each, of which some are damaged."""
    array = zarr.create_array(path, shape=(3, side, side), chunks=(1, side, side), dtype="uint8")
    array[:] = np.stack([tissue[8 * z :, 8 * z :][:side, :side] for z in range(3)])
    for z in damaged:
        (path / f"c/{z}/0/0").write_bytes(b"no zstd frame")
    return path


@pytest.mark.parametrize("damaged", [{0}, {0, 1}, {1}, {1, 2}])
def test_the_others_are_restored(tmp_path: Path, tissue: np.ndarray, damaged: set[int]) -> None:
    source, out, whole = (tmp_path / name for name in ("in.zarr", "out.ome.zarr", "whole.ome.zarr"))
    summary = execute(volume(source, tissue, damaged), out, PLAIN)
    assert {name.partition("-")[0] for name in summary.failed} == {f"z{z:05d}" for z in damaged}
    execute(volume(tmp_path / "whole.zarr", tissue, set()), whole, PLAIN)
    for z in {0, 1, 2} - damaged:
        np.testing.assert_array_equal(level0(out)[z], level0(whole)[z])


@pytest.mark.parametrize(("roi", "damaged"), [(None, {0, 1, 2}), ("1:3,0:160,0:160", {1, 2})])
def test_without_any_that_can_be_read_nothing_is_begun(
    tmp_path: Path, tissue: np.ndarray, roi: str | None, damaged: set[int]
) -> None:
    source, out = volume(tmp_path / "in.zarr", tissue, damaged), tmp_path / "out.ome.zarr"
    with pytest.raises(InputError, match="cannot be decoded"):
        execute(source, out, RunSettings(method="rational", progress="none", roi=roi))
    assert [path.name for path in tmp_path.iterdir()] == ["in.zarr"]


@pytest.mark.parametrize("damaged", [{0}, {1}, {0, 1}, {1, 2}])
def test_a_dry_run_times_a_tile_that_can_be_read(
    tmp_path: Path, tissue: np.ndarray, damaged: set[int]
) -> None:
    source = volume(tmp_path / "in.zarr", tissue, damaged)
    assert estimate(source, tmp_path / "out.ome.zarr", PLAIN).tile_seconds > 0


def test_each_is_warned_of_once(tmp_path: Path, tissue: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
    source = volume(tmp_path / "in.zarr", tissue, {0, 1})
    with caplog.at_level(logging.WARNING, "bigrestore"):
        execute(source, tmp_path / "out.ome.zarr", PLAIN)
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [text.partition(":")[0] for text in warned] == [
        "Section 0 cannot be read",
        "Section 1 cannot be read",
    ]


@pytest.mark.parametrize("damaged", [{0}, {1}, {0, 2}])
def test_scores_count_its_tiles_as_failed(tmp_path: Path, tissue: np.ndarray, damaged: set[int]) -> None:
    source, folder = volume(tmp_path / "in.zarr", tissue, damaged, side=200), tmp_path / "scores"
    seen = bigrestore.score(source, folder, tile_size=96, metrics=("niqe",), progress="none")
    rows = seen.tiles.to_pydict()
    assert {z for z, reason in zip(rows["z"], rows["reason"], strict=True) if reason == "failed"} == damaged
    assert {z for z, reason in zip(rows["z"], rows["reason"], strict=True) if not reason} == {
        0,
        1,
        2,
    } - damaged
    said = [text for name, text in seen.rows() if name == "not scored"]
    assert [text.partition(":")[0] for text in said] == [f"section {z}" for z in sorted(damaged)]
    assert "cannot be decoded" in (folder / "report.html").read_text()


def test_a_sample_of_the_tiles_is_one_of_the_others(tmp_path: Path, tissue: np.ndarray) -> None:
    whole = volume(tmp_path / "whole.zarr", tissue, set(), side=200)
    damaged = volume(tmp_path / "in.zarr", tissue, {0}, side=200)
    seen = bigrestore.score(damaged, before=whole, tile_size=96, metrics=("niqe",), sample=6, progress="none")
    rows = seen.tiles.to_pydict()
    assert {z for z, reason in zip(rows["z"], rows["reason"], strict=True) if not reason} == {1, 2}


def test_scores_of_nothing_that_can_be_read_are_refused(tmp_path: Path, tissue: np.ndarray) -> None:
    source = volume(tmp_path / "in.zarr", tissue, {0, 1, 2}, side=200)
    with pytest.raises(InputError, match="cannot be decoded"):
        bigrestore.score(source, tile_size=96, metrics=("niqe",), progress="none")


@pytest.mark.parametrize(("damaged", "code"), [({0}, 0), ({0, 1, 2}, 3)])
def test_profile_says_so_and_refuses_a_volume_of_them_alone(
    tmp_path: Path,
    tissue: np.ndarray,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    damaged: set[int],
    code: int,
) -> None:
    source = volume(tmp_path / "in.zarr", tissue, damaged)
    assert call("profile", source, "--json", "--no-gain", "--method", "wiener") == code
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["z"] for line in lines if not line["readable"]} == damaged


def test_a_repaired_section_without_a_tone_is_named(
    tmp_path: Path, tissue: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    source, out = volume(tmp_path / "in.zarr", tissue, {0}), tmp_path / "out.ome.zarr"
    settings = attrs.evolve(PLAIN, harmonise=True)
    assert execute(source, out, settings).failed
    volume(tmp_path / "whole.zarr", tissue, set())
    shutil.copy(tmp_path / "whole.zarr/c/0/0/0", source / "c/0/0/0")
    with caplog.at_level(logging.WARNING, "bigrestore"):
        assert not execute(source, out, attrs.evolve(settings, resume=True)).failed
    assert "Section(s) 0 keep their brightness" in caplog.text

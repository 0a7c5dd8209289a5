"""A whole section through the engine: no seam, the bytes of the seed, and a true table."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from typer.testing import CliRunner

from bigrestore.degradation import api
from bigrestore.degradation.api import degrade
from bigrestore.degradation.schema import Recipe
from bigrestore.degradation.section import SectionDegrader
from bigrestore.errors import BlocksFailedError, OutputError
from bigrestore.io.open_section import open_section
from bigrestore.io.store.ome_zarr import create_store, finish_store, open_level, write_block
from bigrestore.io.store.pyramid import build_pyramid
from bigrestore.io.store.store_spec import StoreSpec
from bigrestore.model.method import SectionStatistics, TileBatch, TileResult

FULL = {
    "name": "full",
    "blur": {"probability": 1.0, "kinds": {"anisotropic": 1.0}},
    "lines": {"probability": 1.0},
    "banding": {"probability": 1.0},
    "damage": {"probability": 1.0},
    "illumination": {"probability": 1.0},
    "stain": {"probability": 1.0},
    "noise": {"probability": 1.0},
    "storage": {"eight_bit_probability": 1.0, "jpeg_probability": 1.0},
    "second_pass": {"probability": 1.0, "storage": {"jpeg_probability": 1.0}},
    "scanning": {"factors": {"2": 1.0}},
    "resampling": {"probability": 1.0, "amplitude_px": 3.0, "period_px": 300.0},
}


def save(path: Path, pixels: np.ndarray) -> Path:
    array = zarr.create_array(
        path, shape=pixels.shape, chunks=(1, 128, 128)[-pixels.ndim :], dtype=pixels.dtype
    )
    array[:] = pixels
    return path


def pixels(*shape: int, dtype: str = "uint8") -> np.ndarray:
    smooth = np.random.default_rng(0).random(shape)
    return (smooth * (255 if dtype == "uint8" else 65535)).astype(dtype)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_store_is_the_section_degraded_in_one_piece(
    tmp_path: Path, scale: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(api.WHOLE_TILE_PX, scale, 64)
    clean = pixels(168 * scale, 200 * scale)
    recipe = Recipe.from_dict(FULL)
    table = degrade(
        save(tmp_path / "c.zarr", clean),
        tmp_path / "out",
        scale=scale,
        whole=True,
        seed=6,
        recipe=recipe,
        progress="none",
    )
    stored = open_section(tmp_path / "out" / "lq.ome.zarr")
    made = stored.read(0, 0, stored.height, 0, stored.width)
    degrader = SectionDegrader(api._for_whole(recipe, scale, 6), *clean.shape, seed=6)
    batch = TileBatch((clean.astype(np.float32) / 255)[None], None, np.zeros((1, 2), np.int64), 0)
    whole = degrader.restore(batch, degrader.analyse(batch.pixels[:0])).pixels[0]
    assert np.array_equal(made, np.rint(whole * 255).astype(np.uint8))
    (row,) = pq.read_table(table).to_pylist()
    assert (row["lq"], row["height"], row["width"]) == ("lq.ome.zarr", *clean.shape)
    assert row["hq"] == str(tmp_path / "c.zarr")
    assert row["damage"] > 0


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    source = save(tmp_path / "c.zarr", pixels(200, 230))
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        degrade(source, tmp_path / name, scale=2, whole=True, seed=seed, progress="none")
    a, b, c = (digests(tmp_path / name) for name in "abc")
    assert a == b
    assert a != c
    assert not any("bigrestore" in name for name in a), "the engine's journal holds times"


def test_a_volume_keeps_its_sections_apart(tmp_path: Path) -> None:
    clean = np.repeat(pixels(1, 100, 120), 3, axis=0)
    recipe = Recipe.from_dict({"name": "noise", "noise": {"probability": 1.0, "read_255": 4}})
    table = degrade(
        save(tmp_path / "c.zarr", clean), tmp_path / "out", whole=True, recipe=recipe, progress="none"
    )
    stored = open_section(tmp_path / "out" / "lq.ome.zarr")
    assert stored.shape == (3, 100, 120)
    first, second = (stored.read(z, 0, 100, 0, 120).astype(float) for z in (0, 1))
    assert not np.array_equal(first, second)
    assert [row["z"] for row in pq.read_table(table).to_pylist()] == [0, 1, 2]


def test_depth_and_voxel_size_are_carried_over(tmp_path: Path) -> None:
    source = tmp_path / "c.ome.zarr"
    spec = StoreSpec(shape=(1, 96, 96), dtype=np.dtype("uint16"), voxel_size_um=(None, 10.0, 10.0))
    create_store(source, spec)
    clean = pixels(96, 96, dtype="uint16")
    write_block(open_level(source, 0), 0, 0, 0, clean)
    build_pyramid(source, spec)
    finish_store(source, spec, (0.0, 65535.0), {})
    recipe = Recipe.from_dict({"name": "nothing", "identity_probability": 1.0})
    degrade(source, tmp_path / "out", scale=2, whole=True, recipe=recipe, progress="none")
    stored = open_section(tmp_path / "out" / "lq.ome.zarr")
    assert stored.dtype == np.uint16
    assert stored.voxel_size_um[1:] == (20.0, 20.0)
    mean = clean.reshape(48, 2, 48, 2).mean(axis=(1, 3))
    assert np.abs(stored.read(0, 0, 48, 0, 48) - mean).max() <= 0.51


@pytest.mark.parametrize("whole", [True, False])
def test_an_input_is_never_written_into(tmp_path: Path, whole: bool) -> None:
    source = save(tmp_path / "c.zarr", pixels(200, 230))
    before = digests(source)
    options = {"whole": True} if whole else {"count": 1, "patch_px": 32}
    with pytest.raises(OutputError, match="inside the input"):
        degrade(source, source / "pairs", overwrite=True, progress="none", **options)  # type: ignore[arg-type]
    with pytest.raises(OutputError, match="inside the output"):
        degrade(source, tmp_path, overwrite=True, progress="none", **options)  # type: ignore[arg-type]
    assert digests(source) == before


def test_a_stopped_section_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = save(tmp_path / "c.zarr", np.repeat(pixels(1, 64, 80), 4, axis=0))
    whole = degrade(source, tmp_path / "whole", whole=True, seed=2, progress="none")
    calls: list[int] = []
    honest = SectionDegrader.restore

    def breaks(self: SectionDegrader, batch: TileBatch, statistics: SectionStatistics) -> TileResult:
        calls.append(batch.z)
        if batch.z == 2 and calls.count(2) == 1:
            raise RuntimeError("section 2 is haunted")
        return honest(self, batch, statistics)

    monkeypatch.setattr(SectionDegrader, "restore", breaks)
    with pytest.raises(BlocksFailedError, match="resume"):
        degrade(source, tmp_path / "out", whole=True, seed=2, progress="none")
    assert not (tmp_path / "out" / "pairs.parquet").exists(), "a folder that is not complete has no table"
    calls[:] = [2]
    table = degrade(source, tmp_path / "out", whole=True, seed=2, resume=True, progress="none")
    assert calls == [2, 2], "only what was missing is done again"
    assert digests(tmp_path / "out") == digests(whole.parent)
    assert degrade(source, tmp_path / "out", whole=True, seed=2, resume=True, progress="none") == table
    assert calls == [2, 2]


def test_the_command_line_degrades_a_whole_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import typer

    from bigrestore.cli.degrade import degrade_command as command

    monkeypatch.setattr("bigrestore.cli.log.configure_logging", lambda **_: None)
    app = typer.Typer()
    app.command()(command)
    source = save(tmp_path / "c.zarr", pixels(64, 80))
    out = tmp_path / "out"
    result = CliRunner().invoke(
        app, [str(source), str(out), "--scale", "2", "--whole", "--recipe", "bigbrain"]
    )
    assert result.exit_code == 0, result.output
    assert open_section(out / "lq.ome.zarr").shape == (1, 32, 40)


@pytest.mark.parametrize(
    "added", ["lq.ome.zarr/labels/a", "lq.ome.zarr/0/notes.txt", "lq.ome.zarr.bigrestore/mine"]
)
def test_overwrite_spares_what_was_added_to_a_whole_section(tmp_path: Path, added: str) -> None:
    source = save(tmp_path / "in.zarr", pixels(300, 300))
    out = tmp_path / "pairs"
    degrade(source, out, whole=True, scale=2, seed=1)
    mine = out / added
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_text("years of work")
    with pytest.raises(OutputError):
        degrade(source, out, whole=True, scale=2, seed=1, overwrite=True)
    assert mine.read_text() == "years of work"
    mine.unlink()
    if mine.parent.name in ("labels", "lq.ome.zarr.bigrestore"):
        mine.parent.rmdir()
    degrade(source, out, whole=True, scale=2, seed=2, overwrite=True)

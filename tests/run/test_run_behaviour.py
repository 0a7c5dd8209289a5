"""What a run does besides restoring: bytes, colour, background, masks, volumes, failures."""

from __future__ import annotations

import hashlib
import json
import logging
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_toys import Fir, go, level0, save_zarr
from PIL import Image

from bigrestore.core.pixels import LUMA
from bigrestore.errors import (
    BlocksFailedError,
    InputError,
    OutputError,
    OutputExistsError,
    UsageError,
)
from bigrestore.model.method import TileBatch, TileResult
from bigrestore.run.tile.mask import flat_cells
from bigrestore.run.view.dry_run import estimate
from bigrestore.settings import RunSettings


def digest(folder: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        found.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return found.hexdigest()


def glass(tissue: np.ndarray, sigma: float = 0.0) -> np.ndarray:
    """Tissue in the middle of a large white slide."""
    slide = np.full((1100, 1500), 250.0)
    slide[300:700, 500:1000] = np.minimum(tissue[:400, :500], 235)
    noise = np.random.default_rng(3).normal(0, sigma, slide.shape) if sigma else 0.0
    return np.rint(np.clip(slide + noise, 0, 255)).astype(np.uint8)


@pytest.mark.parametrize("threads", [1, 4])
def test_same_command_same_bytes(tmp_path: Path, tissue: np.ndarray, threads: int) -> None:
    source = save_zarr(tmp_path / "in.zarr", tissue)
    for name in ("a", "b"):
        go(source, tmp_path / f"{name}.ome.zarr", method="rational", scale=2, threads=threads, mask="auto")
    assert digest(tmp_path / "a.ome.zarr") == digest(tmp_path / "b.ome.zarr")


def test_threads_and_resuming_leave_no_trace_in_the_bytes(tmp_path: Path, tissue: np.ndarray) -> None:
    source = save_zarr(tmp_path / "in.zarr", tissue)
    go(source, tmp_path / "a.ome.zarr", Fir(), threads=1)
    go(source, tmp_path / "b.ome.zarr", Fir(), threads=3)
    assert digest(tmp_path / "a.ome.zarr") == digest(tmp_path / "b.ome.zarr")


def test_colour_is_carried_and_luma_restored(
    tmp_path: Path, rgb: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    Image.fromarray(rgb).save(tmp_path / "in.png")
    with caplog.at_level(logging.INFO):
        go(tmp_path / "in.png", tmp_path / "out.zarr", Fir())
    assert "luma" in caplog.text
    out = np.moveaxis(level0(tmp_path / "out.zarr"), 0, -1)
    unit = rgb.astype(np.float32) / np.float32(255)
    before = unit @ LUMA
    wanted = np.clip(unit + (Fir().whole(before) - before)[..., None], 0, 1)
    np.testing.assert_allclose(out, wanted * 255, atol=0.51)


def test_colour_at_scale_two_keeps_hue(tmp_path: Path, rgb: np.ndarray) -> None:
    Image.fromarray(rgb[:200, :300]).save(tmp_path / "in.png")
    go(tmp_path / "in.png", tmp_path / "out.zarr", method="catmull-rom", scale=2)
    out = np.moveaxis(level0(tmp_path / "out.zarr"), 0, -1).astype(float)
    small = out.reshape(200, 2, 300, 2, 3).mean(axis=(1, 3))
    assert np.abs(small - rgb[:200, :300]).mean() < 3


@pytest.mark.parametrize("sigma", [0.0, 2.0])
def test_background_is_interpolated_and_no_tissue_is(
    tmp_path: Path, tissue: np.ndarray, sigma: float
) -> None:
    slide = glass(tissue, sigma)
    method = Fir()
    summary = go(save_zarr(tmp_path / "in.zarr", slide), tmp_path / "out.zarr", method, mask="auto")
    out = level0(tmp_path / "out.zarr")
    whole = np.rint(method.whole(slide.astype(np.float32) / np.float32(255)) * np.float32(255)).astype(
        np.uint8
    )
    np.testing.assert_array_equal(out[300:700, 500:1000], whole[300:700, 500:1000])
    np.testing.assert_array_equal(out[:128, :300], slide[:128, :300])
    assert summary.blocks_empty >= 2
    everything = Fir()
    go(tmp_path / "in.zarr", tmp_path / "all.zarr", everything, mask="none")
    assert method.calls < everything.calls


def test_noisy_glass_is_restored_like_tissue(tmp_path: Path, tissue: np.ndarray) -> None:
    slide = glass(tissue, 4.0)
    method = Fir()
    go(save_zarr(tmp_path / "in.zarr", slide), tmp_path / "out.zarr", method, mask="auto")
    whole = method.whole(slide.astype(np.float32) / np.float32(255)) * np.float32(255)
    np.testing.assert_array_equal(level0(tmp_path / "out.zarr"), np.rint(whole).astype(np.uint8))


def test_background_does_not_depend_on_the_cut(tmp_path: Path, tissue: np.ndarray) -> None:
    source = save_zarr(tmp_path / "in.zarr", glass(tissue, 2.0))
    stores = []
    for index, cut in enumerate([{"tile_size": 96}, {"tile_size": 480, "block_size": 1440}]):
        go(source, tmp_path / f"{index}.zarr", Fir(2), mask="auto", **cut)
        stores.append(level0(tmp_path / f"{index}.zarr"))
    np.testing.assert_array_equal(*stores)
    go(source, tmp_path / "roi.zarr", Fir(2), mask="auto", roi="411:1333,777:2001")
    np.testing.assert_array_equal(level0(tmp_path / "roi.zarr"), stores[0][411:1333, 777:2001])


@pytest.mark.parametrize("size", [1, 3])
def test_one_faint_cell_makes_its_lattice_cell_tissue(size: int) -> None:
    noise = np.random.default_rng(0).normal(0, 2 / 255, (192, 192))
    grey = (np.float32(0.95) + noise).astype(np.float32)
    assert flat_cells(grey, 0.95, 2 / 255).all()
    grey[100 : 100 + size, 100 : 100 + size] -= 0.1
    flat = flat_cells(grey, 0.95, 2 / 255)
    assert not flat[1, 1]
    assert flat.sum() == 8


def test_black_fill_is_background_and_texture_at_the_level_is_not() -> None:
    assert flat_cells(np.zeros((64, 64), np.float32), 0.95, 0.0).all()
    ramp = np.broadcast_to(np.linspace(0.94, 0.96, 64, dtype=np.float32), (64, 64))
    assert not flat_cells(ramp, 0.95, 1 / 255).any()


def test_full_field_tissue_has_no_background(tmp_path: Path, tissue: np.ndarray) -> None:
    method = Fir()
    summary = go(save_zarr(tmp_path / "in.zarr", tissue), tmp_path / "out.zarr", method, mask="auto")
    assert summary.blocks_empty == 0
    stored = json.loads((tmp_path / "out.zarr.bigrestore/profiles/z00000.json").read_text())
    assert stored["background"] is None
    assert stored["windows"] == 40


def test_mask_passes_through_what_it_says_and_hides_damage(tmp_path: Path, tissue: np.ndarray) -> None:
    drawn = np.full(tissue.shape, 255, np.uint8)
    drawn[:200], drawn[300:340, 100:400] = 0, 2
    seen: list[Any] = []
    method = Fir(hook=lambda _, batch: seen.append(batch))
    save_zarr(tmp_path / "mask.zarr", drawn)
    source = save_zarr(tmp_path / "in.zarr", tissue)
    go(source, tmp_path / "out.zarr", method, mask=str(tmp_path / "mask.zarr"))
    out = level0(tmp_path / "out.zarr")
    whole = np.rint(method.whole(tissue.astype(np.float32) / 255) * np.float32(255)).astype(np.uint8)
    np.testing.assert_array_equal(out, np.where((drawn == 0) | (drawn == 2), tissue, whole))
    marked = [batch for batch in seen if batch.valid is not None]
    assert marked
    for batch in marked:
        for (y, x), valid in zip(batch.origins, batch.valid, strict=True):
            inside = (drawn == 2)[y : y + valid.shape[0], x : x + valid.shape[1]]
            np.testing.assert_array_equal(~valid[: inside.shape[0], : inside.shape[1]], inside)


def test_mask_of_another_shape_is_refused(tmp_path: Path, tissue: np.ndarray) -> None:
    source = save_zarr(tmp_path / "in.zarr", tissue)
    mask = save_zarr(tmp_path / "mask.zarr", tissue[:-1])
    with pytest.raises(UsageError, match="shape"):
        go(source, tmp_path / "out.zarr", Fir(), mask=str(mask))
    assert not (tmp_path / "out.zarr").exists()


def test_volume_has_a_profile_per_section(tmp_path: Path, tissue: np.ndarray) -> None:
    volume = np.stack([tissue[:300, :500], tissue[100:400, 200:700], tissue[300:600, :500]])
    method = Fir()
    summary = go(save_zarr(tmp_path / "in.zarr", volume), tmp_path / "out.zarr", method)
    out = level0(tmp_path / "out.zarr")
    for z in range(3):
        wanted = np.rint(method.whole(volume[z].astype(np.float32) / 255) * np.float32(255)).astype(np.uint8)
        np.testing.assert_array_equal(out[z], wanted)
    assert summary.blocks_done == 6
    assert sorted(p.name for p in (tmp_path / "out.zarr.bigrestore/profiles").iterdir()) == [
        f"z{z:05d}.json" for z in range(3)
    ]
    go(tmp_path / "in.zarr", tmp_path / "part.zarr", Fir(), roi="1:3,0:300,10:20")
    np.testing.assert_array_equal(level0(tmp_path / "part.zarr"), out[1:3, :, 10:20])


def bad_from(call: int) -> Any:
    def hook(number: int, batch: TileBatch) -> None:
        if number == call:
            raise ValueError("the toy is broken")

    return hook


def test_a_failed_block_is_listed_and_the_rest_goes_on(tmp_path: Path, tissue: np.ndarray) -> None:
    source = save_zarr(tmp_path / "in.zarr", tissue)
    summary = go(source, tmp_path / "out.zarr", Fir(hook=bad_from(3)), threads=1)
    assert list(summary.failed) == ["z00000-y0000-x0000"]
    assert summary.blocks_done == 5
    with pytest.raises(BlocksFailedError, match="toy is broken") as info:
        summary.raise_if_failed()
    assert info.value.exit_code == 5
    out = level0(tmp_path / "out.zarr")
    assert (out[:480, :480] == 0).all()
    assert (out[:480, 480:] > 0).any()
    method = Fir()
    again = go(source, tmp_path / "out.zarr", method, threads=1, resume=True)
    assert (again.blocks_restored, method.calls) == (1, 9)
    assert not again.failed
    np.testing.assert_array_equal(level0(tmp_path / "out.zarr")[:480, :480] > 0, tissue[:480, :480] > 0)


class Poisoned(Fir):
    def restore(self, batch: TileBatch, statistics: Any) -> TileResult:
        result = super().restore(batch, statistics)
        if (batch.origins == 0).all():
            result.pixels[0, 20, 20] = np.nan
        return result


def test_nan_from_the_method_fails_its_block(tmp_path: Path, tissue: np.ndarray) -> None:
    summary = go(save_zarr(tmp_path / "in.zarr", tissue), tmp_path / "out.zarr", Poisoned())
    assert list(summary.failed) == ["z00000-y0000-x0000"]
    assert "no numbers" in summary.failed["z00000-y0000-x0000"]


class Hungry(Fir):
    """Runs out of memory on tiles of more than 100 x 100 pixels."""

    def restore(self, batch: TileBatch, statistics: Any) -> TileResult:
        if batch.pixels.size > 100 * 100:
            raise MemoryError("too large")
        return super().restore(batch, statistics)


def test_a_tile_that_does_not_fit_is_cut_and_recorded(tmp_path: Path, tissue: np.ndarray) -> None:
    source = save_zarr(tmp_path / "in.zarr", tissue)
    go(source, tmp_path / "out.zarr", Hungry())
    wanted = np.rint(Fir().whole(tissue.astype(np.float32) / 255) * np.float32(255)).astype(np.uint8)
    np.testing.assert_array_equal(level0(tmp_path / "out.zarr"), wanted)
    record = json.loads((tmp_path / "out.zarr.bigrestore/journal/z00000-y0000-x0000.json").read_text())
    assert record["stats"]["cut_tiles"] >= 9
    summary = go(source, tmp_path / "strict.zarr", Hungry(), deterministic=True)
    assert (summary.blocks_failed, summary.blocks_done) == (5, 1), "the last block is one small tile"


def test_nan_in_the_input_is_the_inputs_fault(tmp_path: Path) -> None:
    pixels = np.full((300, 300), 0.5, np.float32)
    pixels[7, 9] = np.nan
    with pytest.raises(InputError, match="y=7, x=9"):
        go(save_zarr(tmp_path / "in.zarr", pixels), tmp_path / "out.zarr", Fir()).raise_if_failed()


def test_floats_outside_the_range_are_not_guessed(tmp_path: Path, tissue: np.ndarray) -> None:
    pixels = tissue.astype(np.float32)
    source = save_zarr(tmp_path / "in.zarr", pixels)
    with pytest.raises(InputError, match="--input-range"):
        go(source, tmp_path / "out.zarr", Fir())
    go(source, tmp_path / "ok.zarr", method="rational", input_range=(0.0, 255.0))
    np.testing.assert_allclose(level0(tmp_path / "ok.zarr"), pixels, atol=1e-4)


def test_statistics_are_in_the_journal(tmp_path: Path, tissue: np.ndarray) -> None:
    go(save_zarr(tmp_path / "in.zarr", tissue), tmp_path / "out.zarr", Fir())
    record = json.loads((tmp_path / "out.zarr.bigrestore/journal/z00000-y0000-x0001.json").read_text())
    assert record["stats"]["mean_before"] == pytest.approx(tissue[:480, 480:960].mean() / 255, abs=1e-5)
    assert record["stats"]["mean_after"] == pytest.approx(
        level0(tmp_path / "out.zarr")[:480, 480:960].mean() / 255, abs=1e-5
    )
    assert record["files"]
    assert record["stats"]["seconds"] > 0


@pytest.mark.parametrize("place", ["in.zarr/out.zarr", "in.zarr", "."])
def test_output_and_input_must_not_hold_each_other(tmp_path: Path, tissue: np.ndarray, place: str) -> None:
    source = save_zarr(tmp_path / "in.zarr", tissue)
    with pytest.raises(OutputError, match=r"lies inside|itself"):
        go(source, tmp_path / place, Fir())
    np.testing.assert_array_equal(np.asarray(__import__("zarr").open_array(source)), tissue)


def test_an_existing_output_is_refused_and_overwriting_spares_what_no_run_made(
    tmp_path: Path, tissue: np.ndarray
) -> None:
    source = save_zarr(tmp_path / "in.zarr", tissue)
    out = tmp_path / "out.zarr"
    go(source, out, Fir())
    with pytest.raises(OutputExistsError, match="--resume"):
        go(source, out, Fir())
    assert go(source, out, Fir(), overwrite=True).blocks_restored == 6
    (tmp_path / "diary").mkdir()
    (tmp_path / "diary/page.txt").write_text("dear diary")
    with pytest.raises(OutputError, match="no run of this program made"):
        go(source, tmp_path / "diary", Fir(), overwrite=True)
    assert (tmp_path / "diary/page.txt").exists()


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path: Path, tissue: np.ndarray) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose a place"):
        go(save_zarr(tmp_path / "in.zarr", tissue), tmp_path / "file/out.zarr", Fir())


@pytest.mark.parametrize(
    "settings",
    [
        {"tile_size": 64, "overlap": 40},
        {"roi": "0:9999,0:10"},
        {"roi": "5:6,0:10,0:10"},
        {"format": "ome-tiff"},
    ],
)
def test_settings_that_do_not_fit_the_input_are_refused(
    tmp_path: Path, tissue: np.ndarray, settings: dict[str, Any]
) -> None:
    with pytest.raises(UsageError):
        go(save_zarr(tmp_path / "in.zarr", tissue), tmp_path / "out.zarr", Fir(), **settings)
    assert not (tmp_path / "out.zarr").exists()


def test_names_that_are_no_output_are_refused(tmp_path: Path, tissue: np.ndarray) -> None:
    with pytest.raises(UsageError, match=r"ome\.zarr"):
        go(save_zarr(tmp_path / "in.zarr", tissue), tmp_path / "out.png", Fir())


def test_dry_run_says_what_the_run_then_does(tmp_path: Path, tissue: np.ndarray) -> None:
    source = save_zarr(tmp_path / "in.zarr", tissue)
    settings = RunSettings(
        method="catmull-rom", scale=2, block_size=480, tile_size=160, threads=2, mask="none"
    )
    found = estimate(source, tmp_path / "out.ome.zarr", settings)
    assert not (tmp_path / "out.ome.zarr").exists()
    assert not (tmp_path / "out.ome.zarr.bigrestore").exists()
    summary = go(source, tmp_path / "out.ome.zarr", method="catmull-rom", scale=2)
    assert found.blocks == summary.blocks_done == 15
    assert found.redundancy == pytest.approx(summary.redundancy, abs=1e-4)
    assert found.shape_out == (1, *level0(tmp_path / "out.ome.zarr").shape)
    shards = [p for p in (tmp_path / "out.ome.zarr").rglob("*") if p.is_file() and p.name != "zarr.json"]
    assert found.files == len(shards)
    assert found.bytes_in == tissue.size
    assert found.seconds > 0
    json.dumps(found.to_json())


def test_degradation_runs_on_the_same_road(tmp_path: Path, tissue: np.ndarray) -> None:
    method = Fir(Fraction(1, 4))
    summary = go(save_zarr(tmp_path / "in.zarr", tissue), tmp_path / "out.zarr", method, tile_size=64)
    assert level0(tmp_path / "out.zarr").shape == (175, 258)
    assert summary.blocks_done == 1

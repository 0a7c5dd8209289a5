"""The report of a run: complete, the same on every road to it, and never at the cost of a pixel."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from engine_toys import Fir, Moody, go, save_zarr

from bigrestore.core.geometry import Grid
from bigrestore.errors import CheckFailedError, StoppedError, UsageError
from bigrestore.model.method import PSI_SIZE, RESIDUAL_STEP_PX, SectionStatistics, TileBatch, TileResult
from bigrestore.report import of_run as run_report
from bigrestore.report import sink as report_sink
from bigrestore.report.blocks import RunScores, ScorePlan
from bigrestore.report.pool import ScorePool
from bigrestore.report.table.tiles import EngineSpec, Strip


def digest(folder: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        found.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return found.hexdigest()


def tiles(output: Path) -> dict[str, list[Any]]:
    return pq.read_table(output.with_name(output.name + ".bigrestore") / "report/tiles.parquet").to_pydict()


def same(one: dict[str, list[Any]], other: dict[str, list[Any]]) -> None:
    assert list(one) == list(other)
    for name in one:
        np.testing.assert_array_equal(np.array(one[name]), np.array(other[name]), err_msg=name)


@pytest.fixture
def real_page() -> None:
    """Ask for the page itself; elsewhere a stand-in saves the time of its pictures."""


@pytest.fixture(autouse=True)
def page(request: pytest.FixtureRequest) -> None:
    if "real_page" not in request.fixturenames:
        request.getfixturevalue("quick_page")


@pytest.fixture
def real_scores() -> None:
    """Ask for the scores themselves; elsewhere those of a stand-in save half of the time of a run."""


@pytest.fixture(autouse=True)
def scores(request: pytest.FixtureRequest) -> None:
    if "real_scores" not in request.fixturenames:
        request.getfixturevalue("quick_scores")


@pytest.fixture
def wide(tissue: np.ndarray) -> np.ndarray:
    """Real tissue, 1000 x 1030: four score tiles on the lattice of 480 px and five anchored at the border."""
    return np.pad(tissue, [(0, 300), (0, 0)], mode="reflect")


@pytest.fixture
def source(tmp_path: Path, wide: np.ndarray) -> Path:
    return save_zarr(tmp_path / "in.zarr", wide)


@pytest.fixture
def small_source(tmp_path: Path, wide: np.ndarray) -> Path:
    """Four tiles, three of them anchored at the border."""
    return save_zarr(tmp_path / "in.zarr", np.ascontiguousarray(wide[:600, :520]))


def test_pixels_do_not_change_by_a_bit(tmp_path: Path, source: Path) -> None:
    go(source, tmp_path / "with.zarr", Fir(), report=True)
    go(source, tmp_path / "without.zarr", Fir(), report=False)
    assert digest(tmp_path / "with.zarr") == digest(tmp_path / "without.zarr")
    assert not (tmp_path / "without.zarr.bigrestore/report").exists()


def test_the_report_has_every_tile_and_is_the_same_for_any_cut_and_threads(
    tmp_path: Path, source: Path, real_page: None, real_scores: None
) -> None:
    go(source, tmp_path / "a.zarr", Fir(), report=True, block_size=480, tile_size=160, threads=1)
    summary = go(source, tmp_path / "b.zarr", Fir(), report=True, block_size=1440, tile_size=240, threads=3)
    found = tiles(tmp_path / "a.zarr")
    same(found, tiles(tmp_path / "b.zarr"))
    assert found["reason"] == [""] * 9
    assert list(zip(found["y"], found["x"], strict=True)) == [
        (y, x) for y in (0, 480, 520) for x in (0, 480, 550)
    ]
    assert set(found["height"]) == set(found["width"]) == {480}
    for name in ("niqe", "niqe_before", "sharpness", "mean", "drift", "invented"):
        assert np.isfinite(found[name]).all(), name
    assert ("report", summary.report.folder + "/report.html") in summary.rows()
    written = {path.name for path in Path(summary.report.folder).iterdir()}
    assert written == {"report.html", "summary.json", "tiles.parquet"}


def test_what_is_scored_is_what_is_stored(tmp_path: Path, small_source: Path, real_scores: None) -> None:
    from bigrestore import score

    go(small_source, tmp_path / "out.zarr", Fir(), report=True)
    found = tiles(tmp_path / "out.zarr")
    again = score(
        tmp_path / "out.zarr", before=small_source, tile_size=480, progress="none"
    ).tiles.to_pydict()
    same(found, again)


def test_at_scale_two_the_input_is_scored_on_both_grids(
    tmp_path: Path, small_source: Path, real_scores: None
) -> None:
    from bigrestore import score

    go(small_source, tmp_path / "out.zarr", "rational", scale=2, report=True, block_size=1440)
    report = tmp_path / "out.zarr.bigrestore/report"
    native = json.loads((report / "summary.json").read_text())["facts"]["before_native"]
    alone = score(small_source, tile_size=480, progress="none").summary
    assert native["tiles"] == alone["tiles"]
    assert native["metrics"]["niqe"] == alone["metrics"]["niqe"]
    same(
        tiles(tmp_path / "out.zarr"),
        score(tmp_path / "out.zarr", before=small_source, tile_size=480, progress="none").tiles.to_pydict(),
    )


def test_a_region_off_the_grid_has_the_rows_of_the_whole(tmp_path: Path, source: Path) -> None:
    go(source, tmp_path / "whole.zarr", Fir(), report=True)
    go(source, tmp_path / "part.zarr", Fir(), report=True, roi="300:1000,0:970")
    whole, part = tiles(tmp_path / "whole.zarr"), tiles(tmp_path / "part.zarr")
    assert [part["y"][i] for i in range(0, 9, 3)] == [300, 480, 520]
    assert part["x"][:3] == [0, 480, 490]
    assert part["reason"] == [""] * 9
    lattice = [not y % 480 and not x % 480 for y, x in zip(part["y"], part["x"], strict=True)]
    valid = [i for i, whole in enumerate(lattice) if whole]
    assert [(part["row"][i], part["column"][i]) for i in valid] == [(1, 0), (1, 1)], "they lie across blocks"
    rows = [list(zip(whole["row"], whole["column"], strict=True)).index((1, c)) for c in (0, 1)]
    for name in ("niqe", "brisque_before", "noise", "invented", "blobs", "y", "x"):
        assert [part[name][i] for i in valid] == [whole[name][i] for i in rows], name
    facts = json.loads((tmp_path / "part.zarr.bigrestore/report/summary.json").read_text())["facts"]
    assert facts["origin_px"] == [300, 0]


def test_a_volume_has_z_in_its_rows(tmp_path: Path, tissue: np.ndarray) -> None:
    volume = np.stack([tissue[:500, :500], tissue[100:600, 200:700], tissue[200:700, :500]])
    go(save_zarr(tmp_path / "in.zarr", volume), tmp_path / "out.zarr", Fir(), report=True)
    found = tiles(tmp_path / "out.zarr")
    assert found["z"] == [0] * 4 + [1] * 4 + [2] * 4
    assert found["reason"] == [""] * 12
    summary = json.loads((tmp_path / "out.zarr.bigrestore/report/summary.json").read_text())
    assert [section["z"] for section in summary["sections"]] == [0, 1, 2]


class Noting(Fir):
    """Says a residual: that of its own blur, as a method would."""

    def analyse(self, windows: np.ndarray) -> SectionStatistics:
        return SectionStatistics(np.ones((1, 1), np.float32), np.zeros(PSI_SIZE, np.float32), 2e-4, 0.01)

    def restore(self, batch: TileBatch, statistics: SectionStatistics) -> TileResult:
        found = super().restore(batch, statistics)
        step = RESIDUAL_STEP_PX
        return TileResult(found.pixels, (batch.pixels - found.pixels)[:, ::step, ::step])


def test_residuals_are_those_of_the_tile_whatever_covers_it(
    tmp_path: Path, source: Path, wide: np.ndarray
) -> None:
    unit = wide.astype(np.float32) / np.float32(255)
    difference = (unit - Noting().whole(unit))[:480:4, 480:960:4].astype(np.float64)
    variance = (2e-4 * unit[:480:4, 480:960:4] + 0.01**2).astype(np.float64)
    expected = np.sqrt((difference**2).sum() / variance.sum())
    columns = []
    for name, cut in (("a", {}), ("b", {"tile_size": 96, "threads": 3}), ("c", {"roi": "0:1000,100:1030"})):
        go(source, tmp_path / f"{name}.zarr", Noting(), report=True, **cut)
        found = tiles(tmp_path / f"{name}.zarr")
        place = list(zip(found["row"], found["column"], strict=True)).index((0, 1))
        columns.append(found["residual"])
        assert found["residual"][place] == pytest.approx(expected, rel=1e-4), name
    go(source, tmp_path / "d.zarr", Noting(), report=True, threads=4)
    assert tiles(tmp_path / "d.zarr")["residual"][:2] == columns[0][:2], "bits must not depend on the threads"


class Planting(Fir):
    """Gives back the input with dark spots at the nodes of a lattice, which no score tile's border touches."""

    halo_px = 32

    def restore(self, batch: TileBatch, statistics: SectionStatistics) -> TileResult:
        pixels = batch.pixels.copy()
        for image, (y0, x0) in zip(pixels, batch.origins, strict=True):
            y, x = (start + np.arange(n) for start, n in zip((y0, x0), image.shape, strict=True))
            off_y, off_x = (at % 120 - 60 for at in (y, x))
            image -= 0.3 * np.exp(-(off_y[:, None] ** 2 + off_x[None, :] ** 2) / 18).astype(np.float32)
        return TileResult(np.clip(pixels, 0, 1))


def test_blobs_that_the_input_does_not_show_are_counted_by_tile_and_block(
    tmp_path: Path, real_page: None
) -> None:
    y, x = np.mgrid[:1000, :1030]
    grey = 190 + 20 * np.sin(y / 40) * np.sin(x / 50) + np.random.default_rng(0).normal(0, 1, y.shape)
    smooth = save_zarr(tmp_path / "smooth.zarr", np.rint(grey).astype(np.uint8))
    for block, cut in ((480, {}), (960, {"threads": 3, "tile_size": 120})):
        out = tmp_path / f"{block}.zarr"
        summary = go(smooth, out, Planting(), report=True, block_size=block, **cut)
        found = tiles(out)
        assert found["blobs"] == found["blobs_unsupported"] == [16] * 9
        report = Path(summary.report.folder)
        facts = json.loads((report / "summary.json").read_text())["facts"]["blobs"]
        assert (facts["found"], facts["unsupported"], facts["pixels"]) == (72, 72, 1000 * 1030), (
            "none counts twice"
        )
        own = [[16, 16], [18, 18], [17, 17], [20, 20]]
        assert list(facts["blocks"].values()) == (own if block == 480 else [[72, 72]])
        assert "Of 72 dark blobs of cell size, 72 (100.00 %" in (report / "report.html").read_text()
        assert dict(summary.rows())["blobs"].startswith("Of 72 dark blobs of cell size, 72 (100.00 %, ")
    same(tiles(tmp_path / "480.zarr"), tiles(tmp_path / "960.zarr"))


@pytest.mark.parametrize("scale", [1, 2])
def test_interpolation_has_no_blob_without_support(tmp_path: Path, source: Path, scale: int) -> None:
    go(source, tmp_path / "out.zarr", "catmull-rom", scale=scale, report=True, block_size=1440)
    found = tiles(tmp_path / "out.zarr")
    valid = np.array(found["reason"]) == ""
    assert (np.array(found["blobs"])[valid] > 100).any()
    assert (np.array(found["blobs_unsupported"])[valid] == 0).all()


def test_seams_are_measured_where_tiles_disagree(tmp_path: Path, source: Path) -> None:
    go(source, tmp_path / "moody.zarr", Moody(), report=True, overlap=32)
    go(source, tmp_path / "calm.zarr", Fir(), report=True, overlap=32)
    moody, calm = (np.array(tiles(tmp_path / name)["seam"]) for name in ("moody.zarr", "calm.zarr"))
    lattice = moody.reshape(3, 3)[:2, :2]
    assert np.sort(lattice, axis=None)[1] > 0.01, "one tile may agree with its neighbours by chance"
    assert moody[2] == pytest.approx(lattice[0, 1], rel=0.01), (
        "an anchored tile has the seams of all cells it touches"
    )
    assert (calm[np.isfinite(calm)] < 1e-6).all()
    assert np.isfinite(calm).all()
    go(source, tmp_path / "none.zarr", Fir(), report=True)
    assert "seam" not in tiles(tmp_path / "none.zarr")


def stop_at(call: int) -> Fir:
    def hook(count: int, _: TileBatch) -> None:
        if count == call:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.3)

    return Fir(hook=hook)


def test_a_resumed_run_has_all_rows_and_scores_none_twice(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.zarr"
    with pytest.raises(StoppedError):
        go(source, out, stop_at(25), threads=1, report=True)
    stored = [
        json.loads(path.read_text()) for path in (tmp_path / "out.zarr.bigrestore/scores").glob("*.json")
    ]
    kept = sum(len(document["rows"]["niqe"]) for document in stored)
    assert kept
    seen: list[Strip] = []
    submit = ScorePool.submit

    def counting(self: ScorePool, strip: Strip) -> Any:
        seen.append(strip)
        return submit(self, strip)

    with monkeypatch.context() as patch:
        patch.setattr(ScorePool, "submit", counting)
        go(source, out, Fir(), threads=1, report=True, resume=True)
    fresh = tmp_path / "fresh.zarr"
    go(source, fresh, Fir(), threads=1, report=True)
    same(tiles(out), tiles(fresh))
    assert len({place for strip in seen for place in strip.places}) <= 9 - kept


def test_rows_that_were_not_kept_are_scored_from_the_output(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out.zarr"
    with pytest.raises(StoppedError):
        go(source, out, stop_at(25), threads=1, report=False)
    go(source, out, Fir(), threads=1, report=True, resume=True)
    go(source, tmp_path / "fresh.zarr", Fir(), report=True)
    same(tiles(out), tiles(tmp_path / "fresh.zarr"))


def test_scores_of_a_block_that_is_done_again_are_dropped(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out.zarr"
    with pytest.raises(StoppedError):
        go(source, out, stop_at(25), threads=1, report=True)
    kept = next((tmp_path / "out.zarr.bigrestore/scores").glob("*.json"))
    document = json.loads(kept.read_text())
    document["rows"]["niqe"] = [-1.0 for _ in document["rows"]["niqe"]]
    kept.write_text(json.dumps(document))
    (tmp_path / "out.zarr.bigrestore/journal" / kept.name).unlink()
    go(source, out, Fir(), threads=1, report=True, resume=True)
    assert -1.0 not in tiles(out)["niqe"]


class Broken:
    """An engine that fails on bright tiles, as often as it is told to."""

    name = "broken"
    metrics = ("niqe",)

    def __init__(self, times: int) -> None:
        self.times = times

    def score(self, tile: np.ndarray) -> dict[str, float]:
        if tile.mean() > 0.64 and self.times:
            self.times -= 1
            raise FloatingPointError("the toy engine is broken")
        return {"niqe": 4.0}

    def describe(self) -> dict[str, Any]:
        return {"name": self.name}


def test_scoring_that_fails_loses_no_block_and_is_said(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Broken(times=100)
    with monkeypatch.context() as patch:
        patch.setattr(EngineSpec, "create", lambda self: broken)
        summary = go(source, tmp_path / "out.zarr", Fir(), threads=1, report=True)
    assert (summary.blocks_done, summary.blocks_failed) == (9, 0)
    found = tiles(tmp_path / "out.zarr")
    assert found["reason"].count("failed") >= 1
    assert len(found["reason"]) == 9
    assert any("toy engine is broken" in text for name, text in summary.rows() if name == "not scored")
    go(source, tmp_path / "fresh.zarr", Fir(), report=False)
    assert digest(tmp_path / "out.zarr") == digest(tmp_path / "fresh.zarr")


def test_scoring_that_failed_once_is_tried_again(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = Broken(times=1)
    monkeypatch.setattr(EngineSpec, "create", lambda self: once)
    summary = go(source, tmp_path / "out.zarr", Fir(), threads=1, report=True)
    assert once.times == 0
    assert "failed" not in tiles(tmp_path / "out.zarr")["reason"]
    assert summary.report.failures == []


def test_a_report_that_cannot_be_made_costs_the_report_only(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def bug(*_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(run_report.RunReport, "write", bug)
    with caplog.at_level(logging.CRITICAL):
        summary = go(source, tmp_path / "out.zarr", Fir(), report=True, fail_if="niqe.median > 0")
    assert summary.blocks_done == 9
    assert "oops" in summary.report.failures[0]
    with pytest.raises(CheckFailedError, match="could not be checked"):
        summary.raise_if_failed()


def test_a_failed_block_is_listed_among_the_tiles(tmp_path: Path, source: Path) -> None:
    def hook(count: int, _: TileBatch) -> None:
        if count == 3:
            raise ValueError("the toy is broken")

    summary = go(source, tmp_path / "out.zarr", Fir(hook=hook), threads=1, report=True)
    assert list(summary.failed) == ["z00000-y0000-x0000"]
    found = tiles(tmp_path / "out.zarr")
    assert (found["reason"][0], found["reason_before"][0]) == ("failed", "failed")
    assert len(found["reason"]) == 9


@pytest.mark.parametrize(("condition", "fails"), [("niqe.median > 0", True), ("niqe.median < 0", False)])
def test_fail_if_ends_with_six(tmp_path: Path, source: Path, condition: str, fails: bool) -> None:
    out = tmp_path / "out.zarr"
    for again in (False, True):
        summary = go(source, out, Fir(), report=True, fail_if=condition, resume=again)
        if not fails:
            summary.raise_if_failed()
            continue
        with pytest.raises(CheckFailedError, match=r"niqe\.median") as info:
            summary.raise_if_failed()
        assert info.value.exit_code == 6


def test_fail_if_is_refused_before_anything_is_written(tmp_path: Path, source: Path) -> None:
    with pytest.raises(UsageError, match=r"psnr\.min"):
        go(source, tmp_path / "out.zarr", Fir(), report=True, fail_if="psnr.min < 20")
    assert not (tmp_path / "out.zarr").exists()
    with pytest.raises(UsageError, match="no-report"):
        go(source, tmp_path / "out.zarr", Fir(), report=False, fail_if="niqe.min < 20")


@pytest.mark.parametrize("condition", ["1 + 1", "psnr.min < 20"])
def test_a_condition_is_refused_before_anything_is_opened(tmp_path: Path, condition: str) -> None:
    with pytest.raises(UsageError, match=re.escape("--fail-if")):
        go(tmp_path / "missing.zarr", tmp_path / "out.zarr", Fir(), report=True, fail_if=condition)


def test_a_sample_is_drawn_where_one_is_asked_for(tmp_path: Path, source: Path) -> None:
    go(source, tmp_path / "out.zarr", Fir(), report=True, report_sample=2)
    found = tiles(tmp_path / "out.zarr")
    assert found["reason"] == ["", ""]
    facts = json.loads((tmp_path / "out.zarr.bigrestore/report/summary.json").read_text())["facts"]
    assert "at most 2 of 9 tiles" in facts["sampling"]


def test_a_sample_smaller_than_the_stack_takes_some_sections(tmp_path: Path, tissue: np.ndarray) -> None:
    volume = np.stack([tissue[:480, :480]] * 3)
    go(save_zarr(tmp_path / "in.zarr", volume), tmp_path / "out.zarr", Fir(), report=True, report_sample=2)
    assert tiles(tmp_path / "out.zarr")["z"] == [1, 2]


def test_above_a_size_a_sample_is_the_default() -> None:
    from fractions import Fraction

    grid = Grid.build(
        (3, 4800, 4800), scale=Fraction(2), alignment_px=1, halo_px=8, block_px=3840, tile_px=480
    )
    assert ScorePlan.of_run(grid, 1200, None, 0).sample is None
    assert ScorePlan.of_run(grid, 1199, None, 0).sample == 1199
    assert ScorePlan.of_run(grid, 1199, 40, 0).sample == 40


def test_a_degradation_gets_no_report(tmp_path: Path, source: Path) -> None:
    from fractions import Fraction

    summary = go(source, tmp_path / "out.zarr", Fir(Fraction(1, 4)), tile_size=64, report=True)
    assert summary.report.folder == ""


@pytest.mark.usefixtures("warm_children", "real_scores")
def test_beside_a_gpu_blocks_never_wait_and_no_row_is_lost(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A method that says it is on a GPU: processes score, what they cannot take is left for later."""

    class OnGpu(Fir):
        def describe(self) -> dict[str, Any]:
            return super().describe() | {"device": "mps"}

    takes: list[float] = []
    take = RunScores.take

    def timed(self: RunScores, *arguments: Any) -> None:
        started = time.perf_counter()
        take(self, *arguments)
        takes.append(time.perf_counter() - started)

    monkeypatch.setattr(RunScores, "take", timed)
    monkeypatch.setattr(report_sink, "SCORE_BLOCKS", {False: 2, True: 1})
    go(source, tmp_path / "gpu.zarr", OnGpu(), report=True)
    go(source, tmp_path / "cpu.zarr", Fir(), report=True)
    same(tiles(tmp_path / "gpu.zarr"), tiles(tmp_path / "cpu.zarr"))
    assert max(takes[:9]) < 0.5


def test_a_scoring_process_that_dies_is_replaced(source: Path, real_scores: None) -> None:
    from bigrestore.core.geometry import Box
    from bigrestore.io.open_section import open_section
    from bigrestore.report.images import Images, ImageToScore
    from bigrestore.report.pool import ScoringFailedError
    from bigrestore.report.table.grid import TileGrid

    section = open_section(source)
    place = next(TileGrid(0, 1, Box(0, 480, 0, 480)).places(0))
    strip = Images(ImageToScore(section)).strip([place], (None, 0.0))
    pool = ScorePool(EngineSpec(), 1, processes=True)
    try:
        first = pool.submit(strip).result()
        os.kill(pool._remotes[0]._process.pid, signal.SIGKILL)
        time.sleep(0.1)
        again = pool.submit(strip)
        if isinstance(again.exception(), ScoringFailedError):
            again = pool.submit(strip)
        assert again.result() == first
    finally:
        pool.close()

"""A report is there exactly when it is the output's: missing ones are made, stale ones go, full disks cost nothing."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from engine_toys import Fir, go, level0, save_zarr
from PIL import Image

from bigrestore.errors import BigrestoreError, OutputError, OutputExistsError, StoppedError, UsageError
from bigrestore.model.method import TileBatch
from bigrestore.report.pool import ScorePool
from bigrestore.report.table import write as report_module
from bigrestore.run.output.owned import PLAN
from bigrestore.run.state.journal import Journal
from bigrestore.run.view.summary import RunSummary

pytestmark = pytest.mark.usefixtures("quick_scores", "quick_page")
FILES = {"report.html", "summary.json", "tiles.parquet"}


@pytest.fixture
def strips(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Note every strip that is scored."""
    seen: list[Any] = []
    submit = ScorePool.submit

    def counting(self: ScorePool, strip: Any) -> Any:
        seen.append(strip)
        return submit(self, strip)

    monkeypatch.setattr(ScorePool, "submit", counting)
    return seen


@pytest.fixture
def source(tmp_path: Path, tissue: np.ndarray) -> Path:
    return save_zarr(tmp_path / "in.zarr", np.ascontiguousarray(tissue[:480, :960]))


def scored(source: Path, output: Path, method: Fir | None = None, **settings: Any) -> RunSummary:
    return go(source, output, method or Fir(), **({"report": True, "threads": 1} | settings))


def beside(output: Path) -> Path:
    return output.with_name(f"{output.name}.bigrestore")


def times(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()}


def rows(output: Path) -> dict[str, list[Any]]:
    return pq.read_table(beside(output) / "report/tiles.parquet").to_pydict()


def same_rows(one: Path, other: Path) -> None:
    for name, values in rows(one).items():
        np.testing.assert_array_equal(np.array(values), np.array(rows(other)[name]), err_msg=name)


@pytest.mark.parametrize("name", ["out.zarr", "out.ome.tif"])
def test_a_finished_run_started_again_scores_and_writes_nothing(
    tmp_path: Path, source: Path, strips: list[Any], name: str
) -> None:
    out = tmp_path / name
    first = scored(source, out)
    before, count = times(tmp_path), len(strips)
    assert count
    again = scored(source, out, resume=True)
    assert len(strips) == count
    assert times(tmp_path) == before
    assert again.report == first.report


@pytest.mark.parametrize("name", ["out.zarr", "out.ome.tif"])
@pytest.mark.parametrize("harm", ["deleted", "truncated", "note"])
def test_a_missing_report_is_made_without_touching_the_output(
    tmp_path: Path, source: Path, strips: list[Any], name: str, harm: str
) -> None:
    out = tmp_path / name
    scored(source, out)
    report = beside(out) / "report"
    before = {path.name: path.read_bytes() for path in report.iterdir()}
    pixels, count = times(out) or out.stat().st_mtime_ns, len(strips)
    if harm == "deleted":
        shutil.rmtree(report)
    elif harm == "truncated":
        (report / "tiles.parquet").write_bytes(before["tiles.parquet"][:-9])
    else:
        (beside(out) / "report.json").unlink()
    method = Fir()
    summary = scored(source, out, method, resume=True)
    assert (method.calls, len(strips)) == (0, count), "the rows of the blocks were kept"
    assert summary.report.folder == str(report)
    assert {path.name: path.read_bytes() for path in report.iterdir()} == before
    assert (times(out) or out.stat().st_mtime_ns) == pixels


@pytest.mark.parametrize("name", ["out.zarr", "out.ome.tif"])
def test_a_run_that_was_finished_without_a_report_gets_one_when_asked(
    tmp_path: Path, source: Path, name: str
) -> None:
    out, fresh = tmp_path / name, tmp_path / "fresh.zarr"
    scored(source, out, report=False)
    assert scored(source, out, report=False, resume=True).report.folder == ""
    assert not (beside(out) / "report").exists()
    method = Fir()
    scored(source, out, method, resume=True)
    assert method.calls == 0
    scored(source, fresh)
    same_rows(out, fresh)


def test_another_sample_is_another_report(tmp_path: Path, source: Path, strips: list[Any]) -> None:
    out = tmp_path / "out.zarr"
    scored(source, out, report_sample=1)
    assert len(rows(out)["z"]) == 1
    count = len(strips)
    scored(source, out, resume=True)
    scored(source, out, resume=True, report_sample=1)
    assert len(strips) == count, "what is there is taken where nothing else is asked for"
    scored(source, out, resume=True, report_sample=2)
    assert len(rows(out)["z"]) == 2


@pytest.mark.parametrize("begun", ["with a report", "without one", "by an earlier version"])
def test_a_run_keeps_the_score_tiles_that_it_was_begun_with(tmp_path: Path, source: Path, begun: str) -> None:
    out, side = tmp_path / "out.zarr", 480 if begun == "by an earlier version" else 192
    scored(source, out, score_tile_size=side, report=begun != "without one")
    if begun == "by an earlier version":
        journal = Journal(out)
        assert journal.plan is not None
        former = dict(journal.plan["plan"])
        del former["score_tile_px"]
        journal.write(PLAN, journal.plan | {"plan": former})
    shutil.rmtree(beside(out) / "report", ignore_errors=True)
    with pytest.raises(
        OutputExistsError, match=rf"score tiles of {side} px.*--score-tile-size is 288; leave it out"
    ) as info:
        scored(source, out, resume=True, score_tile_size=288)
    assert info.value.exit_code == 4
    scored(source, out, resume=True, score_tile_size=None).raise_if_failed()
    assert set(rows(out)["height"]) == {side}
    assert json.loads((beside(out) / "report/summary.json").read_text())["facts"]["tile_px"] == side


def test_score_tiles_are_chosen_by_the_region_and_must_fit_into_it(tmp_path: Path, source: Path) -> None:
    scored(source, tmp_path / "whole.zarr", score_tile_size=None)
    scored(source, tmp_path / "part.zarr", score_tile_size=None, roi="0:150,0:900")
    scored(source, tmp_path / "pixels.zarr", report=False, roi="0:150,0:900", score_tile_size=480)
    assert set(rows(tmp_path / "whole.zarr")["height"]) == {192}
    assert set(rows(tmp_path / "part.zarr")["height"]) == {96}
    with pytest.raises(UsageError, match="--score-tile-size is 192, but what is scored has only 150 x 900"):
        scored(source, tmp_path / "out.zarr", score_tile_size=192, roi="0:150,0:900")
    assert not (tmp_path / "out.zarr").exists()


@pytest.mark.parametrize("where", ["scores/", "tiles.parquet", "report.html", "report.json"])
def test_a_full_disk_costs_the_report_only_and_resume_makes_it(
    tmp_path: Path, source: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, fsync = tmp_path / "out.zarr", os.fsync

    def sometimes_full(handle: int) -> None:
        if where in str(Path(f"/proc/self/fd/{handle}").readlink()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", sometimes_full)
        summary = scored(source, out)
    assert (summary.blocks_done, summary.blocks_failed) == (2, 0)
    assert json.loads((beside(out) / "run.json").read_text())["finished"] is True
    if where == "scores/":
        summary.raise_if_failed()  # the rows were read back from the output
    else:
        with pytest.raises(OutputError, match=r"is written, but.*no space left.*--resume\.$") as info:
            summary.raise_if_failed()
        assert info.value.exit_code == 4
    assert not list(tmp_path.rglob("*.partial"))
    method = Fir()
    scored(source, out, method, resume=True).raise_if_failed()
    assert method.calls == 0
    assert {path.name for path in (beside(out) / "report").iterdir()} == FILES
    scored(source, tmp_path / "fresh.zarr")
    same_rows(out, tmp_path / "fresh.zarr")
    np.testing.assert_array_equal(level0(out), level0(tmp_path / "fresh.zarr"))


def test_tiles_that_were_scored_at_the_end_are_not_scored_once_more(
    tmp_path: Path, source: Path, strips: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    out = tmp_path / "out.zarr"
    with monkeypatch.context() as patch:
        patch.setattr(report_module, "write_tiles", full)
        scored(source, out, roi="0:480,100:960")  # its tiles lie across two blocks
    kept = json.loads((beside(out) / "scores/late.json").read_text())
    assert kept["rows"]["reason"] == [""]
    count = len(strips)
    scored(source, out, roi="0:480,100:960", resume=True).raise_if_failed()
    assert len(strips) == count
    assert rows(out)["reason"] == ["", ""]
    (out / "0/c/0/1").unlink()
    scored(source, out, roi="0:480,100:960", resume=True).raise_if_failed()
    assert len(strips) > count, "the block that it lies in was done again"


@pytest.mark.parametrize(
    ("damaged", "settings"),
    [
        (0, {}),
        (1, {}),
        (2, {}),
        (1, {"report_sample": 3}),
        (1, {"scale": 2}),
        (1, {"roi": "1:3,0:200,0:240"}),
        (2, {"roi": "1:3,0:200,0:240"}),
    ],
)
def test_a_section_that_cannot_be_read_leaves_the_others_their_report(
    tmp_path: Path, tissue: np.ndarray, damaged: int, settings: dict[str, Any]
) -> None:
    folder, out, fresh = tmp_path / "sections", tmp_path / "out.zarr", tmp_path / "fresh.zarr"
    folder.mkdir()
    for z in range(3):
        Image.fromarray(tissue[8 * z : 8 * z + 240, :240]).save(folder / f"s{z}.png")
    file = folder / f"s{damaged}.png"
    whole = file.read_bytes()
    asked = {"report": True, "score_tile_size": 96} | settings
    file.write_bytes(whole[: len(whole) // 2])
    summary = go(folder, out, "rational", **asked)
    assert summary.blocks_failed
    assert summary.report.folder
    scored_sections = {z for z, reason in zip(rows(out)["z"], rows(out)["reason"], strict=True) if not reason}
    assert scored_sections == {1 if "roi" in settings else 0, 1, 2} - {damaged}
    file.write_bytes(whole)
    go(folder, out, "rational", resume=True, **asked).raise_if_failed()
    go(folder, fresh, "rational", **asked)
    same_rows(out, fresh)


def test_a_place_of_the_report_that_is_taken_is_a_sentence(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out.zarr"
    scored(source, out, report=False)
    (beside(out) / "report").write_text("mine")
    with pytest.raises(OutputError, match="report"):
        scored(source, out, resume=True).raise_if_failed()
    assert (beside(out) / "report").read_text() == "mine"
    (beside(out) / "report").unlink()
    shutil.rmtree(beside(out) / "scores")
    (beside(out) / "scores").write_text("mine")
    with pytest.raises(OutputError, match="scores"):
        scored(source, out, resume=True).raise_if_failed()


def test_a_bug_in_the_report_is_one_and_not_silence(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(report_module, "write_tiles", bug)
    summary = scored(source, tmp_path / "out.zarr")
    with pytest.raises(BigrestoreError, match=r"is written.*ZeroDivisionError: oops") as info:
        summary.raise_if_failed()
    assert info.value.exit_code == 1
    json.dumps(summary.to_json())


def test_a_signal_while_the_report_is_made_costs_the_report_only(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bigrestore.report.of_run import RunReport

    out, collect = tmp_path / "out.ome.tif", RunReport._collect

    def stopped(self: RunReport, *arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return collect(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(RunReport, "_collect", stopped)
        with pytest.raises(StoppedError, match="make its report by --resume"):
            scored(source, out)
    before = out.stat().st_mtime_ns
    method = Fir()
    scored(source, out, method, resume=True)
    assert method.calls == 0
    assert out.stat().st_mtime_ns == before
    assert {path.name for path in (beside(out) / "report").iterdir()} == FILES
    assert not (beside(out) / "store.ome.zarr").exists()


def test_a_report_of_failed_blocks_goes_when_they_are_restored(tmp_path: Path, source: Path) -> None:
    def hook(count: int, _: TileBatch) -> None:
        if count == 3:
            raise ValueError("the toy is broken")

    out, fresh = tmp_path / "out.zarr", tmp_path / "fresh.zarr"
    assert scored(source, out, Fir(hook=hook)).blocks_failed == 1
    assert rows(out)["reason"].count("failed") == 1
    scored(source, out, resume=True, report=False)
    assert not (beside(out) / "report").exists(), "it says that tiles failed which are restored"
    scored(source, out, resume=True)
    scored(source, fresh)
    same_rows(out, fresh)


def test_overwrite_replaces_a_report_and_spares_what_was_added_to_it(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out.zarr"
    scored(source, out)
    scored(source, out, overwrite=True, report=False)
    assert not (beside(out) / "report").exists()
    assert not (beside(out) / "scores").exists()
    scored(source, out, overwrite=True)
    for name in ("report/notes.txt", "notes.txt"):
        mine = beside(out) / name
        mine.write_text("what I think of it")
        before = times(tmp_path)
        with pytest.raises(OutputError, match=r"holds 'notes.txt' besides.*move it away"):
            scored(source, out, overwrite=True)
        assert times(tmp_path) == before
        scored(source, out, resume=True, report_sample=1)
        scored(source, out, resume=True, report_sample=2)
        assert mine.read_text() == "what I think of it"
        mine.unlink()


def test_a_page_is_known_for_ours() -> None:
    from importlib.resources import files

    from bigrestore.report.folder import GENERATOR, REPORT_HEAD_BYTES

    template = (files("bigrestore.report.page") / "templates/page.html").read_text()
    assert GENERATOR in template[:REPORT_HEAD_BYTES]

"""One block goes wrong: it is listed, the rest goes on, and resuming repairs exactly that one."""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from engine_toys import Fir, go, level0, save_zarr

from bigrestore.core import retry
from bigrestore.errors import BlocksFailedError, InputError, OutputError, OutputExistsError
from bigrestore.model.method import TileBatch, TileResult
from bigrestore.run import pipeline
from bigrestore.run.state.checks import remedy, verify_output
from bigrestore.run.state.journal import Journal
from bigrestore.run.view.status import run_status

TILES_PER_BLOCK = 9
BLOCK = "z00000-y0000-x0001"


@pytest.fixture(scope="module")
def finished(tissue: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an input and its output, of which each test gets a copy."""
    folder = tmp_path_factory.mktemp("finished")
    go(save_zarr(folder / "in.zarr", np.ascontiguousarray(tissue[:480, :960])), folder / "out.zarr", Fir())
    return folder


@pytest.fixture
def source(tmp_path: Path, finished: Path) -> Path:
    return Path(shutil.copytree(finished / "in.zarr", tmp_path / "in.zarr"))


@pytest.fixture
def out(tmp_path: Path, source: Path, finished: Path) -> Path:
    for name in ("out.zarr", "out.zarr.bigrestore"):
        shutil.copytree(finished / name, tmp_path / name)
    return tmp_path / "out.zarr"


def flip(path: Path, at: int = -40) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)


def every_byte(store: Path) -> dict[str, bytes]:
    return {p.relative_to(store).as_posix(): p.read_bytes() for p in sorted(store.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("what", ["shard", "record", "level"])
@pytest.mark.parametrize("harm", ["truncated", "emptied", "flipped"])
def test_damage_is_found_and_repaired(out: Path, source: Path, what: str, harm: str) -> None:
    places = {"shard": out / "0/c/0/1", "level": out / "1/c/0/0"}
    path = places.get(what, Path(f"{out}.bigrestore/journal/{BLOCK}.json"))
    wanted = every_byte(out)
    assert verify_output(out).faults == []
    if harm == "truncated":
        path.write_bytes(path.read_bytes()[:-10])
    elif harm == "emptied":
        path.write_bytes(b"")
    else:
        flip(path)
    faults = verify_output(out).faults
    assert {fault.id for fault in faults} <= {
        *("shard.altered", "record.altered", "blocks.missing", "file.altered"),
        *("chunk.undecodable", "level.disagrees"),
    }
    assert faults
    assert {fault.mended_by for fault in faults} == {"--resume"}
    method = Fir()
    go(source, out, method, resume=True)
    assert method.calls == (0 if what == "level" else TILES_PER_BLOCK)
    assert every_byte(out) == wanted
    assert verify_output(out).faults == []


def test_a_bit_that_flips_without_leaving_a_time_is_found_where_all_is_checked(
    out: Path, source: Path
) -> None:
    shard, wanted = out / "0/c/0/1", every_byte(out)
    seen = shard.stat()
    flip(shard)
    os.utime(shard, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    faults = verify_output(out).faults
    assert {fault.id for fault in faults} == {"shard.altered", "chunk.undecodable"}
    assert {fault.mended_by for fault in faults} == {"--resume --check-all"}
    assert remedy(out, faults).endswith("--resume --check-all"), "what would mend it is named"
    go(source, out, Fir(), resume=True)
    assert verify_output(out).faults == faults, "nothing was promised of --resume alone"
    os.utime(shard, (1, 1))
    assert remedy(out, verify_output(out).faults).endswith("--resume")
    os.utime(shard, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    method = Fir()
    go(source, out, method, resume=True, check_all=True)
    assert method.calls == TILES_PER_BLOCK
    assert every_byte(out) == wanted


def test_a_copy_with_other_times_is_not_done_again(out: Path, source: Path) -> None:
    os.utime(out / "0/c/0/1", (1, 1))
    method = Fir()
    go(source, out, method, resume=True)
    assert method.calls == 0


def test_a_damaged_profile_or_plan_does_not_change_a_byte(out: Path, source: Path) -> None:
    wanted = every_byte(out)
    flip(Path(f"{out}.bigrestore/profiles/z00000.json"))
    (out / "0/c/0/1").unlink()
    go(source, out, Fir(), resume=True)
    assert every_byte(out) == wanted
    plan = Path(f"{out}.bigrestore/plan.json")
    plan.write_text(plan.read_text().replace('"plan.tile_px": 160', '"plan.tile_px": 161'))
    assert [fault.id for fault in verify_output(out).faults] == ["plan.altered"]
    with pytest.raises(OutputExistsError, match=r"plan\.json, is damaged.*--overwrite"):
        go(source, out, Fir(), resume=True)


@pytest.mark.parametrize("harm", ["flipped", "emptied", "a folder"])
def test_a_damaged_plan_is_named_and_not_taken_for_other_settings(out: Path, source: Path, harm: str) -> None:
    plan, wanted = Path(f"{out}.bigrestore/plan.json"), every_byte(out)
    if harm == "flipped":
        text = plan.read_text()
        at = text.index("windows_blake2b") + 40
        plan.write_text(text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :])
    elif harm == "emptied":
        plan.write_bytes(b"")
    else:
        plan.unlink()
        plan.mkdir()
    faults = verify_output(out).faults
    assert [fault.id for fault in faults] == ["plan.altered"]
    assert "--overwrite" in remedy(out, faults)
    with pytest.raises(OutputExistsError, match=r"plan\.json, is damaged.*--overwrite"):
        go(source, out, Fir(), resume=True)
    with pytest.raises(InputError, match="is damaged"):
        run_status(out)
    if harm == "a folder":
        with pytest.raises(OutputError, match=r"holds 'plan\.json' besides what a run wrote"):
            go(source, out, Fir(), overwrite=True)
        return
    go(source, out, Fir(), overwrite=True)
    assert every_byte(out) == wanted
    assert verify_output(out).faults == []


@pytest.mark.parametrize("harm", ["null", "[1]", "x"])
@pytest.mark.parametrize("name", ["run.json", "files.json", "profiles/z00000.json"])
def test_a_note_that_is_not_as_it_was_written_is_found_and_made_again(
    out: Path, source: Path, name: str, harm: str
) -> None:
    wanted, path = every_byte(out), Path(f"{out}.bigrestore/{name}")
    path.write_text(harm)
    kind = "profile" if "/" in name else path.stem
    assert [fault.id for fault in verify_output(out).faults] == [f"{kind}.altered"]
    method = Fir()
    go(source, out, method, resume=True)
    assert method.calls == 0
    assert every_byte(out) == wanted
    assert verify_output(out).faults == []


@pytest.mark.parametrize("what", ["a file for the folder", "a folder for the file", "records", "marker"])
def test_what_is_in_the_way_is_named(out: Path, source: Path, what: str) -> None:
    beside = Path(f"{out}.bigrestore")
    place = {
        "a file for the folder": out / "0/c/0",
        "a folder for the file": out / "0/c/0/1",
        "records": beside / "journal",
        "marker": beside / f"journal/{BLOCK}.inflight",
    }[what]
    shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
    if what in ("a folder for the file", "marker"):
        place.mkdir()
    else:
        place.write_text("mine")
    with pytest.raises(OutputError, match=f"because {re.escape(str(place))} is in its way; move that away"):
        go(source, out, Fir(), resume=True)
    assert place.exists()


def test_an_unreadable_chunk_fails_its_block_alone_and_is_repaired(
    tmp_path: Path, tissue: np.ndarray
) -> None:
    source = tmp_path / "in.zarr"
    zarr.create_array(source, data=np.ascontiguousarray(tissue[:480]), chunks=(120, 48))
    out, chunk = tmp_path / "out.zarr", source / "c/1/14"
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[: len(whole) // 2])
    summary = go(source, out, Fir())
    assert list(summary.failed) == [BLOCK]
    assert summary.blocks_done == 2
    with pytest.raises(BlocksFailedError, match=BLOCK):
        summary.raise_if_failed()
    chunk.write_bytes(whole)
    method = Fir()
    summary = go(source, out, method, resume=True)
    assert (summary.blocks_restored, method.calls, summary.failed) == (1, TILES_PER_BLOCK, {})
    go(source, tmp_path / "fresh.zarr", Fir())
    np.testing.assert_array_equal(level0(out), level0(tmp_path / "fresh.zarr"))


def test_an_input_of_which_nothing_can_be_read_begins_no_run(tmp_path: Path, tissue: np.ndarray) -> None:
    source = tmp_path / "in.zarr"
    zarr.create_array(source, data=np.ascontiguousarray(tissue[:480]), chunks=(480, 480))
    for chunk in (source / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"rubbish")
    with pytest.raises(InputError):
        go(source, tmp_path / "out.zarr", Fir())
    assert not (tmp_path / "out.zarr").exists()


def test_an_error_that_passes_is_waited_for(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retry, "RETRY_SECONDS", (0.0, 0.0, 0.0))
    read, write, begin = pipeline.BlockWork, pipeline.write_block, Journal.begin
    calls: dict[str, int] = {}

    def shaky(name: str, work: Any) -> Any:
        def call(*arguments: Any) -> Any:
            calls[name] = calls.get(name, 0) + 1
            if calls[name] <= 2:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            return work(*arguments)

        return call

    monkeypatch.setattr(pipeline, "BlockWork", shaky("read", read))
    monkeypatch.setattr(pipeline, "write_block", shaky("write", write))
    monkeypatch.setattr(Journal, "begin", shaky("begin", begin))
    summary = go(source, tmp_path / "out.zarr", Fir(), threads=1)
    assert not summary.failed
    assert calls == {"read": 4, "write": 4, "begin": 4}
    assert "trying again" in caplog.text


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (OSError(errno.EIO, "io"), True),
        (TimeoutError("slow"), True),
        (OSError(errno.ENOSPC, "full"), False),
        (FileNotFoundError(errno.ENOENT, "gone"), False),
        (ValueError("damaged"), False),
    ],
)
def test_only_what_may_pass_is_tried_again(error: Exception, again: bool) -> None:
    wrapped = InputError("it cannot be read")
    wrapped.__cause__ = error
    assert retry.transient(wrapped) == again
    assert retry.transient(error) == again


def test_values_that_are_no_numbers_fail_their_block_and_leave_no_old_pixels(
    tmp_path: Path, source: Path
) -> None:
    class Broken(Fir):
        def restore(self, batch: TileBatch, statistics: Any) -> TileResult:
            found = super().restore(batch, statistics)
            if self.calls == TILES_PER_BLOCK + 2:
                found.pixels[0, 20, 20] = np.nan
            return found

    out = tmp_path / "out.zarr"
    go(source, out, Fir())
    (out / "0/c/0/1").unlink()
    summary = go(source, out, Broken(), threads=1, overwrite=True)
    assert "no numbers" in summary.failed[BLOCK]
    assert not (out / "0/c/0/1").exists()
    method = Fir()
    assert not go(source, out, method, resume=True).failed
    assert method.calls == TILES_PER_BLOCK


def small(limit_px: int) -> Fir:
    def hook(_: int, batch: TileBatch) -> None:
        if batch.pixels.size > limit_px:
            raise MemoryError(f"{batch.pixels.size} pixels")

    return Fir(hook=hook)


def test_out_of_memory_first_halves_the_batch_then_the_tile_and_says_so(tmp_path: Path, source: Path) -> None:
    wanted = tmp_path / "wanted.zarr"
    go(source, wanted, Fir())
    for limit_px, figure in ((40_000, "split_batches"), (20_000, "cut_tiles")):
        out = tmp_path / f"{figure}.zarr"
        summary = go(source, out, small(limit_px), batch_size=2)
        assert not summary.failed
        assert all(record.stats.get(figure) for record in Journal(out).records())
        np.testing.assert_array_equal(level0(out), level0(wanted))
    summary = go(source, tmp_path / "refused.zarr", small(20_000), batch_size=2, deterministic=True)
    assert all("--deterministic refuses" in reason for reason in summary.failed.values())
    assert len(summary.failed) == 2


def test_an_output_that_disappears_stops_the_run(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out.zarr"

    def gone(call: int, __: TileBatch) -> None:
        if call == TILES_PER_BLOCK + 1:
            records = Path(f"{out}.bigrestore/journal")
            for _ in range(400):  # the first block is written while the second is restored
                if any(records.glob("*.json")):
                    break
                time.sleep(0.05)
            shutil.rmtree(out)

    with pytest.raises(OutputError, match=r"is gone.*--resume"):
        go(source, out, Fir(hook=gone), threads=1)
    assert go(source, out, Fir(), resume=True).blocks_restored == 2
    go(source, tmp_path / "fresh.zarr", Fir())
    np.testing.assert_array_equal(level0(out), level0(tmp_path / "fresh.zarr"))

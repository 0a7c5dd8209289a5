"""A full disk, a damaged output, a second run, and an input that changes meanwhile."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from engine_toys import Fir, go, level0, save_zarr
from PIL import Image

from bigrestore.errors import OutputError, OutputExistsError, StoppedError
from bigrestore.model.method import TileBatch
from bigrestore.run import execute as execute_module
from bigrestore.run import pipeline
from bigrestore.run.state import lock_file
from bigrestore.run.state.lock import sole_writer


@pytest.fixture
def source(tmp_path: Path, tissue: np.ndarray) -> Path:
    return save_zarr(tmp_path / "in.zarr", np.ascontiguousarray(tissue[:480, :960]))


def records(output: Path) -> list[str]:
    return sorted(path.name for path in Path(f"{output}.bigrestore/journal").iterdir())


def full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("where", ["shard", "record", "marker", "plan", "profile"])
def test_a_full_disk_stops_the_run_at_once_and_resume_completes_it(
    tmp_path: Path, source: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.zarr"
    wanted = {"plan": "plan.json", "profile": "profiles", "record": "x0001.json"}.get(where, "")
    fsync, names, calls = os.fsync, os.readlink, []

    def sometimes_full(handle: int) -> None:
        if wanted and wanted in names(f"/proc/self/fd/{handle}"):
            full()
        fsync(handle)

    def sign(handle: int, facts: dict[str, Any]) -> None:
        if "inflight" in names(f"/proc/self/fd/{handle}"):
            full()
        signed(handle, facts)

    def write_block(array: Any, z: int, y0: int, x0: int, pixels: np.ndarray) -> None:
        calls.append(x0)
        if where == "shard":
            full()
        kept(array, z, y0, x0, pixels)

    kept, signed = pipeline.write_block, lock_file.sign
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", sometimes_full)
        patch.setattr(pipeline, "write_block", write_block)
        if where == "marker":
            patch.setattr(lock_file, "sign", sign)
        with pytest.raises(OutputError, match=r"no space left.*--resume") as info:
            go(source, out, Fir(), threads=1)
    assert info.value.exit_code == 4
    if where == "shard":
        assert calls == [0], "the next block would fail of the same full disk"
    if where in ("shard", "record", "marker"):
        assert not [name for name in records(out) if not name.endswith("x0000.json")]
    summary = go(source, out, Fir(), threads=1, resume=True)
    assert not summary.failed
    go(source, tmp_path / "fresh.zarr", Fir(), threads=1)
    np.testing.assert_array_equal(level0(out), level0(tmp_path / "fresh.zarr"))
    assert not list(Path(f"{out}.bigrestore").rglob("*.partial"))


@pytest.mark.parametrize("harm", ["level 1 deleted", "level 1 truncated", "root metadata", "level metadata"])
def test_resume_mends_a_finished_store_that_was_damaged(tmp_path: Path, source: Path, harm: str) -> None:
    out = tmp_path / "out.zarr"
    go(source, out, Fir())
    before = {p.relative_to(out): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}
    shard = out / "1/c/0/0"
    if harm == "level 1 deleted":
        shutil.rmtree(out / "1")
    elif harm == "level 1 truncated":
        shard.write_bytes(shard.read_bytes()[:-7])
    elif harm == "root metadata":
        (out / "zarr.json").write_text("{")
    else:
        (out / "0/zarr.json").unlink()
    method = Fir()
    summary = go(source, out, method, resume=True)
    assert method.calls == 0, "level 0 is whole"
    assert summary.blocks_done == 2
    assert {p.relative_to(out): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()} == before


def test_resume_keeps_metadata_that_were_edited(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out.zarr"
    go(source, out, Fir())
    zarr.open_group(out, mode="r+").attrs["mine"] = 5
    go(source, out, Fir(), resume=True)
    assert zarr.open_group(out).attrs["mine"] == 5


@pytest.mark.parametrize("harm", ["deleted", "truncated"])
def test_resume_makes_a_damaged_tiff_again(tmp_path: Path, source: Path, harm: str) -> None:
    out = tmp_path / "out.ome.tif"
    go(source, out, Fir())
    before = out.read_bytes()
    method = Fir()
    go(source, out, method, resume=True)
    assert method.calls == 0
    if harm == "deleted":
        out.unlink()
    else:
        out.write_bytes(before[:-50])
    assert go(source, out, Fir(), resume=True).blocks_restored == 2
    assert out.read_bytes() == before
    assert not (tmp_path / "out.ome.tif.bigrestore/store.ome.zarr").exists()


def test_a_run_that_mends_and_is_stopped_is_not_taken_for_finished(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out.zarr"
    go(source, out, Fir())
    (out / "0/c/0/0").unlink()

    def stop(_: int, __: TileBatch) -> None:
        # the handler itself: a signal that is delivered may come when the tile is done
        signal.getsignal(signal.SIGTERM)(signal.SIGTERM, None)

    with pytest.raises(StoppedError):
        go(source, out, Fir(hook=stop), resume=True, threads=1)
    assert "ome" not in json.loads((out / "zarr.json").read_text())["attributes"]
    assert go(source, out, Fir(), resume=True).blocks_restored == 1
    assert "ome" in json.loads((out / "zarr.json").read_text())["attributes"]


def test_a_signal_while_a_tiff_is_written_ends_it(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, real, written = tmp_path / "out.ome.tif", tifffile.TiffWriter.write, []

    def write(self: Any, *arguments: Any, **options: Any) -> Any:
        written.append(1)
        os.kill(os.getpid(), signal.SIGTERM)
        return real(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(tifffile.TiffWriter, "write", write)
        with pytest.raises(StoppedError, match="--resume"):
            go(source, out, Fir())
    assert len(written) == 1
    assert not out.exists()
    assert not list(tmp_path.glob("*.partial"))
    method = Fir()
    go(source, out, method, resume=True)
    assert method.calls == 0
    assert out.exists()


def test_two_runs_on_one_output_are_not_both_let_in(tmp_path: Path, source: Path) -> None:
    out, inside, leave = tmp_path / "out.zarr", threading.Event(), threading.Event()

    def wait(_: int, __: TileBatch) -> None:
        inside.set()
        assert leave.wait(60)

    first = threading.Thread(target=go, args=(source, out, Fir(hook=wait)))
    first.start()
    try:
        assert inside.wait(60)
        for settings in ({"resume": True}, {"overwrite": True}):
            with pytest.raises(OutputExistsError, match="being written by") as info:
                go(source, out, Fir(), **settings)
            assert info.value.exit_code == 4
    finally:
        leave.set()
        first.join(60)
    assert go(source, out, Fir(), resume=True).blocks_done == 2
    assert not Path(f"{out}.bigrestore/lock").exists()


def test_the_holder_is_named_and_its_death_frees_the_lock(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys, time\nfrom bigrestore.run.state.lock import sole_writer\n"
        "with sole_writer(pathlib.Path(sys.argv[1]), pathlib.Path('o')):\n"
        "    print('held', flush=True)\n    time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(OutputExistsError, match=f"process {other.pid} on "),
            sole_writer(tmp_path, tmp_path),
        ):
            pass
        other.kill()
        other.wait(20)
        assert (tmp_path / "lock").exists(), "what a killed run leaves"
        with sole_writer(tmp_path, tmp_path):
            assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()
    assert not (tmp_path / "lock").exists()


def test_a_holder_of_this_host_is_believed_while_its_process_lives(tmp_path: Path) -> None:
    holder = lock_file.identity() | {"pid": os.getppid()}
    del holder["started"]
    lock = tmp_path / "lock"
    lock.write_text(json.dumps(holder))
    os.utime(lock, (0, 0))
    with pytest.raises(OutputExistsError, match=f"process {os.getppid()} "), sole_writer(tmp_path, tmp_path):
        pass
    for left_over in ({"pid": 2**22 + 5}, {"started": 1.0}):  # gone; another process has its number
        lock.write_text(json.dumps(holder | left_over))
        os.utime(lock, (0, 0))
        with sole_writer(tmp_path, tmp_path):
            assert json.loads(lock.read_text())["pid"] == os.getpid()


def test_a_holder_of_another_host_is_believed_while_it_touches_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_file, "LEASE_SECONDS", 1.5)
    monkeypatch.setattr(lock_file, "HEARTBEAT_SECONDS", 0.2)
    lock, elsewhere, leave = tmp_path / "lock", {"host": "elsewhere", "pid": os.getpid()}, threading.Event()
    lock.write_text(json.dumps(elsewhere))

    def beat() -> None:
        while not leave.wait(0.3):
            lock.touch()

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(OutputExistsError, match="on elsewhere"), sole_writer(tmp_path, tmp_path):
            pass
    finally:
        leave.set()
        thread.join()
    with sole_writer(tmp_path, tmp_path):  # it is waited for
        assert json.loads(lock.read_text())["host"] != "elsewhere"
    lock.write_text(json.dumps(elsewhere))
    os.utime(lock, (0, 0))
    started = time.monotonic()
    with sole_writer(tmp_path, tmp_path):
        assert time.monotonic() - started < 1.0, "it is stale at once by the clock of the file system"


def test_a_lock_that_is_held_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_file, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(lock_file, "_heart", [])  # a thread that beats at this rate
    with sole_writer(tmp_path, tmp_path):
        os.utime(tmp_path / "lock", (0, 0))
        deadline = time.monotonic() + 5
        while (tmp_path / "lock").stat().st_mtime == 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_one_of_many_takes_over_a_stale_lock(tmp_path: Path) -> None:
    path, winners = tmp_path / "block.inflight", []
    for _ in range(20):
        path.write_text(json.dumps(lock_file.identity() | {"pid": 2**22 + 5}))
        start = threading.Barrier(8)

        def take(start: threading.Barrier = start) -> None:
            start.wait()
            if (lock := lock_file.acquire(path)) is not None:
                winners.append(lock)

        threads = [threading.Thread(target=take) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (winner,) = winners
        assert winner.deaths == 1
        winners.clear()
        winner.release()
    assert not list(tmp_path.iterdir())


def edited(path: Path) -> None:
    """Change one pixel where no sampled window lies, in an uncompressed chunk, so that no size changes."""
    zarr.open_array(path, mode="r+")[280, 300] = 7


def plain_zarr(path: Path, pixels: np.ndarray) -> Path:
    array = zarr.create_array(path, shape=pixels.shape, chunks=(40, 40), dtype=pixels.dtype, compressors=None)
    array[:] = pixels
    return path


@pytest.mark.parametrize("small", [True, False])
def test_resume_notices_a_change_where_no_sample_lies(
    tmp_path: Path, tissue: np.ndarray, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bigrestore.run.state import input_files

    if not small:
        monkeypatch.setattr(input_files, "READ_BYTES", 0)
    source, out = plain_zarr(tmp_path / "in.zarr", tissue), tmp_path / "out.zarr"
    go(source, out, Fir())
    edited(source)
    with pytest.raises(OutputExistsError, match="changed since"):
        go(source, out, Fir(), resume=True)


@pytest.mark.parametrize("small", [True, False])
def test_resume_takes_a_copy_of_the_input_for_the_input(
    tmp_path: Path, tissue: np.ndarray, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bigrestore.run.state import input_files

    if not small:
        monkeypatch.setattr(input_files, "READ_BYTES", 0)
    source, out = plain_zarr(tmp_path / "in.zarr", tissue[:200, :300]), tmp_path / "out.zarr"
    go(source, out, Fir())
    for path in source.rglob("*"):
        os.utime(path, ns=(10**18, 10**18))
    assert go(source, out, Fir(), resume=True).blocks_restored == 0
    shutil.copytree(source, tmp_path / "moved.zarr")
    assert go(tmp_path / "moved.zarr", out, Fir(), resume=True).blocks_restored == 0


@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize("finished", [True, False])
def test_a_renamed_section_is_the_same_input_and_another_one_is_named_truly(
    tmp_path: Path, tissue: np.ndarray, small: bool, finished: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bigrestore.run.state import input_files

    if not small:
        monkeypatch.setattr(input_files, "READ_BYTES", 0)
    source, out = tmp_path / "a.tif", tmp_path / "out.zarr"
    tifffile.imwrite(source, tissue[:200, :300], tile=(64, 64), compression="deflate")
    go(source, out, Fir(), init_only=not finished)
    renamed = source.rename(tmp_path / "case 7.tif")
    assert go(renamed, out, Fir(), resume=True).blocks_restored == (0 if finished else 1)
    renamed.write_bytes(renamed.read_bytes() + b"more")
    with pytest.raises(OutputExistsError, match=r": case 7\.tif \(a\.tif then\) has another size; restore"):
        go(renamed, out, Fir(), resume=True)


def test_renamed_files_of_a_volume_are_the_same_input_in_the_same_order(
    tmp_path: Path, tissue: np.ndarray
) -> None:
    out, names = tmp_path / "out.zarr", ["s0.png", "s1.png", "s2.png"]
    for index, name in enumerate(names):
        Image.fromarray(np.roll(tissue[:120, :130], index * 7)).save(tmp_path / name)
    go(str(tmp_path / "s*.png"), out, Fir())
    for name in names:
        (tmp_path / name).rename(tmp_path / f"t{name}")
    assert go(str(tmp_path / "ts*.png"), out, Fir(), resume=True).blocks_restored == 0
    (tmp_path / "ts0.png").rename(tmp_path / "ts9.png")
    with pytest.raises(OutputExistsError, match="the input's pixels"):
        go(str(tmp_path / "ts*.png"), out, Fir(), resume=True)


def test_a_chunk_that_was_added_to_a_store_is_named(tmp_path: Path, tissue: np.ndarray) -> None:
    source, out = plain_zarr(tmp_path / "in.zarr", tissue[:80, :80]), tmp_path / "out.zarr"
    go(source, out, Fir())
    (source / "c/0/7").touch()
    with pytest.raises(OutputExistsError, match=r"c/0/7 was added"):
        go(source, out, Fir(), resume=True)


def test_a_plan_that_keeps_the_name_of_a_file_in_its_key_is_still_read() -> None:
    from bigrestore.run.state.input_files import what_changed

    now = {"files": {"0/": [9, 5]}, "names": {"0/": "b.tif"}, "blake2b": "x"}
    assert what_changed({"files": {"0/a.tif": [9, 1]}, "blake2b": "x"}, now) == ""
    assert "b.tif (a.tif then)" in what_changed({"files": {"0/a.tif": [8, 1]}, "blake2b": "x"}, now)


@pytest.mark.parametrize("name", ["out.ome.tif", "out.ome.zarr.zip"])
def test_a_file_and_its_name_are_on_the_disk_before_its_store_is_removed(
    tmp_path: Path, source: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, remove = os.fsync, execute_module.remove_named

    def noted(handle: int) -> None:
        steps.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        fsync(handle)

    def removed(*arguments: Any) -> None:
        steps.append("removed")
        remove(*arguments)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(execute_module, "remove_named", removed)
    go(source, tmp_path / name, Fir())
    file = next(index for index, step in enumerate(steps) if re.fullmatch(rf"{name}\..*partial", step))
    assert steps[file + 1] == tmp_path.name, "the folder follows the file"
    assert file + 1 < steps.index("removed")


def test_files_of_a_large_store_are_sampled_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bigrestore.run.state import input_files

    monkeypatch.setattr(input_files, "SAMPLED_FILES", 10)
    for row in range(6):
        (tmp_path / f"{row}").mkdir()
        for column in range(7):
            (tmp_path / f"{row}/{column}").touch()
    found = input_files._sample_files(tmp_path)
    assert len(found) == 10
    assert {path.parent.name for path in found} == {str(row) for row in range(6)}


def test_a_file_of_metadata_that_a_killed_run_did_not_write_is_written(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out.zarr"
    go(source, out, Fir(), format="0.4", init_only=True)
    (out / "0/.zattrs").unlink()
    go(source, out, Fir(), format="0.4", resume=True)
    assert (out / "0/.zattrs").is_file()

"""Two threads write beside a GPU: the same bytes, sinks one at a time, and an abandoned block stays abandoned."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_toys import Fir, go, save_zarr

from bigrestore.errors import OutputError
from bigrestore.run import pipeline, plan
from bigrestore.run.execute import execute
from bigrestore.run.pipeline import Pipeline
from bigrestore.run.sinks import Sink
from bigrestore.run.state.journal import Journal
from bigrestore.run.tile.block import BlockWork
from bigrestore.settings import RunSettings

BLOCKS = 4


@pytest.fixture
def source(tmp_path: Path, tissue: np.ndarray) -> Path:
    return save_zarr(tmp_path / "in.zarr", np.ascontiguousarray(tissue[:960, :960]))


@pytest.fixture
def two_writers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "choose_writers", lambda *_, **__: (2, 1))


class OneAtATime(Sink):
    """Notes the blocks it takes, and whether it was ever called by two threads at once."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.at_once = False
        self._busy = threading.Lock()

    def take(self, work: BlockWork, stopping: Any) -> None:
        self.at_once |= not self._busy.acquire(blocking=False)
        time.sleep(0.02)
        self.taken.append(work.block.name)
        self._busy.release()


def shards(store: Path) -> dict[str, bytes]:
    return {
        path.relative_to(store).as_posix(): path.read_bytes()
        for path in store.rglob("c/**/*")
        if path.is_file()
    }


def test_two_blocks_are_written_at_once_and_a_sink_takes_one(
    tmp_path: Path, source: Path, two_writers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, write = threading.Barrier(2, timeout=60), Pipeline._write_block

    def together(self: Pipeline, work: BlockWork) -> None:
        both.wait()  # a single writer would wait for ever
        write(self, work)

    with monkeypatch.context() as patched:
        patched.setattr(Pipeline, "_write_block", together)
        sink = OneAtATime()
        asked = RunSettings(block_size=480, tile_size=160, mask="none", progress="none", report=False)
        summary = execute(source, tmp_path / "two.zarr", asked, method=Fir(), sinks=[sink])
    assert not summary.failed
    assert len(set(sink.taken)) == BLOCKS
    assert not sink.at_once
    monkeypatch.undo()
    go(source, tmp_path / "one.zarr", Fir())
    assert shards(tmp_path / "two.zarr") == shards(tmp_path / "one.zarr") != {}


def test_a_block_still_being_written_at_a_stop_gets_no_record_afterwards(
    tmp_path: Path, source: Path, two_writers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work, gone, write = threading.Event(), threading.Event(), Pipeline._write_block
    slow: list[tuple[str, threading.Thread]] = []

    def writing(self: Pipeline, work: BlockWork) -> None:
        if slow:
            at_work.wait(60)
            raise OSError(28, "No space left on device")
        slow.append((work.block.name, threading.current_thread()))
        at_work.set()
        gone.wait(60)
        write(self, work)

    monkeypatch.setattr(Pipeline, "_write_block", writing)
    monkeypatch.setattr(pipeline, "GRACE_SECONDS", 0.05)
    out = tmp_path / "out.zarr"
    with pytest.raises(OutputError, match="no space left"):
        go(source, out, Fir())
    name, thread = slow[0]
    gone.set()
    thread.join(60)
    assert Journal(out).record(name) is None
    monkeypatch.undo()
    assert not go(source, out, Fir(), resume=True).failed


@pytest.mark.parametrize(
    ("gpu", "cpus", "asked", "chosen"),
    [
        (False, 64, None, (1, 4)),
        (True, 2, None, (1, 4)),
        (True, 16, None, (2, 8)),
        (True, 6, None, (2, 6)),
        (True, 16, 4, (2, 4)),
    ],
)
def test_more_threads_write_only_beside_a_gpu_with_processors_to_spare(
    gpu: bool, cpus: int, asked: int | None, chosen: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "available_cpus", lambda: cpus)
    assert plan.choose_writers(asked, 4, gpu=gpu) == chosen

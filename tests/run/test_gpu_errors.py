"""A GPU out of memory gets smaller tiles; one that is lost stops the process, and its blocks are done elsewhere."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from engine_toys import Fir, go, level0, save_zarr

from bigrestore.errors import GpuLostError
from bigrestore.model.method import SectionStatistics, TileBatch, TileResult
from bigrestore.run.pipeline import Pipeline
from bigrestore.run.state.journal import Journal
from bigrestore.run.workers import cluster, loop, main

ASSERTED = "CUDA error: device-side assert triggered"


@pytest.fixture
def source(tmp_path: Path, tissue: np.ndarray) -> Path:
    return save_zarr(tmp_path / "in.zarr", np.ascontiguousarray(tissue[:300, :600]))


@pytest.mark.parametrize(
    "name", ["CUFFT_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED"]
)
def test_a_library_of_cuda_out_of_memory_gets_smaller_tiles(tmp_path: Path, source: Path, name: str) -> None:
    def hook(_: int, batch: TileBatch) -> None:
        if batch.pixels.size > 20_000:
            raise RuntimeError(f"cuFFT error: {name}")

    go(source, tmp_path / "wanted.zarr", Fir())
    summary = go(source, tmp_path / "out.zarr", Fir(hook=hook))
    assert not summary.failed
    assert all(record.stats.get("cut_tiles") for record in Journal(tmp_path / "out.zarr").records())
    np.testing.assert_array_equal(level0(tmp_path / "out.zarr"), level0(tmp_path / "wanted.zarr"))


class Analysing(Fir):
    """Loses its GPU while it reads blur and noise."""

    def analyse(self, windows: np.ndarray) -> SectionStatistics:
        raise RuntimeError(ASSERTED)


def test_a_lost_gpu_stops_the_run_and_the_next_one_does_the_rest(tmp_path: Path, source: Path) -> None:
    calls: list[int] = []

    def lose(call: int, _: TileBatch) -> None:
        if calls or call > 6:  # the first block is done; dead for good, as a context is
            calls.append(call)
            raise RuntimeError(ASSERTED)

    out = tmp_path / "out.zarr"
    with pytest.raises(
        GpuLostError, match=r"device-side assert triggered\); what is finished is kept.*--resume"
    ):
        go(source, out, Fir(hook=lose), threads=1)
    assert not [record for record in Journal(out).records() if record.status == "failed"]
    assert not list(Path(f"{out}.bigrestore/journal").glob("*.inflight"))
    assert not go(source, out, Fir(), resume=True).failed
    go(source, tmp_path / "fresh.zarr", Fir())
    np.testing.assert_array_equal(level0(out), level0(tmp_path / "fresh.zarr"))
    with pytest.raises(GpuLostError):
        go(source, tmp_path / "read.zarr", Analysing())


def test_the_blocks_of_a_worker_stay_locked_as_of_a_killed_one(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_: object) -> None:
        raise RuntimeError(ASSERTED)

    inner = Pipeline.__init__
    monkeypatch.setattr(Pipeline, "__init__", lambda self, *args, **_: inner(self, *args, ends_with_gpu=True))
    out = tmp_path / "out.zarr"
    with pytest.raises(GpuLostError):
        go(source, out, Fir(hook=lose), threads=1)
    assert Journal(out).in_progress()


def test_a_worker_that_loses_its_gpu_ends_by_75_without_a_fatal_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def end(code: int) -> None:
        raise EndedError(code)

    def lose(*_: object, **__: object) -> None:
        raise GpuLostError("The GPU does no more work.")

    order = {"inputs": "a", "output": "b", "settings": {}, "digest": "", "claims": {}}
    first, answers = json.dumps({"order": order, "cpus": [], "log_level": 20}), io.StringIO()
    monkeypatch.setattr(main.sys, "stdin", io.StringIO(first + "\n"))
    for name in ("keep_streams", "_leave_with_parent"):
        monkeypatch.setattr(main, name, lambda: None)
    for name, stand_in in (
        ("dup", lambda _: 0),
        ("dup2", lambda *_: 1),
        ("fdopen", lambda *_, **__: answers),
    ):
        monkeypatch.setattr(main.os, name, stand_in)
    monkeypatch.setattr(main.os, "_exit", end)
    monkeypatch.setattr(main.signal, "signal", lambda *_: None)
    monkeypatch.setattr(loop, "work", lose)
    logger = logging.getLogger("bigrestore")
    handlers, level = list(logger.handlers), logger.level
    try:
        with pytest.raises(EndedError, match="75"):
            main.run_worker()
    finally:
        logger.handlers[:] = handlers
        logger.setLevel(level)
    assert "The GPU does no more work" in answers.getvalue()
    assert "fatal" not in answers.getvalue()


class EndedError(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize(
    ("nanny", "on_gpu", "device", "taken"),
    [
        ("tcp://a:9", True, "auto", "cuda:1"),
        (None, True, "cuda", "cuda:1"),
        ("tcp://a:9", True, "cuda:0", "cuda:0"),
        ("tcp://a:9", False, "auto", "auto"),
    ],
)
def test_a_dask_worker_takes_its_gpu_and_ends_with_it(
    nanny: str | None, on_gpu: bool, device: str, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    distributed = pytest.importorskip("distributed")
    worker = SimpleNamespace(
        address="tcp://a:1",
        nanny=nanny,
        state=SimpleNamespace(nthreads=1, tasks={"key": SimpleNamespace(state="executing")}),
        status=SimpleNamespace(name="running"),
        get_current_task=lambda: "key",
    )
    devices: list[str] = []

    def lose(order: loop.Order, _: object, *, ends_with_gpu: bool) -> None:
        devices.append(order.settings["device"])
        assert ends_with_gpu == bool(nanny), "without a nanny the process goes on, and gives its blocks back"
        raise GpuLostError("The GPU does no more work.")

    def end(code: int) -> None:
        assert code == 75
        raise EndedError

    monkeypatch.setattr(distributed, "get_worker", lambda: worker)
    monkeypatch.setattr(cluster, "work", lose)
    monkeypatch.setattr(cluster.os, "_exit", end)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    settings = {"threads": 1, "device": device}
    order = {"inputs": "a", "output": "b", "settings": settings, "digest": "", "claims": {}, "on_gpu": on_gpu}
    with pytest.raises(EndedError if nanny else GpuLostError):
        cluster.carry_out(order, 1)
    assert devices == [taken]


@pytest.mark.parametrize("deterministic", [False, True])
def test_a_run_computes_exactly(tmp_path: Path, source: Path, deterministic: bool) -> None:
    seen: set[tuple[bool, bool]] = set()

    class Looking(Fir):
        def restore(self, batch: TileBatch, statistics: SectionStatistics) -> TileResult:
            seen.add((torch.backends.cudnn.allow_tf32, torch.are_deterministic_algorithms_enabled()))
            return super().restore(batch, statistics)

        def analyse(self, windows: np.ndarray) -> SectionStatistics:
            seen.add((torch.backends.cudnn.allow_tf32, torch.are_deterministic_algorithms_enabled()))
            return super().analyse(windows)

    before = torch.backends.cudnn.allow_tf32
    go(source, tmp_path / "out.zarr", Looking(), deterministic=deterministic)
    assert seen == {(False, deterministic)}
    assert torch.backends.cudnn.allow_tf32 == before

"""Devices without one at hand: flags of torch, precision, memory and the GPU of each worker, with a stand-in for CUDA."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from bigrestore.core.host.arithmetic import CUBLAS_WORKSPACE, exact_arithmetic
from bigrestore.errors import GpuLostError, UsageError, gpu_failures, gpu_lost, out_of_memory
from bigrestore.model.device import (
    choose_precision,
    free_gpu_bytes,
    gpu_names,
    gpu_of_dask_worker,
    gpu_of_local_worker,
    processes_per_gpu,
)
from bigrestore.run.plan import _tile_memory
from bigrestore.run.workers.cluster import places_on_nodes

Gpus = Callable[[int], None]


def flags() -> tuple[object, ...]:
    """The flags of torch for float32, by the older and the newer API."""
    backends = torch.backends
    newer = (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn, backends.mkldnn.matmul)
    return (
        backends.cudnn.allow_tf32,
        backends.cuda.matmul.allow_tf32,
        torch.get_float32_matmul_precision(),
        *(getattr(leaf, "fp32_precision", "ieee") for leaf in newer),
    )


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Gpus:
    """Return a function that makes this machine one with so many GPUs of 8 GiB, 6 of them free."""

    def install(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (6 << 30, 8 << 30))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 1 << 30)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 1 << 29)

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return install


@pytest.mark.parametrize("asked", ["highest", "high", "medium"])
def test_float32_is_float32_inside_and_as_before_outside(asked: str) -> None:
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(asked)
        outside = flags()
        assert outside[0] is True, "torch lets cuDNN round"
        with exact_arithmetic():
            assert flags() == (False, False, "highest", "ieee", "ieee", "ieee", "ieee")
        assert flags() == outside
    finally:
        torch.set_float32_matmul_precision(before)


def test_the_last_of_several_runs_restores_the_flags() -> None:
    outside, entered, leave = flags(), threading.Event(), threading.Event()

    def other() -> None:
        with exact_arithmetic():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with exact_arithmetic():
        thread.start()
        entered.wait(10)
    assert flags()[0] is False, "another run is still at work"
    leave.set()
    thread.join()
    assert flags() == outside


def test_deterministic_refuses_what_varies(monkeypatch: pytest.MonkeyPatch) -> None:
    for workspace, expected in ((None, ":4096:8"), (":0:0", ":4096:8"), (":16:8", ":16:8")):
        if workspace is None:
            monkeypatch.delenv(CUBLAS_WORKSPACE, raising=False)
        else:
            monkeypatch.setenv(CUBLAS_WORKSPACE, workspace)
        monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
        with exact_arithmetic(deterministic=True):
            assert torch.are_deterministic_algorithms_enabled()
            assert not torch.is_deterministic_algorithms_warn_only_enabled()
            assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == (True, False)
            assert os.environ[CUBLAS_WORKSPACE] == expected
        assert os.environ.get(CUBLAS_WORKSPACE) == workspace
        assert not torch.are_deterministic_algorithms_enabled()
        assert torch.backends.cudnn.benchmark
        assert not torch.backends.cudnn.deterministic


@pytest.mark.parametrize(("capability", "expected"), [(6, "fp32"), (7, "fp16"), (8, "fp16"), (9, "fp16")])
def test_auto_precision_of_a_gpu_is_the_16_bits_that_err_least(
    capability: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (capability, 0))
    cuda = torch.device("cuda")
    assert choose_precision("auto", cuda) == expected
    assert choose_precision("bf16", cuda) == "bf16"


MEMORY = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    torch.AcceleratorError("CUDA error: out of memory"),
    MemoryError(),
)
LOST = (
    RuntimeError("CUDA error: device-side assert triggered\nCUDA kernel errors might be reported later."),
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA error: uncorrectable ECC error encountered"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"),
    RuntimeError("HIP error: an illegal memory access was encountered"),
)
OTHERS = (
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (1x2 and 3x4)"),
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"),
    ValueError("CUDA error: of another kind"),
)


def test_errors_of_a_gpu_are_told_apart() -> None:
    assert [out_of_memory(error) for error in (*MEMORY, *LOST, *OTHERS)] == [True] * 6 + [False] * 9
    assert [gpu_lost(error) for error in (*MEMORY, *LOST, *OTHERS)] == [False] * 6 + [True] * 6 + [False] * 3


@pytest.mark.parametrize("error", LOST, ids=repr)
def test_a_lost_gpu_is_a_sentence_and_stops_the_process(error: RuntimeError) -> None:
    with (
        pytest.raises(GpuLostError, match=r"^The GPU does no more work.*--resume\.$") as raised,
        gpu_failures(),
    ):
        raise error
    assert raised.value.exit_code == 75
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("error", [*MEMORY, *OTHERS], ids=repr)
def test_other_errors_pass(error: Exception) -> None:
    with pytest.raises(type(error)), gpu_failures():
        raise error


def test_memory_of_a_gpu_is_what_is_free_shared_by_the_processes_on_it(gpus: Gpus) -> None:
    method = SimpleNamespace(describe=lambda: {"device": "cuda"})
    gpus(2)
    free = free_gpu_bytes("auto")
    assert free == (6 << 30) + (1 << 29), "and what torch keeps for reuse"
    for workers, device, share in (
        (1, "auto", 1),
        (2, "auto", 1),
        (3, "cuda", 2),
        (4, "auto", 2),
        (4, "cuda:1", 4),
    ):
        assert processes_per_gpu(workers, device) == share
        assert _tile_memory(method, device, workers, 2) == free // 2 // (share * 2)  # type: ignore[arg-type]


def test_local_workers_share_the_gpus_in_turn(gpus: Gpus, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(2)
    taken = [gpu_of_local_worker(index, "auto")["CUDA_VISIBLE_DEVICES"] for index in range(5)]
    assert taken == ["0", "1", "0", "1", "0"]
    assert gpu_of_local_worker(1, "cuda:0") == {}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-5,9")  # 9 is not there: CUDA sees those before it
    assert gpu_names() == ["3", "GPU-5"]
    assert gpu_of_local_worker(3, "cuda") == {"CUDA_VISIBLE_DEVICES": "GPU-5"}


def test_a_dask_worker_takes_the_gpu_of_its_place_or_refuses(
    gpus: Gpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(0)
    with pytest.raises(UsageError, match=r"tcp://a:1 has no GPU.*--device cpu"):
        gpu_of_dask_worker(0, "tcp://a:1")
    gpus(2)
    assert [gpu_of_dask_worker(place, "a") for place in range(2)] == ["cuda:0", "cuda:1"]
    with pytest.raises(UsageError, match=r"number 3 of its node, which has 2 GPU\(s\)"):
        gpu_of_dask_worker(2, "tcp://a:1")
    gpus(1)
    with pytest.raises(UsageError, match="number 2 of its node"):
        gpu_of_dask_worker(1, "tcp://a:1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    assert gpu_of_dask_worker(1, "a") == "cuda:0", "its own"
    gpus(4)
    lists = ["0,1,2,3", "1,2,3,0", "2,3,0,1", "3,0,1,2"]  # as dask-cuda sets them
    for place, visible in enumerate(lists):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert gpu_of_dask_worker(place, "a") == "cuda:0"


def test_a_new_dask_worker_takes_the_place_of_a_lost_one() -> None:
    first = places_on_nodes(["tcp://a:1", "tcp://a:2", "tcp://b:1"], {})
    assert first == {"tcp://a:1": 0, "tcp://a:2": 1, "tcp://b:1": 0}
    then = places_on_nodes(["tcp://a:2", "tcp://a:3", "tcp://b:1"], first)
    assert then == {"tcp://a:2": 1, "tcp://a:3": 0, "tcp://b:1": 0}

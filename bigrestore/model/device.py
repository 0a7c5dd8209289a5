"""Devices: which one computes, how precisely, how much memory it has, and which processes share it."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from bigrestore.errors import UsageError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

FP16_CAPABILITY = 7
"""Compute capability of the first GPUs with tensor cores for float16."""

VISIBLE = "CUDA_VISIBLE_DEVICES"


def choose_device(name: str) -> torch.device:
    """Return the device of a name; "auto" prefers a GPU. UsageError for a missing device."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"there is no device {name!r}; use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (
        not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()
    ):
        raise UsageError(f"this machine has no device {name!r}; use --device cpu")
    if device.type not in ("cpu", "cuda", "mps") or (
        device.type == "mps" and not torch.backends.mps.is_available()
    ):
        raise UsageError(f"this machine has no device {name!r}; use auto, cpu, cuda or cuda:N")
    return device


def choose_precision(name: str, device: torch.device) -> str:
    """Return fp32, bf16 or fp16; "auto" takes 16 bits only where the hardware computes in them.

    On a GPU that is fp16: against fp32 the shipped models err by 1.4 levels of uint16 in fp16, and by 3 to 11 in bf16.
    """
    if name not in ("auto", *DTYPES):
        raise UsageError(f"there is no precision {name!r}; use auto, fp32, bf16 or fp16")
    if name == "fp16" and device.type == "cpu":
        raise UsageError("fp16 is for GPUs; on a CPU use --precision auto, fp32 or bf16")
    if name != "auto":
        return name
    if device.type == "cuda":
        return "fp16" if torch.cuda.get_device_capability(device)[0] >= FP16_CAPABILITY else "fp32"
    return "bf16" if device.type == "cpu" and cpu_computes_bf16() else "fp32"


def cpu_computes_bf16() -> bool:
    """Return whether this CPU has bfloat16 arithmetic (AMX or AVX512-BF16); emulated, it is slower than float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags


def gpu_names() -> list[str]:
    """Return the GPUs of this process as `CUDA_VISIBLE_DEVICES` names them, in the order of cuda:0, cuda:1, ..."""
    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get(VISIBLE, "").split(",") if name.strip()]
    return named[:count] if named else [str(number) for number in range(count)]


def gpu_of_local_worker(index: int, device: str) -> dict[str, str]:
    """Return the environment of a worker of this machine with its GPU; workers share the GPUs in turn.

    Parameters
    ----------
    index : int
        The worker, from 0.
    device : str
        As asked for; a GPU by its number is every worker's.
    """
    names = gpu_names() if device in ("auto", "cuda") else []
    return {VISIBLE: names[index % len(names)]} if names else {}


def gpu_of_dask_worker(index: int, address: str) -> str:
    """Return the GPU of a dask worker, which starts with its own environment.

    Parameters
    ----------
    index : int
        Its number on its node, from 0.
    address : str
        Its name in a refusal.

    Raises
    ------
    UsageError
        Where it has no GPU, or no GPU of its own.
    """
    names = gpu_names()
    if not names:
        raise UsageError(
            f"The dask worker {address} has no GPU, and the run was planned on one; start it on a node with GPUs, or "
            "give --device cpu."
        )
    if len(names) == 1 and os.environ.get(VISIBLE):  # its own, as a batch system gives it
        return "cuda:0"
    if index >= len(names):
        raise UsageError(
            f"The dask worker {address} is number {index + 1} of its node, which has {len(names)} GPU(s); start at most "
            f"one worker per GPU, or give each its GPU by {VISIBLE}."
        )
    # By name: dask-cuda lists the GPUs of a node in another order for every worker.
    return f"cuda:{names.index(sorted(names, key=lambda name: (len(name), name))[index])}"


def processes_per_gpu(workers: int, device: str) -> int:
    """Return how many of the workers of this machine share a GPU, at most."""
    return -(-workers // max(1, len(gpu_names()))) if device in ("auto", "cuda") else workers


def free_gpu_bytes(device: str) -> int:
    """Return the memory of a GPU that no other process holds, with what torch holds here for reuse."""
    chosen = torch.device(device if device.startswith("cuda") else "cuda")
    free = int(torch.cuda.mem_get_info(chosen)[0])
    return free + torch.cuda.memory_reserved(chosen) - torch.cuda.memory_allocated(chosen)

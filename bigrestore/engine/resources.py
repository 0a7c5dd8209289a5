"""What this process may use: processors and memory, as the scheduler and the container say.

A machine's own numbers are wrong on a cluster and in a container: a job that starts 64 threads on the 4 cores it
was given runs slower than with 4, and one that plans with the host's memory is killed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")


def available_cpus() -> int:
    """Return the processors that this process may use.

    The smallest of the affinity mask, the CPU quota of the control group, and SLURM_CPUS_PER_TASK.
    """
    limits = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    quota = _read(CGROUP / "cpu.max").split()
    if len(quota) == 2 and quota[0].isdigit():
        limits.append(max(1, round(int(quota[0]) / int(quota[1]))))
    slurm = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if slurm.isdigit() and int(slurm) > 0:
        limits.append(int(slurm))
    return min(limits)


def memory_limit_bytes() -> int:
    """Return the memory that this process may use, in bytes: the control group's limit or the machine's.

    The total, not what is free at the moment, so that the same command plans the same tiles tomorrow.
    """
    limits = [int(psutil.virtual_memory().total)]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        text = _read(CGROUP / name).strip()
        if text.isdigit() and int(text) > 0:
            limits.append(int(text))
    slurm = os.environ.get("SLURM_MEM_PER_NODE", "")
    if slurm.isdigit() and int(slurm) > 0:
        limits.append(int(slurm) << 20)
    return min(limits)


def rss_bytes() -> int:
    """Return the resident memory of this process, in bytes."""
    return int(psutil.Process().memory_info().rss)


def one_thread_per_tile() -> int | None:
    """Let torch use one thread per operation; return how many it used before, None where torch is not loaded.

    Several tiles in flight with one thread each beat several threads on one tile, and fix the bytes.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    before: int = torch.get_num_threads()
    torch.set_num_threads(1)
    return before


def give_threads_back(before: int | None) -> None:
    """Undo `one_thread_per_tile`."""
    torch = sys.modules.get("torch")
    if torch is not None and before is not None:
        torch.set_num_threads(before)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""

"""Processors and memory of this process, as the scheduler and the container allow.

A machine's own numbers are wrong on a cluster and in a container. A job of 64 threads on 4 cores runs slower
than with 4, and a job planned with the host's memory is killed.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import attrs
import psutil

CGROUP = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
"""Lists the control groups of this process: a batch system puts a job into one below the root."""


@attrs.frozen
class Cpus:
    """The usable processors, and the limits behind their number.

    Attributes
    ----------
    count : int
        The smallest of the limits.
    limits : dict
        Each limit by its source, in words.
    """

    count: int
    limits: dict[str, int]

    @property
    def reason(self) -> str:
        """The limits as a part of a sentence: `2 processors (affinity 64, SLURM_CPUS_PER_TASK 2)`."""
        said = ", ".join(f"{name} {value}" for name, value in self.limits.items())
        return f"{self.count} processor{'s' * (self.count != 1)} ({said})"


def processors() -> Cpus:
    """Return the processors this process may use: the smallest limit of host and scheduler."""
    limits = {"affinity": len(affinity())}
    quotas = [quota for folder in _groups("cpu") if (quota := _cpu_quota(folder)) is not None]
    if quotas:
        limits["cgroup quota"] = min(quotas)
    slurm = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if slurm.isdigit() and int(slurm) > 0:
        limits["SLURM_CPUS_PER_TASK"] = int(slurm)
    return Cpus(min(limits.values()), limits)


def available_cpus() -> int:
    """Return the number of processors this process may use."""
    return processors().count


def affinity() -> list[int]:
    """Return the numbers of the processors in this process's affinity, ascending."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def share_of(cpus: list[int], index: int, count: int) -> list[int]:
    """Return the processors of one of several workers: neighbours, all used, none shared if they suffice.

    Parameters
    ----------
    cpus : list of int
        All of them.
    index, count : int
        The worker, from 0, and how many they are.
    """
    if count >= len(cpus):
        return [cpus[index % len(cpus)]]
    return cpus[len(cpus) * index // count : len(cpus) * (index + 1) // count]


@attrs.frozen
class Memory:
    """The usable memory, and the limit behind it.

    Attributes
    ----------
    count : int
        The smallest of the limits, in bytes.
    source : str
        Its source, in words.
    """

    count: int
    source: str


def memory() -> Memory:
    """Return the memory this process may use: the smallest limit of machine, container, scheduler and `ulimit`.

    The total, not the free memory of the moment: the same command plans the same tiles tomorrow.
    """
    limits = {"machine": int(psutil.virtual_memory().total)}
    groups = [
        int(text)
        for folder in _groups("memory")
        for name in ("memory.max", "memory.limit_in_bytes")
        if (text := _text_of(folder / name).strip()).isdigit() and int(text) > 0
    ]
    if groups:
        limits["control group"] = min(groups)
    for unit, factor in (("NODE", 1), ("CPU", available_cpus())):
        megabytes = os.environ.get(f"SLURM_MEM_PER_{unit}", "")
        if megabytes.isdigit() and int(megabytes) > 0:
            limits[f"SLURM_MEM_PER_{unit}"] = (int(megabytes) << 20) * factor
            break
    if sys.platform != "win32":
        import resource

        own = resource.getrlimit(resource.RLIMIT_AS)[0]
        if own != resource.RLIM_INFINITY:
            limits["ulimit -v"] = own
    source = min(limits, key=lambda name: limits[name])
    return Memory(limits[source], source)


def memory_limit_bytes() -> int:
    """Return the memory this process may use, in bytes."""
    return memory().count


def _groups(controller: str) -> list[Path]:
    """Return the folders of this process's control groups, from the root down; every one of them limits."""
    folders = [CGROUP, CGROUP / controller]
    for line in _text_of(OWN_CGROUP).splitlines():
        number, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if number != "0" and controller not in controllers.split(","):
            continue
        root = CGROUP if number == "0" else CGROUP / controller
        parts = [part for part in name.split("/") if part not in ("", "..")]
        folders += [root.joinpath(*parts[: depth + 1]) for depth in range(len(parts))]
    return folders


def _cpu_quota(folder: Path) -> int | None:
    """Return the processors of a control group's quota, None without one."""
    quota, *period = _text_of(folder / "cpu.max").split() or [""]
    if not period:
        quota = _text_of(folder / "cpu.cfs_quota_us").strip()
        period = _text_of(folder / "cpu.cfs_period_us").split()
    if not (quota.isdigit() and int(quota) > 0 and period and period[0].isdigit() and int(period[0]) > 0):
        return None
    return max(1, round(int(quota) / int(period[0])))


def rss_bytes() -> int:
    """Return the resident memory of this process and its children, in bytes."""
    own = psutil.Process()
    total = int(own.memory_info().rss)
    for child in own.children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it ended meanwhile
            total += int(child.memory_info().rss)
    return total


def out_of_memory_kills() -> int:
    """Return how many processes the kernel has killed in this process's control groups because memory ran out."""
    kills = 0
    for folder in _groups("memory"):
        for line in _text_of(folder / "memory.events").splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill" and count.isdigit():
                kills = max(kills, int(count))
    return kills


def one_thread_per_tile() -> int | None:
    """Let torch use one thread per operation; return the number before, None if torch is not loaded.

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


def _text_of(path: Path) -> str:
    try:
        return os.fsdecode(path.read_bytes())
    except OSError:
        return ""

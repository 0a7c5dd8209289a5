"""One account of the memory: a file that is decoded whole is refused by the same limits by which tiles are planned."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bigrestore.core.host import resources
from bigrestore.core.host.resources import memory, memory_limit_bytes
from bigrestore.errors import InputError
from bigrestore.io.open_section import open_section
from bigrestore.run.view.doctor import _memory

MIB = 1 << 20
JOB_BYTES = 64 * MIB

Limit = Callable[[pytest.MonkeyPatch, Path], object]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of 34 MiB of pixels."""
    path, line = tmp_path_factory.mktemp("large") / "large.png", np.arange(6000)
    Image.fromarray((line[:, None] ^ line).astype(np.uint8)).save(path, compress_level=1)
    return path


def of_slurm(patch: pytest.MonkeyPatch, _: Path) -> None:
    patch.setenv("SLURM_MEM_PER_NODE", "64")


def of_slurm_by_processor(patch: pytest.MonkeyPatch, _: Path) -> None:
    patch.setattr(resources, "affinity", lambda: [0, 1])
    patch.setenv("SLURM_MEM_PER_CPU", "32")


def of_a_container(patch: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "memory.max").write_text(f"{JOB_BYTES}\n")


def of_a_batch_system(patch: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "job").mkdir()
    (folder / "memory.max").write_text("max\n")
    (folder / "job/memory.max").write_text(f"{JOB_BYTES}\n")
    (folder / "own").write_text("0::/job\n")


def of_the_shell(patch: pytest.MonkeyPatch, _: Path) -> None:
    import resource

    limit = resource.getrlimit
    patch.setattr(
        resource,
        "getrlimit",
        lambda kind: (JOB_BYTES, JOB_BYTES) if kind == resource.RLIMIT_AS else limit(kind),
    )


@pytest.mark.parametrize(
    ("limit", "source"),
    [
        (of_slurm, "SLURM_MEM_PER_NODE"),
        (of_slurm_by_processor, "SLURM_MEM_PER_CPU"),
        (of_a_container, "control group"),
        (of_a_batch_system, "control group"),
        pytest.param(
            of_the_shell, "ulimit -v", marks=pytest.mark.skipif(sys.platform == "win32", reason="POSIX")
        ),
    ],
)
def test_a_file_too_large_for_the_job_is_refused_by_the_limit_that_plans_tiles(
    tmp_path: Path, large: Path, monkeypatch: pytest.MonkeyPatch, limit: Limit, source: str
) -> None:
    (tmp_path / "group").mkdir()
    monkeypatch.setattr(resources, "CGROUP", tmp_path / "group")
    monkeypatch.setattr(resources, "OWN_CGROUP", tmp_path / "group/own")
    for name in ("CPUS_PER_TASK", "MEM_PER_NODE", "MEM_PER_CPU"):
        monkeypatch.delenv(f"SLURM_{name}", raising=False)
    Image.fromarray(np.zeros((60, 60), np.uint8)).save(tmp_path / "small.png")
    open_section(large)
    limit(monkeypatch, tmp_path / "group")
    assert (memory().count, memory().source) == (JOB_BYTES, source)
    assert memory_limit_bytes() == JOB_BYTES
    assert "0.1 GiB" in _memory().value
    open_section(tmp_path / "small.png")
    with pytest.raises(
        InputError, match=rf"34 MiB and more than half of the 64 MiB.*\({source}\); convert it"
    ):
        open_section(large)

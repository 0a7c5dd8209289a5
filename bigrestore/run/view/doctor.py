"""Whether this machine can do a run: versions, processors, memory, and one tile restored.

Each check is one line with its finding and, for a problem, the remedy. A slow or narrower run is a hint; a failing one
is a fault.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import attrs
import numpy as np
from numpy.typing import NDArray

import bigrestore
from bigrestore.core.host.installed import install_command
from bigrestore.core.host.resources import available_cpus, memory_limit_bytes
from bigrestore.errors import BigrestoreError
from bigrestore.run.state.lock import LOCK_NAME
from bigrestore.run.state.lock_file import acquire

NEEDED = ("numpy", "torch", "zarr", "numcodecs", "dask", "tifffile", "imagecodecs", "pillow", "safetensors")
EXTRAS = {
    "formats": ("h5py", "nibabel"),
    "remote": ("aiohttp", "s3fs"),
    "hpc": ("distributed", "dask-jobqueue"),
    "iqa": ("pyiqa",),
    "train": ("tensorboard",),
}
WRITTEN_BYTES = 64 << 20
SLOW_BYTES_PER_SECOND = 20e6
"""A network writes some megabytes per second and core; a disk below this would keep it waiting."""

LOW_BYTES = 2 << 30
"""Memory, or space on the disk, below which a run of the usual blocks does not fit."""

PROBE_PX = 160


@attrs.frozen
class Finding:
    """One check: its name, `ok`, `hint` or `fault`, the finding, and the remedy."""

    name: str
    verdict: str
    value: str
    way_out: str = ""


def examine(folder: Path) -> Iterator[Finding]:
    """Check this machine, one finding after the other.

    Parameters
    ----------
    folder : Path
        Where outputs would be written.
    """
    yield Finding("bigrestore", "ok", f"{bigrestore.__version__}, Python {platform.python_version()}")
    yield _versions()
    yield from _extras()
    checks: tuple[tuple[str, Callable[[], Finding]], ...] = (
        ("processors", _processors),
        ("memory", _memory),
        ("device", _device),
        ("models", _models),
        ("passing files", lambda: _space("passing files", Path(tempfile.gettempdir()))),
        ("space", lambda: _space("space", folder)),
        ("write speed", lambda: _write_speed(folder)),
        ("locks", lambda: _locks(folder)),
        ("one tile", _one_tile),
    )
    for name, check in checks:
        try:
            yield check()
        except (BigrestoreError, OSError, RuntimeError, ImportError) as error:
            yield Finding(name, "fault", " ".join(str(error).split()) or type(error).__name__)


def _package_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _versions() -> Finding:
    """Return the versions of required packages."""
    versions = {name: _package_version(name) for name in NEEDED}
    missing = [name for name, value in versions.items() if value is None]
    shown = ", ".join(f"{name} {value}" for name, value in versions.items() if value)
    if missing:
        return Finding("libraries", "fault", f"{', '.join(missing)} missing", install_command())
    return Finding("libraries", "ok", shown)


def _extras() -> Iterator[Finding]:
    """Yield optional packages."""
    for extra, packages in EXTRAS.items():
        versions = {name: _package_version(name) for name in packages}
        if all(versions.values()):
            yield Finding(
                f"extra {extra}", "ok", ", ".join(f"{name} {value}" for name, value in versions.items())
            )
        else:
            missing = ", ".join(name for name, value in versions.items() if value is None)
            yield Finding(f"extra {extra}", "hint", f"{missing} not installed", install_command(extra))


def _processors() -> Finding:
    return Finding(
        "processors", "ok", f"{available_cpus()} for this process, {os.cpu_count()} in the machine"
    )


def _memory() -> Finding:
    """Return the memory available to this process."""
    limit = memory_limit_bytes()
    verdict = "hint" if limit < LOW_BYTES else "ok"
    return Finding(
        "memory", verdict, f"{limit / 2**30:.1f} GiB", "give --block-size 960" if verdict == "hint" else ""
    )


def _device() -> Finding:
    """Return the device of a network."""
    import torch

    from bigrestore.model.device import choose_device, choose_precision

    device = choose_device("auto")
    precision = choose_precision("auto", device)
    if device.type != "cuda":
        return Finding(
            "device", "ok", f"{device.type}, {precision}, {torch.get_num_threads()} threads of torch"
        )
    facts = torch.cuda.get_device_properties(device)
    free, total = torch.cuda.mem_get_info(device)
    return Finding(
        "device",
        "ok",
        f"{facts.name}, {precision}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free, CUDA {torch.version.cuda}",
    )


def _models() -> Finding:
    """Check the hashes of the shipped models and parts."""
    from bigrestore.model.nets.checkpoint import read_weights, shipped_models
    from bigrestore.model.nets.parts.part import shipped_parts

    names = []
    for name, path in (shipped_models() | shipped_parts()).items():
        read_weights(path)
        names.append(name)
    return Finding("models", "ok" if names else "fault", f"{', '.join(names) or 'none'}, hashes checked")


def _space(name: str, folder: Path) -> Finding:
    """Return the free space of a folder."""
    free = shutil.disk_usage(folder).free
    low = free < LOW_BYTES
    way_out = "free space, or choose another place" if low else ""
    return Finding(name, "hint" if low else "ok", f"{free / 2**30:.1f} GiB free in {folder}", way_out)


def _write_speed(folder: Path) -> Finding:
    """Write a private file of random bytes, flush it to the disk, and remove it."""
    block = os.urandom(1 << 20)
    with tempfile.TemporaryFile(dir=folder) as file:
        started = time.perf_counter()
        for _ in range(WRITTEN_BYTES // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        rate = WRITTEN_BYTES / (time.perf_counter() - started)
    slow = rate < SLOW_BYTES_PER_SECOND
    way_out = "write to a faster disk and copy the result" if slow else ""
    return Finding("write speed", "hint" if slow else "ok", f"{rate / 1e6:.0f} MB/s in {folder}", way_out)


def _locks(folder: Path) -> Finding:
    """Try whether the file system has locks, by which a second run on one output is refused."""
    with tempfile.TemporaryDirectory(dir=folder) as beside:
        try:
            locks = [acquire(Path(beside) / LOCK_NAME) for _ in range(2)]
            for lock in filter(None, locks):
                lock.release()
        except OSError as error:
            return Finding(
                "locks", "hint", f"{error.strerror} in {folder}", "start no second run on one output there"
            )
    if locks[0] is None or locks[1] is not None:
        return Finding(
            "locks", "hint", f"files are not created exclusively in {folder}", "start one process alone there"
        )
    return Finding("locks", "ok", f"in {folder}")


def _one_tile() -> Finding:
    """Restore one tile by the shipped model, as in a run, and verify the output."""
    from PIL import Image

    from bigrestore.io.verify.store import verify_store
    from bigrestore.run.execute import execute
    from bigrestore.settings import RunSettings

    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="bigrestore-doctor-") as name:
        place = Path(name)
        Image.fromarray(_sharp_texture()).save(place / "tile.png")
        settings = RunSettings(progress="none", report=False, mask="none", block_size=480)
        summary = execute(place / "tile.png", place / "tile.ome.zarr", settings)
        faults = verify_store(place / "tile.ome.zarr")
    seconds = time.perf_counter() - started
    if summary.failed or faults:
        reason = next(iter(summary.failed.values()), None) or f"{faults[0].id} at {faults[0].location}"
        return Finding("one tile", "fault", reason, "install again: pip install --force-reinstall bigrestore")
    return Finding("one tile", "ok", f"restored and verified in {seconds:.1f} s on {sys.platform}")


def _sharp_texture() -> NDArray[np.uint8]:
    """Return a tile with the spectrum of sharp tissue, 1/f, so that a run has nothing to warn of."""
    steps = np.fft.fftfreq(PROBE_PX)
    frequency = np.hypot(steps[:, None], steps)
    frequency[0, 0] = 1.0
    noise = np.random.default_rng(0).normal(size=(PROBE_PX, PROBE_PX))
    texture = np.fft.ifft2(np.fft.fft2(noise) / frequency).real
    levels: NDArray[np.uint8] = np.clip(128 + 30 * texture / texture.std(), 0, 255).astype(np.uint8)
    return levels

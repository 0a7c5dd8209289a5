"""What the scores cost: processor time, memory beside the field's library, and wall time inside a run.

    python -m tests.bench.scores [--size 3840] [--rounds 2] [--iqa-python FILE] [--skip-run]

Every measurement is a process of its own with one thread, on one tissue section. The field's library (pyiqa) scores the
same tiles through the adapter; it lives in an environment of its own (`make test-iqa` builds `.venv-iqa`), and where
there is none its lines are left out. What scoring adds to a run is measured on two processors, run by run in
turns with and without the report, the fastest of each, because whatever else the machine does slows both.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).resolve().parents[2] / "bench-results"
ROOT = Path(__file__).resolve().parents[2]
Tile = np.ndarray[Any, np.dtype[np.float32]]
SIZE_PX = 3840
RUN_SIZES_PX = (3840, 7680)
"""Sections of a run: one block, whose scores all come after it, and four, of which three are scored beside the next."""
TILE_PX = 480
ROUNDS = 2
TARGET_S_PER_MPX = 0.1
TARGET_MEMORY = 0.25
TARGET_RUN = 1.30
RUN_THREADS = 2


def tiles(options: argparse.Namespace) -> Iterator[Tile]:
    """Yield the tiles of the section, 0..1; one is in memory at a time."""
    image = np.load(pixels_file(options), mmap_mode="r")
    places = range(0, options.size - TILE_PX + 1, TILE_PX)
    for y in places:
        for x in places:
            yield image[y : y + TILE_PX, x : x + TILE_PX].astype(np.float32) / np.float32(255)


def timed(one: Callable[[Tile], Any], options: argparse.Namespace) -> dict[str, Any]:
    """Return the processor time per megapixel of a call for every tile; the first call is not counted."""
    one(next(tiles(options)))
    seconds = pixels = 0.0
    for tile in tiles(options):
        started = time.process_time()
        one(tile)
        seconds += time.process_time() - started
        pixels += tile.size
    return {"cpu_s_per_mpx": seconds / pixels * 1e6}


def worker_native(options: argparse.Namespace, _: Path) -> dict[str, Any]:
    """Compute the three scores by the native engine."""
    from bigrestore.report.metrics.engine import create_engine

    return timed(create_engine("native").score, options)


def worker_pyiqa(options: argparse.Namespace, _: Path) -> dict[str, Any]:
    """Compute the three scores by pyiqa, one thread."""
    import torch

    from bigrestore.report.metrics.engine import create_engine

    torch.set_num_threads(1)
    return timed(create_engine("pyiqa").score, options)


def worker_columns(options: argparse.Namespace, _: Path) -> dict[str, Any]:
    """Compute everything that stands beside the scores of a pair: plain figures twice, validity, invented detail, blobs."""
    from bigrestore.report.metrics.blobs import compare
    from bigrestore.report.metrics.columns import plain_measures
    from bigrestore.report.metrics.detail import invented_share
    from bigrestore.report.metrics.validity import tissue_share, why_invalid

    def one(tile: Tile) -> None:
        for _ in ("before", "after"):
            why_invalid(tile, tissue_share(tile, 0.95, 0.005))
            plain_measures(tile)
        invented_share(tile, tile, 0.01)
        compare(tile, tile)

    return timed(one, options)


def worker_run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Restore the section, with or without the report."""
    import bigrestore

    started = time.perf_counter()
    summary = bigrestore.restore(
        options.folder / f"section-{options.size}.ome.zarr",
        folder / "out.ome.zarr",
        model=options.model,
        device="cpu",
        threads=RUN_THREADS,
        report=options.report,
        progress="none",
    )
    return {"wall_s": time.perf_counter() - started, "seconds": summary.seconds}


WORKERS = {"native": worker_native, "pyiqa": worker_pyiqa, "columns": worker_columns, "run": worker_run}


def pixels_file(options: argparse.Namespace) -> Path:
    """Return the file with the section's pixels, which a worker without zarr can read."""
    path: Path = options.folder / f"section-{options.size}.npy"
    return path


def peak_bytes() -> int:
    """Return the peak resident memory of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status says no VmHWM")


def call(
    options: argparse.Namespace, worker: str, *more: str, python: str = sys.executable
) -> dict[str, Any]:
    """Run one worker in a process of its own and return its figures and its peak memory."""
    command = [python, "-m", "tests.bench.scores", "--worker", worker, "--size", str(options.size)]
    command += ["--folder", str(options.folder), "--model", options.model or "", *more]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    found = subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
    said = result.get("cpu_s_per_mpx")
    shown = f"{said:.3f} CPU-s/Mpx" if said is not None else f"{result['wall_s']:.1f} s"
    print(f"  {worker} {' '.join(more)}: {shown}, peak {result['peak_bytes'] / 2**20:.0f} MiB", flush=True)
    return result


def iqa_python(options: argparse.Namespace) -> str | None:
    """Return the interpreter of an environment with pyiqa, None where there is none."""
    if options.iqa_python:
        return str(options.iqa_python)
    own = ROOT / ".venv-iqa" / "bin" / "python"
    for python in (str(own) if own.exists() else None, sys.executable):
        probe = [
            python,
            "-c",
            "import importlib.util, sys; sys.exit(importlib.util.find_spec('pyiqa') is None)",
        ]
        if python and subprocess.run(probe, check=False).returncode == 0:  # type: ignore[arg-type]
            return python
    return None


def measure(options: argparse.Namespace) -> list[Any]:
    """Return the figures of this module, and write them."""
    from tests.bench.metrics import Figure, write_json
    from tests.bench.models import default_model, model_file
    from tests.bench.tissue import tissue, write_section

    options.folder.mkdir(parents=True, exist_ok=True)
    options.model = model_file(options.model or default_model(1), 1)
    write_section(options.folder / f"section-{options.size}.ome.zarr", options.size)
    if not pixels_file(options).exists():
        np.save(pixels_file(options), tissue(options.size, options.size))
    rounds = range(options.rounds)
    native = min((call(options, "native") for _ in rounds), key=lambda r: r["cpu_s_per_mpx"])
    columns = min((call(options, "columns") for _ in rounds), key=lambda r: r["cpu_s_per_mpx"])
    cost = native["cpu_s_per_mpx"]
    name = f"NIQE, BRISQUE and PIQE, one thread, {options.size} x {options.size}"
    found = [
        Figure(name, f"<= {TARGET_S_PER_MPX} CPU-s/Mpx", f"{cost:.3f} CPU-s/Mpx", cost <= TARGET_S_PER_MPX),
        Figure("  all the other columns of a pair", "", f"{columns['cpu_s_per_mpx']:.3f} CPU-s/Mpx", None),
    ]
    results: dict[str, Any] = {"size_px": options.size, "native": native, "columns": columns}
    python = iqa_python(options)
    if python is None:
        found.append(
            Figure("memory of the scores over pyiqa's", "", "left out: pyiqa is not installed", None)
        )
    else:
        other = results["pyiqa"] = call(options, "pyiqa", python=python)
        ratio = native["peak_bytes"] / other["peak_bytes"]
        peaks = f"{native['peak_bytes'] / 2**20:.0f} / {other['peak_bytes'] / 2**20:.0f} MiB"
        found.append(
            Figure(
                "memory of the scores over pyiqa's",
                f"<= {TARGET_MEMORY}",
                f"{ratio:.3f} ({peaks})",
                ratio <= TARGET_MEMORY,
            )
        )
        found.append(Figure("  pyiqa's processor time", "", f"{other['cpu_s_per_mpx']:.3f} CPU-s/Mpx", None))
    if not options.skip_run:
        results["run"] = {}
        for size in RUN_SIZES_PX:
            figure, results["run"][size] = _run(options, size)
            found.append(figure)
    write_json("scores", results)
    return found


def _run(options: argparse.Namespace, size_px: int) -> tuple[Any, dict[str, Any]]:
    """Return what scoring before and after adds to the wall time of a run on a section of a size."""
    from tests.bench.metrics import Figure
    from tests.bench.tissue import write_section

    options = argparse.Namespace(**{**vars(options), "size": size_px})
    write_section(options.folder / f"section-{size_px}.ome.zarr", size_px)
    walls: dict[str, list[float]] = {"--no-report": [], "--report": []}
    for _ in range(options.rounds):
        for flag, times in walls.items():
            times.append(call(options, "run", flag)["wall_s"])
    without, with_report = (min(times) for times in walls.values())
    ratio = with_report / without
    name = f"run with scores over without, {size_px} x {size_px}, {RUN_THREADS} processors"
    shown = f"{ratio:.3f} ({with_report:.1f} s / {without:.1f} s)"
    return Figure(name, f"<= {TARGET_RUN}", shown, ratio <= TARGET_RUN), {"walls": walls, "ratio": ratio}


def parser() -> argparse.ArgumentParser:
    """Return the command line of this module, with its defaults."""
    found = argparse.ArgumentParser(prog="python -m tests.bench.scores")
    found.add_argument("--model", default=None)
    found.add_argument("--size", type=int, default=SIZE_PX, help="side of the section, px")
    found.add_argument("--rounds", type=int, default=ROUNDS)
    found.add_argument(
        "--iqa-python", type=Path, default=None, help="interpreter of an environment with pyiqa"
    )
    found.add_argument("--skip-run", action="store_true")
    found.add_argument("--folder", type=Path, default=RESULTS / "sections", help="where sections are kept")
    found.add_argument("--worker", choices=sorted(WORKERS), default=None, help=argparse.SUPPRESS)
    found.add_argument(
        "--report", action=argparse.BooleanOptionalAction, default=True, help=argparse.SUPPRESS
    )
    return found


def main() -> None:
    """Measure, or be one of the processes that are measured."""
    options = parser().parse_args()
    if options.worker is None:
        from tests.bench.metrics import figure_table

        print(figure_table(measure(options)))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        result = WORKERS[options.worker](options, Path(folder))
    print(json.dumps(result | {"peak_bytes": peak_bytes()}))


if __name__ == "__main__":
    main()

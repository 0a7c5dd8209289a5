"""How fast a run is beside the bare network, how much memory it takes, and how others' tilers do.

    python -m tests.bench.speed [--model FILE] [--size 7680] [--rounds 2] [--skip-memory] [--skip-peers]

Every measurement is a process of its own, because peak memory is the process's (VmHWM), and because a
library that was imported for one would weigh on the next. `--worker` is how this module calls itself.

*Bare network* means the method's `restore` on the tiles of the run's own plan, halos included, cut from an image in
memory, the results thrown away, as many tiles at once as the run has threads. Run and bare network take turns,
and the fastest of each counts: what else the machine does slows both.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from bigrestore.core.host.memory import keep_freed_memory
from tests.bench.metrics import RESULTS, Figure, figure_table, write_json
from tests.bench.models import default_model, model_file
from tests.bench.tissue import write_section

SIZE_PX = 7680
ROUNDS = 2
OVERHEAD_TARGET = 1.10
REDUNDANCY_TARGET = 1.3
MEMORY_TARGET = 1.1
UNET_SHARE_TARGET, DEFAULT_SHARE_TARGET = 0.85, 0.6
CONVERTED_PX = 2048
"""Side of what is converted between storage values and grey, for the rate of that."""

ROOT = Path(__file__).resolve().parents[2]


def peak_bytes() -> int:
    """Return the peak resident memory of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status says no VmHWM")


def worker_run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Restore the section by `bigrestore.restore`."""
    import bigrestore

    started = time.perf_counter()
    summary = bigrestore.restore(
        section(options), folder / "out.ome.zarr", progress="none", **run_flags(options)
    )
    wall = time.perf_counter() - started
    return summary.to_json() | {"wall_s": wall, "skipped_tiles": skipped(folder)}


def worker_busy(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Restore the section under a profiler of the GPU, which costs time, for the share in which kernels compute."""
    from torch.profiler import ProfilerActivity, profile

    from tests.bench.gpu import busy_seconds

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        result = worker_run(options, folder)
    return result | {"busy_share": busy_seconds(profiler.events()) / result["seconds"]["blocks"]}


def worker_bare(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run the network over the tiles of the run's plan, from memory."""
    from bigrestore.core.host.resources import one_thread_per_tile
    from bigrestore.model.method import TileBatch
    from bigrestore.run.profile.section_profile import profile_section

    ready = prepared(options, folder)
    grid, method = ready.plan.grid, ready.method
    tiles = [tile for block in grid.blocks() for tile in grid.tiles(block.box)]
    pixels = ready.section.read(0, 0, ready.section.height, 0, ready.section.width)
    image = pixels.astype(np.float32) / np.float32(255)
    statistics = profile_section(ready.section, 0, method).statistics

    def restore(tile: Any) -> None:
        read = tile.read
        cut = image[read.y0 : read.y1, read.x0 : read.x1]
        below, right = tile.padded_height - cut.shape[0], tile.padded_width - cut.shape[1]
        cut = np.pad(cut, ((0, below), (0, right)), mode="edge")
        method.restore(TileBatch(cut[None], None, np.array([[read.y0, read.x0]], np.int64), 0), statistics)

    one_thread_per_tile()
    started = time.perf_counter()
    with ThreadPoolExecutor(ready.plan.threads) as pool:
        for _ in pool.map(restore, tiles):
            pass
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "tiles": len(tiles), "threads": ready.plan.threads}


def worker_unet(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run the U-Net alone over the pixels of the section once: without halos, deconvolutions, prior and guards."""
    import torch

    from bigrestore.core.host.resources import one_thread_per_tile
    from bigrestore.model.device import DTYPES

    ready = prepared(options, folder)
    method, grid = ready.method, ready.plan.grid
    side = grid.y.edges[1]
    unet, scale, dtype = method._net.unet, method.scale, DTYPES[method.precision]
    x, psi = torch.full((1, 1, side, side), 0.6), torch.full((1, 24), 0.1)
    linear = torch.zeros(1, unet.heads[2] // unet.heads[0], side * scale, side * scale)

    def correct(_: int) -> None:
        with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            unet(x, torch.ones_like(x), psi, linear)

    one_thread_per_tile()
    tiles = round(options.size**2 / side**2)
    started = time.perf_counter()
    with ThreadPoolExecutor(ready.plan.threads) as pool:
        for _ in pool.map(correct, range(tiles)):
            pass
    return {"seconds": (time.perf_counter() - started) * options.size**2 / (tiles * side**2), "tiles": tiles}


def worker_hollow(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Restore the section with a network that takes no time: what is left is the host's part, the bound of a GPU."""
    from bigrestore.core.pixels import from_unit, to_unit
    from bigrestore.model.method import TileBatch, TileResult
    from bigrestore.model.network import NetworkMethod

    def unchanged(self: NetworkMethod, batch: TileBatch, statistics: object) -> TileResult:
        assert self.scale == 1
        return TileResult(batch.pixels.copy())

    NetworkMethod.restore = unchanged  # type: ignore[method-assign, assignment]
    result = worker_run(options, folder)
    stored = np.random.default_rng(0).integers(0, 256, (CONVERTED_PX, CONVERTED_PX), np.uint8)
    grey = to_unit(stored, (0.0, 255.0))
    for name, convert in (
        ("read", lambda: to_unit(stored, (0.0, 255.0))),
        ("written", lambda: from_unit(grey, (0.0, 255.0), stored.dtype)),
    ):
        spent = []
        for _ in range(9):
            started = time.thread_time()
            convert()
            spent.append(time.thread_time() - started)
        result[f"{name}_mpx_per_s"] = stored.size / 1e6 / min(spent)
    return result


def worker_peer(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Restore the section through the tiler that `--peer` names."""
    from bigrestore.core.host.resources import one_thread_per_tile
    from bigrestore.run.profile.section_profile import profile_section
    from tests.bench.peers import PEERS, open_work

    ready = prepared(options, folder)
    statistics = profile_section(ready.section, 0, ready.method).statistics
    core_px = ready.plan.grid.y.edges[1]
    one_thread_per_tile()
    work = open_work(
        section(options), folder / "out.ome.zarr", ready.method, statistics, core_px, ready.plan.threads
    )
    started = time.perf_counter()
    PEERS[options.peer](work)
    return {"seconds": time.perf_counter() - started, "core_px": core_px}


WORKERS = {
    "run": worker_run,
    "busy": worker_busy,
    "bare": worker_bare,
    "unet": worker_unet,
    "hollow": worker_hollow,
    "peer": worker_peer,
}


def prepared(options: argparse.Namespace, folder: Path) -> Any:
    """Resolve the run that the others are compared with, without writing anything."""
    from bigrestore.run.prepared import prepare
    from bigrestore.settings import RunSettings

    settings = RunSettings(**run_flags(options))
    return prepare(str(section(options)), folder / "none.ome.zarr", settings)


def run_flags(options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of every run here; what is not named is the default."""
    flags = {
        "model": options.model,
        "scale": options.scale,
        "device": options.device,
        "precision": options.precision,
        "report": options.report,
    }
    flags |= {} if options.realness is None else {"realness": options.realness}
    return flags | ({"threads": options.threads} if options.threads else {})


def section(options: argparse.Namespace) -> Path:
    """Return the store of the section of the size in hand."""
    return options.folder / f"section-{options.size}.ome.zarr"


def skipped(folder: Path) -> int:
    """Return the tiles that a run took for background, from its journal."""
    records = (folder / "out.ome.zarr.bigrestore" / "journal").glob("*.json")
    found = (json.loads(path.read_text()) for path in records)
    return sum(int((record.get("stats") or {}).get("skipped", 0)) for record in found)


def call(options: argparse.Namespace, worker: str, size: int, peer: str = "") -> dict[str, Any]:
    """Run one worker in a process of its own and return its figures and its peak memory."""
    command = [sys.executable, "-m", "tests.bench.speed", "--worker", worker, "--size", str(size)]
    command += ["--model", options.model, "--device", options.device, "--precision", options.precision]
    command += ["--folder", str(options.folder), "--threads", str(options.threads)]
    command += ["--scale", str(options.scale), *(["--report"] if options.report else [])]
    command += ["--peer", peer] if peer else []
    command += [] if options.realness is None else ["--realness", str(options.realness)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    found = subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
    print(f"  {peer or worker} {size} px: {_said(result)}", flush=True)
    return result


def _said(result: dict[str, Any]) -> str:
    phases = result["seconds"]
    seconds = (
        ", ".join(f"{k} {v:.1f} s" for k, v in phases.items())
        if isinstance(phases, dict)
        else f"{phases:.1f} s"
    )
    return f"{seconds}, {result['cpu_s']:.1f} s of CPU in all, peak {result['peak_bytes'] / 2**20:.0f} MiB"


def run_against_bare(options: argparse.Namespace) -> tuple[list[Figure], dict[str, Any]]:
    """Return the overhead of the blocks phase, with the other phases beside it, and the redundancy."""
    runs, bares = [], []
    for _ in range(options.rounds):
        bares.append(call(options, "bare", options.size))
        runs.append(call(options, "run", options.size))
    best = min(runs, key=lambda run: run["seconds"]["blocks"])
    blocks, bare = best["seconds"]["blocks"], min(found["seconds"] for found in bares)
    ratio = blocks / bare
    beside = ", ".join(f"{name} {value:.1f} s" for name, value in best["seconds"].items() if name != "blocks")
    name = f"blocks phase of run over the bare network, {options.size} x {options.size}"
    lines = [
        Figure(
            name,
            f"<= {OVERHEAD_TARGET:.2f}",
            f"{ratio:.3f} ({blocks:.1f} s / {bare:.1f} s)",
            ratio <= OVERHEAD_TARGET,
        ),
        Figure("  beside it", "", beside, None),
        Figure("  rate, output pixels", "", f"{best['mpx_per_second']:.2f} MPx/s", None),
        Figure(
            "redundancy at x1",
            f"<= {REDUNDANCY_TARGET}",
            f"{best['redundancy']:.3f} (tile {best['tile_px']} px)",
            best["redundancy"] <= REDUNDANCY_TARGET,
        ),
    ]
    if best["skipped_tiles"]:
        lines.append(Figure("  tiles that the run skipped", "0", str(best["skipped_tiles"]), False))
    return lines, {"runs": runs, "bare": bares, "ratio": ratio, "best": best}


def against_unet(options: argparse.Namespace, default: dict[str, Any]) -> tuple[list[Figure], dict[str, Any]]:
    """Return the rate of a run as a share of that of its U-Net alone: at realness 0, and as it is by default."""
    options.realness = 0.0
    unets, runs = [], []
    for _ in range(options.rounds):
        unets.append(call(options, "unet", options.size)["seconds"])
        runs.append(call(options, "run", options.size)["seconds"]["blocks"])
    options.realness = None
    unet, run, usual = min(unets), min(runs), default["seconds"]["blocks"]
    lines = [
        Figure(
            f"{name} over that of its U-Net alone",
            f">= {target}",
            f"{unet / seconds:.2f} ({options.size**2 / 1e6 / seconds:.2f} MPx/s)",
            unet / seconds >= target,
        )
        for name, seconds, target in (
            ("rate of run at realness 0", run, UNET_SHARE_TARGET),
            ("rate of run by default", usual, DEFAULT_SHARE_TARGET),
        )
    ]
    return lines, {"unet": unets, "runs": runs}


def without_network(options: argparse.Namespace) -> tuple[list[Figure], dict[str, Any]]:
    """Return the rate of the blocks phase with a network that takes no time, and of the conversions of pixels."""
    found = [call(options, "hollow", options.size) for _ in range(options.rounds)]
    best = min(found, key=lambda one: one["seconds"]["blocks"])
    rate = options.size**2 / 1e6 / best["seconds"]["blocks"]
    converted = ", ".join(
        f"{best[f'{name}_mpx_per_s']:,.0f} MPx/s when {name}" for name in ("read", "written")
    )
    lines = [
        Figure("blocks phase with a network that takes no time", "", f"{rate:.0f} MPx/s", None),
        Figure("  conversion of storage values, a processor", "", converted, None),
    ]
    return lines, {"hollow": found}


def against_peers(options: argparse.Namespace, best: dict[str, Any]) -> tuple[list[Figure], dict[str, Any]]:
    """Return time and memory of the run as shares of each peer's."""
    from tests.bench.peers import PEERS

    lines, found = [], {}
    for peer in PEERS:
        result = call(options, "peer", options.size, peer)
        time_ratio = best["seconds"]["blocks"] / result["seconds"]
        memory_ratio = best["peak_bytes"] / result["peak_bytes"]
        found[peer] = result | {"time_ratio": time_ratio, "memory_ratio": memory_ratio}
        lines.append(Figure(f"time of run over {peer}", "< 1", f"{time_ratio:.2f}", time_ratio < 1))
        lines.append(Figure(f"memory of run over {peer}", "< 1", f"{memory_ratio:.2f}", memory_ratio < 1))
    return lines, found


def memory_growth(
    options: argparse.Namespace, runs: list[dict[str, Any]]
) -> tuple[list[Figure], dict[str, Any]]:
    """Return the peak memory of a section four times as large over that of the usual one.

    A peak is where the tiles in flight happen to be at their largest at once, and the more tiles there are, the more
    often that is tried. So the peak of the large section is held against the highest of four runs of the
    usual one, which have as many tiles together.
    """
    size = 2 * options.size
    runs = [*runs, *(call(options, "run", options.size) for _ in range(4 - len(runs)))]
    small = max(runs, key=lambda one: one["peak_bytes"])
    write_section(options.folder / f"section-{size}.ome.zarr", size)
    large = call(options, "run", size)
    ratio = large["peak_bytes"] / small["peak_bytes"]
    name = f"peak memory, {size} x {size} over {options.size} x {options.size}"
    peaks = f"{large['peak_bytes'] / 2**20:.0f} / {small['peak_bytes'] / 2**20:.0f} MiB"
    line = Figure(name, f"<= {MEMORY_TARGET}", f"{ratio:.3f} ({peaks})", ratio <= MEMORY_TARGET)
    return [line], {"large": large, "ratio": ratio}


def measure(options: argparse.Namespace) -> list[Figure]:
    """Return the figures of this module, and write them."""
    options.model = model_file(options.model or default_model(options.scale), options.scale)
    write_section(section(options), options.size)
    lines, run = run_against_bare(options)
    results = {"size_px": options.size, "model": options.model, "run": run, "threads": run["best"]["threads"]}
    found, results["unet"] = against_unet(options, run["best"])
    lines += found
    found, results["hollow"] = without_network(options)
    lines += found
    if not options.skip_peers:
        found, results["peers"] = against_peers(options, run["best"])
        lines += found
    if not options.skip_memory:
        found, results["memory"] = memory_growth(options, run["runs"])
        lines += found
    write_json("speed", results)
    return lines


def parser() -> argparse.ArgumentParser:
    """Return the command line of this module, with its defaults."""
    found = argparse.ArgumentParser(prog="python -m tests.bench.speed")
    found.add_argument("--model", default=None)
    found.add_argument("--size", type=int, default=SIZE_PX, help="side of the section, px")
    found.add_argument("--rounds", type=int, default=ROUNDS)
    found.add_argument("--scale", type=int, default=1)
    found.add_argument(
        "--report", action="store_true", help="score each tile; the scores have a bench of their own"
    )
    found.add_argument("--device", default="auto")
    found.add_argument("--precision", default="auto")
    found.add_argument("--realness", type=float, default=None)
    found.add_argument("--threads", type=int, default=0, help="tiles in flight; 0: the run's own choice")
    found.add_argument("--skip-peers", action="store_true")
    found.add_argument("--skip-memory", action="store_true")
    found.add_argument(
        "--folder", type=Path, default=RESULTS / "sections", help="where large sections are kept"
    )
    found.add_argument("--worker", choices=sorted(WORKERS), default=None, help=argparse.SUPPRESS)
    found.add_argument("--peer", default="", help=argparse.SUPPRESS)
    return found


def main() -> None:
    """Measure, or be one of the processes that are measured."""
    options = parser().parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.worker is None:
        print(figure_table(measure(options)))
        return
    keep_freed_memory()  # as the command line does
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        result = WORKERS[options.worker](options, Path(folder))
    print(json.dumps(result | {"peak_bytes": peak_bytes(), "cpu_s": time.process_time()}))


if __name__ == "__main__":
    main()

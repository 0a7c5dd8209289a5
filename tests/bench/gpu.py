"""How fast a GPU restores, in one table: its busy share, a run beside the bare network, and a whole brain.

    python -m tests.bench.gpu [--size 7680] [--scales 1,2] [--device cuda]

For each scale: the bare network (`tests.bench.speed`) and runs with the report and without, each in a process of its
own. The busy share is that of the blocks phase in which at least one kernel computes, by torch's profiler, in a run
that counts for nothing else. A rate is that of a whole run but its start-up, which a brain pays once. Where there is
no GPU nothing is measured, and a line says so.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

import torch

from tests.bench import speed
from tests.bench.metrics import Figure, figure_table, write_json
from tests.bench.models import default_model, model_file
from tests.bench.tissue import write_section

SECTIONS, SECTION_MPX = 7404, 37.5
"""Of the BigBrain at 20 um."""

COPIES = ("Memcpy", "Memset")


def busy_seconds(events: Iterable[Any]) -> float:
    """Return the time in which at least one kernel computed: the union of the spans of a profile's events.

    Parameters
    ----------
    events : iterable of torch.autograd.profiler_util.FunctionEvent
        Times are in microseconds. Those of the host, and copies, do not count.
    """
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in events
        if event.device_type == torch.autograd.DeviceType.CUDA and not event.name.startswith(COPIES)
    )
    total, reached = 0.0, float("-inf")
    for start, end in spans:
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total / 1e6


def rate_of(run: dict[str, Any]) -> float:
    """Return the output megapixels a second of a run but its start-up."""
    seconds = sum(value for phase, value in run["seconds"].items() if phase != "start-up")
    return float(run["megapixels"]) / seconds


def figures_of(
    scale: int,
    bare: dict[str, Any],
    plain: dict[str, Any],
    scored: dict[str, Any],
    busy: dict[str, Any] | None,
) -> list[Figure]:
    """Return the lines of a scale, of the figures of its processes; without a profile there is no busy share."""
    blocks = plain["seconds"]["blocks"]
    over = blocks / bare["seconds"]
    hours = SECTIONS * SECTION_MPX * scale**2 / rate_of(scored) / 3600
    lines = [
        Figure(
            f"x{scale}: blocks phase over the bare network",
            f"<= {speed.OVERHEAD_TARGET:.2f}",
            f"{over:.3f} ({blocks:.2f} s / {bare['seconds']:.2f} s)",
            over <= speed.OVERHEAD_TARGET,
        ),
        Figure("  rate of the blocks phase", "", f"{plain['megapixels'] / blocks:.1f} MPx/s", None),
        Figure("  rate without report", "", f"{rate_of(plain):.1f} MPx/s", None),
        Figure("  rate with report", "", f"{rate_of(scored):.1f} MPx/s", None),
        Figure(f"  {SECTIONS:,} sections of {SECTION_MPX} MPx, with report", "", f"{hours:.1f} h", None),
    ]
    if busy is not None:
        lines.insert(1, Figure("  kernels' share of it", "", f"{busy['busy_share']:.0%}", None))
    return lines


def measure(options: argparse.Namespace) -> list[Figure]:
    """Return the figures of all scales, and write them."""
    lines: list[Figure] = []
    results: dict[str, Any] = {}
    for scale in (int(text) for text in options.scales.split(",")):
        words = ["--size", str(options.size), "--scale", str(scale), "--device", options.device]
        asked = speed.parser().parse_args(words)
        asked.folder.mkdir(parents=True, exist_ok=True)
        asked.model = model_file(default_model(scale), scale)
        write_section(speed.section(asked), asked.size)
        bare, plain = (speed.call(asked, worker, asked.size) for worker in ("bare", "run"))
        busy = speed.call(asked, "busy", asked.size) if options.device.startswith("cuda") else None
        asked.report = True
        scored = speed.call(asked, "run", asked.size)
        results[f"x{scale}"] = {"bare": bare, "plain": plain, "busy": busy, "scored": scored}
        lines += figures_of(scale, bare, plain, scored, busy)
    write_json("gpu", results)
    return lines


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gpu")
    parser.add_argument("--size", type=int, default=speed.SIZE_PX, help="side of the section, px")
    parser.add_argument("--scales", default="1,2")
    parser.add_argument("--device", default="cuda", help="cpu: to try this very command")
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("No GPU with CUDA is here, so its figures are left out.")
        return
    if options.device.startswith("cuda"):
        print(f"{torch.cuda.get_device_name(options.device)}, torch {torch.__version__}")
    print(figure_table(measure(options)))


if __name__ == "__main__":
    main()

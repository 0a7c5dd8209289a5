"""Every figure that the project promises, measured here and now: figure, target, measured, met?

    make bench
    python -m tests.bench [--only quality,speed] [--quick] [--model-x1 FILE] [--model-x2 FILE]

Without real images (BIGRESTORE_DATA) the figures that need them are left out, and the table says so. Everything
measured is written to bench-results/ as JSON.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs

from tests.bench.metrics import Figure, figure_table, write_json

PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
BEGIN, END, HEADING = "<!-- bench:begin -->", "<!-- bench:end -->", "### "
MODULES = ("startup", "quality", "twin", "precision", "tiling", "speed", "scores", "realness", "judges")
NEED_IMAGES = ("quality", "twin", "precision", "realness", "judges")


def startup(options: argparse.Namespace) -> list[Figure]:
    """Time the help."""
    from tests.bench.startup import measure

    return measure()


def quality(options: argparse.Namespace) -> list[Figure]:
    """Restore the images of val/ by whole runs, and by the classical methods that know the kernel."""
    from tests.bench.quality import measure

    return measure(options.model_x1, options.model_x2, crop_px=options.crop, device=options.device)


def twin(options: argparse.Namespace) -> list[Figure]:
    """Restore images that are soft as BigBrain's are, and read the blur over a grid of blur, noise and tissue."""
    from tests.bench.twin.__main__ import measure

    return measure(options.model_x1, options.model_x2, crop_px=options.crop, device=options.device)


def precision(options: argparse.Namespace) -> list[Figure]:
    """Compare bf16 with fp32."""
    from tests.bench.precision import measure

    return measure(None if options.model_x1 is None else options.model_x1, device=options.device)


def tiling(options: argparse.Namespace) -> list[Figure]:
    """Compare tiled with whole."""
    from tests.bench.tiling import SIDE_PX, measure

    return measure(options.model_x1, 640 if options.quick else SIDE_PX, device=options.device)


def speed(options: argparse.Namespace) -> list[Figure]:
    """Time and weigh a run, the bare network, and others' tilers."""
    from tests.bench.speed import measure, parser

    chosen = ["--device", options.device]
    chosen += ["--model", options.model_x1] if options.model_x1 else []
    chosen += ["--size", "3840", "--rounds", "1", "--skip-memory"] if options.quick else []
    found = parser().parse_args(chosen)
    found.folder.mkdir(parents=True, exist_ok=True)
    return measure(found)


def scores(options: argparse.Namespace) -> list[Figure]:
    """Time and weigh the scores, alone, beside pyiqa and inside a run."""
    from tests.bench.scores import measure, parser

    chosen = ["--model", options.model_x1] if options.model_x1 else []
    chosen += ["--size", "960", "--rounds", "1"] if options.quick else []
    return measure(parser().parse_args(chosen))


def realness(options: argparse.Namespace) -> list[Figure]:
    """Draw the curves over realness, beside an unsharp mask and Real-ESRGAN."""
    from tests.bench.realness import measure, parse

    lines: list[Figure] = []
    for scale, model in ((1, options.model_x1), (2, options.model_x2)):
        words = ["--scale", str(scale), "--device", "cpu" if options.device == "auto" else options.device]
        words += ["--model", model] if model else []
        words += ["--threads", str(os.cpu_count() or 1)]
        words += ["--crop", str(options.crop), "--peer-crop", "64"] if options.crop else []
        lines += measure(parse(words))
    return lines


def judges(options: argparse.Namespace) -> list[Figure]:
    """Ask the judges that ship about the truth, other images and invented cells."""
    from tests.bench.judges import measure

    return measure(crop_px=options.crop or 192)


MEASURES: dict[str, Callable[[argparse.Namespace], list[Figure]]] = {
    "startup": startup,
    "quality": quality,
    "twin": twin,
    "precision": precision,
    "tiling": tiling,
    "speed": speed,
    "scores": scores,
    "realness": realness,
    "judges": judges,
}


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description="Measure what docs/benchmarks.md states."
    )
    parser.add_argument("--only", default=",".join(MODULES), help="which modules, of " + ", ".join(MODULES))
    parser.add_argument("--quick", action="store_true", help="small images: a look, no figures to quote")
    parser.add_argument("--model-x1", default=None, help="model at the same size (default: the shipped one)")
    parser.add_argument("--model-x2", default=None, help="model that enlarges by two")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--readme", action="store_true", help="put the table into docs/benchmarks.md")
    options = parser.parse_args()
    options.chosen = [name.strip() for name in options.only.split(",")]
    unknown = set(options.chosen) - set(MODULES)
    if unknown:
        parser.error(f"no module {', '.join(sorted(unknown))}; there are {', '.join(MODULES)}")
    options.crop = 256 if options.quick else None
    return options


def write_page(measured: Mapping[str, Sequence[Figure]], machine: str) -> None:
    """Replace the tables of the measured modules between the two marks of docs/benchmarks.md; the others stay."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    body, _, after = rest.partition(END)
    parts = dict(part.split("\n", 1) for part in body.split(HEADING)[1:])
    for name, figures in measured.items():
        rows = [f"| figure | target | on {machine} | met? |", "|---|---|---|---|"]
        rows += [f"| {f.name.strip()} | {f.target} | {f.measured} | {f.verdict} |" for f in figures]
        parts[name] = "\n".join(["", *rows, "", ""])
    tables = "".join(f"{HEADING}{name}\n{parts[name]}" for name in MODULES if name in parts)
    PAGE.write_text(f"{before}{BEGIN}\n\n{tables}{END}{after}", encoding="utf-8")


def machine() -> str:
    """Return the kind of machine in words: processors, and the GPU where there is one."""
    import torch

    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors, {gpu}, torch {torch.__version__}"


def main() -> None:
    """Measure, print one table, write JSON."""
    options = arguments()
    measured: dict[str, list[Figure]] = {}
    for name in options.chosen:
        if name in NEED_IMAGES and not os.environ.get("BIGRESTORE_DATA"):
            print(f"# {name} is left out: BIGRESTORE_DATA is not set", flush=True)
            continue
        started = time.perf_counter()
        print(f"# {name}", flush=True)
        measured[name] = MEASURES[name](options)
        print(f"# {name} took {time.perf_counter() - started:.0f} s\n", flush=True)
    figures = [figure for part in measured.values() for figure in part]
    print(figure_table(figures))
    missed = sum(figure.met is False for figure in figures)
    print(
        f"\n{missed} of {sum(figure.met is not None for figure in figures)} targets missed" if missed else ""
    )
    rows = [attrs.asdict(figure) for figure in figures]
    content = {"figures": rows, "machine": machine(), "quick": options.quick}
    print(f"written: {write_json('bench', content)}")
    if options.readme:
        write_page(measured, machine())


if __name__ == "__main__":
    main()

"""What models make of images that are soft as BigBrain's are.

python -m tests.bench.twin [--model FILE ...] [--scale 1] [--crop N] [--gain-only]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from tests.bench.models import default_model, load_method
from tests.bench.twin.gains import TOLD_SIGMAS, Model, gains_table, judge_gains
from tests.bench.twin.pairs import SEED, twin_pairs


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.twin", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--model", nargs="*", default=[], help="model files or names; default: the shipped ones"
    )
    parser.add_argument("--scale", type=int, choices=(1, 2), default=None)
    parser.add_argument(
        "--crop", type=int, default=None, help="compare only the middle CROP x CROP input pixels"
    )
    parser.add_argument("--seed", type=int, default=SEED, help="of the pairs")
    parser.add_argument("--gain-only", action="store_true", help="only the gains in dB")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--threads", type=int, default=1, help="threads of the network")
    parser.add_argument("--through-run", action="store_true", help="restore files by the whole run")
    return parser.parse_args()


def models(options: argparse.Namespace) -> list[Model]:
    """Return the models that the command line names."""
    how = {
        "device": options.device,
        "precision": options.precision,
        "through_run": options.through_run,
    }
    scales = (options.scale,) if options.scale else (1, 2)
    if not options.model:
        return [Model(default_model(scale), scale, **how) for scale in scales]
    return [Model(name, int(load_method(name, scale=options.scale).scale), **how) for name in options.model]


def main() -> None:
    """Judge every model and print the tables."""
    options = arguments()
    import torch

    torch.set_num_threads(options.threads)
    for model in models(options):
        started = time.perf_counter()
        pairs = twin_pairs(model.scale, options.seed, options.crop)
        rows = judge_gains(model, pairs, TOLD_SIGMAS)
        title = Path(model.name).stem if model.name.endswith(".safetensors") else model.name
        print(f"## {title} x{model.scale}\n{gains_table(rows, model.scale)}")
        print(f"{time.perf_counter() - started:.0f} s\n", flush=True)


if __name__ == "__main__":
    main()

"""Train every shipped model from nothing, one after the other, into a folder.

    python examples/train_all.py IMAGES FOLDER [--minutes 1440] [--device cuda]

`--minutes` is the length of all trainings together; each has its share. A training that was stopped goes on when the
command is given again, and one that is done is left as it is. A model of the stages before lies beside each, so any
of them can be deleted and made again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Training:
    """One training: the file it makes, its stage, scale and share of the minutes, and the files it begins with."""

    makes: str
    stage: str
    share: float
    scale: int | None = 1
    start: str | None = None
    prior: str | None = None
    model: str | None = None


PLAN = (
    Training("estimator-x1", "estimator", 6),
    Training("fidelity-x1", "fidelity", 20, start="estimator-x1"),
    Training("prior-x1", "prior", 10, start="fidelity-x1"),
    Training("bridge-x1", "bridge", 5, start="prior-x1"),
    Training("tiny-x1", "polish", 2, start="bridge-x1"),
    Training("estimator-x2", "estimator", 6, 2),
    Training("fidelity-x2", "fidelity", 20, 2, start="estimator-x2"),
    Training("bridge-x2", "bridge", 5, 2, start="fidelity-x2", prior="tiny-x1"),
    Training("tiny-x2", "polish", 2, 2, start="bridge-x2"),
    Training("estimator-x4", "estimator", 3, 4),
    Training("tiny-x4", "fidelity", 6, 4, start="estimator-x4"),
    Training("denoiser-x1", "denoiser", 5, None),
    Training("resolver-x1", "resolver", 2, None, start="denoiser-x1"),
    Training("unrolled-x1", "unrolled", 4),
    Training("unrolled-x2", "unrolled", 4, 2, start="unrolled-x1"),
    Training("likelihood-x1", "likelihood", 4),
    Training("likelihood-x2", "likelihood", 4, 2),
    Training("ranking-x1", "ranking", 3, None),
    Training("objective-x1", "objective", 2, model="tiny-x1"),
)


def command(training: Training, options: argparse.Namespace) -> list[str]:
    """Return the command of a training."""

    def file(name: str) -> str:
        return str(options.folder / f"{name}.safetensors")

    words = ["train", training.stage, str(options.images), "--output", file(training.makes), "--resume"]
    if options.steps:
        words += ["--steps", str(options.steps)]
    else:
        words += ["--minutes", f"{options.minutes * training.share / sum(one.share for one in PLAN):.2f}"]
    if training.scale:
        words += ["--scale", str(training.scale)]
    if training.start:
        words += ["--start", file(training.start)]
    if training.prior:
        words += ["--prior", file(training.prior)]
    if training.model:
        words += ["--model", file(training.model)]
    return [sys.executable, "-m", "bigrestore", *words, "--device", options.device, *options.further]


def main() -> int:
    """Train what is missing; return the exit code of the first training that fails, or 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("images", type=Path, help="folder of clean images of tissue")
    parser.add_argument("folder", type=Path, help="where the models go")
    parser.add_argument("--minutes", type=float, default=1440, help="of all trainings together")
    parser.add_argument("--steps", type=int, help="of each training, instead of minutes: to try the command")
    parser.add_argument("--device", default="auto")
    options, options.further = parser.parse_known_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for training in PLAN:
        if (options.folder / f"{training.makes}.safetensors").exists():
            print(f"{training.makes}: done", flush=True)
            continue
        print(f"{training.makes}: train {training.stage}", flush=True)
        code = subprocess.run(command(training, options), check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())

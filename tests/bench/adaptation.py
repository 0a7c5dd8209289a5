"""What `bigrestore adapt` brings on tissue that is like what it was adapted to, and what it costs on other tissue.

    python -m tests.bench.adaptation [--start tiny-x1] [--minutes 15] [--threads 2]
    python -m tests.bench.adaptation --leave-out howler --steps 1000

The user's sections are the inputs of the twin (`tests.bench.twin.pairs`) of six mammals. In turn each is left out, the
model is adapted to the other five, and it restores the one that was left out, blind and told the blur. Other tissue is
the mouse and the human cortex of the twin, never adapted to. All is compared with the start model at realness 0, told
the same. Nothing that is adapted here may ship: its weights are removed, unless --keep names a folder to look at them.
Six adaptations of 15 minutes and their figures take about two hours on two cores; each is written as it is done.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bigrestore.settings.train import AdaptOptions, StageOptions
from bigrestore.training.adaptation.adaptation import adapt
from tests.bench.metrics import Figure, figure_table, table, to_bytes, write_json
from tests.bench.models import default_model
from tests.bench.twin.gains import TOLD_SIGMAS, Model, gain_row, read_sigma
from tests.bench.twin.pairs import TwinPair, twin_pairs

MAMMALS = ("howler", "langur", "lion", "mandrill", "rabbit", "zebra")

GAIN_DB, LOSS_DB = 0.1, 0.2
"""What the left-out section must gain, and what other tissue may lose, told the same kernel."""

KINDS = ("gain_told", "gain_blind", "gain_best")


def judge(model: Model, pairs: Sequence[TwinPair]) -> dict[str, dict[str, Any]]:
    """Return a row of gains over the input for every pair, and the sigma read, by the image's name."""
    told = {sigma: model.candidate(told_sigma=sigma) for sigma in TOLD_SIGMAS}
    blind = model.candidate()
    assert blind.analyse is not None
    rows = {}
    for pair in pairs:
        row = gain_row(pair, to_bytes(blind.restore(pair.low)), told)
        rows[pair.name] = row | {"sigma_read": read_sigma(blind.analyse(pair.low), model.scale)}
    return rows


def adapted_without(left_out: str, pairs: Sequence[TwinPair], folder: Path, options: AdaptOptions) -> Path:
    """Adapt the start model to the inputs of all mammals but one, and return the model."""
    sections = []
    for pair in pairs:
        if is_mammal(pair) and not pair.name.startswith(left_out):
            sections.append(folder / f"{pair.name.replace(' ', '-')}.png")
            Image.fromarray(pair.low).save(sections[-1])
    output = folder / f"without-{left_out}.safetensors"
    result = adapt(sections, output, options)
    if result.status != "done":
        raise SystemExit(f"The adaptation without {left_out} was stopped.")
    return output


def is_mammal(pair: TwinPair) -> bool:
    """Tell the six mammals from other tissue."""
    return pair.name.startswith(MAMMALS)


def compare(
    left_out: str, before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Return what changed from the start to the adapted model, dB: for the left-out image, those seen, and others."""
    changes = {
        name: {kind: after[name][kind] - before[name][kind] for kind in KINDS}
        | {"sigma_before": before[name]["sigma_read"], "sigma_after": after[name]["sigma_read"]}
        for name in before
    }
    left = next(name for name in before if name.startswith(left_out))
    seen = [name for name in before if name.startswith(MAMMALS) and name != left]
    return {
        "left_out": {"name": left, **changes[left]},
        "seen": {name: changes[name] for name in seen},
        "other": {name: change for name, change in changes.items() if name != left and name not in seen},
        "rows": after,
    }


def report(folds: Sequence[dict[str, Any]]) -> str:
    """Return one row an adaptation: changes in dB, told 0.6, blind and at the best sigma told."""
    header = (
        "left out",
        "told 0.6",
        "blind",
        "best told",
        "sigma read",
        "seen, told",
        "other, told",
        "worst",
        "other, blind",
        "worst",
    )
    rows = []
    for fold in folds:
        left = fold["left_out"]
        groups = {
            (name, kind): [change[kind] for change in fold[name].values()]
            for name in ("seen", "other")
            for kind in KINDS
        }
        told, blind = groups["other", "gain_told"], groups["other", "gain_blind"]
        numbers = [left[kind] for kind in KINDS]
        means = [np.mean(groups["seen", "gain_told"]), np.mean(told), min(told), np.mean(blind), min(blind)]
        cells = [f"{number:+.2f}" for number in (*numbers, *means)]
        cells.insert(3, f"{left['sigma_before']:.2f} to {left['sigma_after']:.2f}")
        rows.append((left["name"], *cells))
    return table(header, rows)


def figures(folds: Sequence[dict[str, Any]]) -> list[Figure]:
    """Return what is promised, and whether it is kept."""
    left = [fold["left_out"]["gain_told"] for fold in folds]
    blind = [fold["left_out"]["gain_blind"] for fold in folds]
    other = [change["gain_told"] for fold in folds for change in fold["other"].values()]
    return [
        Figure(
            f"adapted to five mammals, the sixth, told 0.6, least of {len(left)}",
            f">= +{GAIN_DB} dB",
            f"{min(left):+.2f} dB (mean {np.mean(left):+.2f})",
            min(left) >= GAIN_DB,
        ),
        Figure("the same, blind", "", f"{min(blind):+.2f} dB (mean {np.mean(blind):+.2f})", None),
        Figure(
            "adapted to mammals, other tissue, told 0.6, worst",
            f">= -{LOSS_DB} dB",
            f"{min(other):+.2f} dB (mean {np.mean(other):+.2f})",
            min(other) >= -LOSS_DB,
        ),
    ]


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.adaptation", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--start", default=default_model(1), help="model to adapt (default: the shipped one)")
    parser.add_argument("--leave-out", nargs="*", default=list(MAMMALS), choices=MAMMALS)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=None, help="of each adaptation (default: 15)")
    length.add_argument("--steps", type=int, default=None, help="instead of minutes")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="bf16", choices=("fp32", "bf16"), help="of the training")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--keep", type=Path, default=None, metavar="FOLDER", help="keep models, cards and sheets"
    )
    return parser.parse_args(words)


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Adapt and judge, one fold after the other; what is done is written each time."""
    minutes = options.minutes if options.minutes or options.steps else 15.0
    training = StageOptions(
        minutes=minutes,
        steps=options.steps,
        device=options.device,
        precision=options.precision,
        threads=options.threads,
        seed=options.seed,
        rate=AdaptOptions().training.rate,
    )
    pairs = twin_pairs(1)
    before = judge(Model(options.start, 1, options.device), pairs)
    folds: list[dict[str, Any]] = []
    for left_out in options.leave_out:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as passing:
            folder = options.keep or Path(passing)
            folder.mkdir(parents=True, exist_ok=True)
            model = adapted_without(
                left_out, pairs, folder, AdaptOptions(_start_file(options.start), training=training)
            )
            folds.append(compare(left_out, before, judge(Model(str(model), 1, options.device), pairs)))
        folds[-1]["seconds"] = round(time.perf_counter() - began)
        content = {
            "start": options.start,
            "before": before,
            "folds": folds,
            "minutes": minutes,
            "steps": options.steps,
        }
        path = write_json("adaptation", content)
        print(f"{report(folds)}\n\n{figure_table(figures(folds))}\nwritten: {path}\n", flush=True)
    return folds


def _start_file(name: str) -> str:
    """Return the file of a model that is named without its scale."""
    from bigrestore.model.nets.checkpoint import find_model

    return str(find_model(name, 1))


def main() -> None:
    """Run the command line."""
    from bigrestore.errors import BigrestoreError

    try:
        measure(arguments())
    except BigrestoreError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()

"""Everything that is measured of one model on the twin: gains, scores, residuals and lines at Nyquist.

Gains and lines are taken at realness 0, lines at realness 1 as well; scores and residuals at the model's default, which
is what a user gets. Nothing is compared within 24 input pixels of the border.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.bench.metrics import table
from tests.bench.naturalness import SCORES, changes, interval_text, judge, tissue_tiles
from tests.bench.realness import has_prior
from tests.bench.twin.gains import Model, fidelity, gains_table, judge_gains, reference_of, restored
from tests.bench.twin.pairs import TwinPair
from tests.bench.twin.residual import residual_ratio
from tests.bench.twin.spectra import nyquist_lines

Grey = NDArray[np.uint8]

PARTS = ("gains", "scores", "residuals", "lines")
CLEAR_GAIN_DB = 1.0
"""Gain from which an image is asked whether it explains its input."""


class Restorations:
    """What a model makes of all pairs, by realness, each made once and when it is first asked for."""

    def __init__(self, model: Model, pairs: Sequence[TwinPair]) -> None:
        self.model, self.pairs = model, pairs
        stated = model.method(None).describe()
        self.default, self.sha256 = float(stated["realness"]), str(stated["sha256"])
        self.has_prior = has_prior(model.name, model.scale)
        self._images: dict[float, list[Grey]] = {}

    def at(self, realness: float) -> list[Grey]:
        """Return the images at a realness."""
        if realness not in self._images:
            self._images[realness] = restored(self.model, self.pairs, realness)
        return self._images[realness]

    def gains(self, realness: float) -> list[float]:
        """Return the blind gains at a realness, dB."""
        return [
            fidelity(image, pair) - fidelity(reference_of(pair), pair)
            for image, pair in zip(self.at(realness), self.pairs, strict=True)
        ]


def judge_model(model: Model, pairs: Sequence[TwinPair], parts: Sequence[str]) -> dict[str, Any]:
    """Return the parts that are asked for, of `PARTS`."""
    made = Restorations(model, pairs)
    results: dict[str, Any] = {
        "model": model.name,
        "sha256": made.sha256,
        "scale": model.scale,
        "default_realness": made.default,
    }
    if "gains" in parts:
        results["gains"] = judge_gains(model, pairs, made.at(0.0))
        results["gains_default"] = made.gains(made.default)
    if "scores" in parts:
        results["scores"] = judge_scores(made.at(made.default), pairs)
    if "residuals" in parts:
        results["residuals"] = judge_residuals(made)
    if "lines" in parts:
        results["lines"] = judge_lines(made)
    return results


def judge_scores(images: Sequence[Grey], pairs: Sequence[TwinPair]) -> dict[str, Any]:
    """Return by how much each score changes from the input to the images and to the targets, with its interval.

    The tiles of 192 px are those that are tissue in the target, on one grid that starts where the comparison starts.
    """
    truths = [np.ascontiguousarray(pair.inside(pair.target)) for pair in pairs]
    tiles = [tissue_tiles(truth) for truth in truths]

    def judged(candidates: Sequence[Grey]) -> list[Any]:
        cut = [pair.inside(image) for pair, image in zip(pairs, candidates, strict=True)]
        return [judge(*one) for one in zip(cut, truths, tiles, strict=True)]

    before, after = judged([reference_of(pair) for pair in pairs]), judged(images)
    clean = judged([pair.target for pair in pairs])
    invented = [image.invented for image in after]
    total = sum(invented[1:], start=invented[0])
    return {
        "tiles": sum(map(len, tiles)),
        "changes": changes([after], [before]),
        "changes_target": changes([clean], [before]),
        "invented": total.share,
    }


def judge_residuals(made: Restorations) -> list[dict[str, Any]]:
    """Return what is left of the inputs over what the targets leave, for images that gain 1 dB; else None."""
    gains = made.gains(made.default)
    return [
        {
            "image": pair.name,
            "ratio": residual_ratio(image, pair) if gain >= CLEAR_GAIN_DB else None,
        }
        for pair, image, gain in zip(made.pairs, made.at(made.default), gains, strict=True)
    ]


def judge_lines(made: Restorations) -> dict[str, dict[str, float]]:
    """Return the lines at Nyquist, in dB, ratios averaged over the pairs: of the target and at realness 0 and 1."""
    sets = {"target": [pair.target for pair in made.pairs], "realness 0": made.at(0.0)}
    if made.has_prior:
        sets["realness 1"] = made.at(1.0)
    lines = {}
    for name, images in sets.items():
        ratios = [nyquist_lines(pair.inside(image)) for pair, image in zip(made.pairs, images, strict=True)]
        lines[name] = {
            kind: float(10 * np.log10(np.mean([ratio[kind] for ratio in ratios]))) for kind in ratios[0]
        }
    return lines


def report(results: dict[str, Any]) -> str:
    """Return the results as tables."""
    parts = []
    if "gains" in results:
        mean, default = float(np.mean(results["gains_default"])), results["default_realness"]
        text = gains_table(results["gains"], results["scale"])
        parts.append(f"{text}\nat the default realness, {default:g}: {mean:+.2f} dB blind")
    if "scores" in results:
        parts.append(scores_table(results["scores"], results["scale"]))
    if "residuals" in results:
        ratios = {row["image"]: row["ratio"] for row in results["residuals"]}
        rows = [(name, "-" if ratio is None else f"{ratio:.2f}") for name, ratio in ratios.items()]
        parts.append(table(("image", "RMS of D(y) - x over the target's"), rows))
    if "lines" in results:
        lines = results["lines"]
        cells = [(name, *(f"{value:+.1f}" for value in kinds.values())) for name, kinds in lines.items()]
        parts.append(table(("dB at Nyquist against bins beside", *lines["target"]), cells))
    return "\n\n".join(parts)


def scores_table(scores: dict[str, Any], scale: int) -> str:
    """Return the changes of the scores as text, beside those of the target."""
    rows = [
        (name.upper(), *(interval_text(scores[kind][name]) for kind in ("changes", "changes_target")))
        for name in SCORES
    ]
    start = "Catmull-Rom" if scale == 2 else "the input"
    head = (f"median change from {start}, {scores['tiles']} tiles", "restored", "target")
    return table(head, rows) + f"\nblobs invented: {scores['invented']:.2%}"

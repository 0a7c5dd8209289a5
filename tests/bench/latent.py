"""The search in the prior's latent space under the settings of the MMD paper, on tissue.

    python -m tests.bench.latent [--rows mean,mean+mmd,...] [--crop 192] [--crops 4] [--page]

Each row is one setting on the middle of each validation image under case (a), told its blur and noise: start from the mean,
from chance or from what the network reads; with and without MMD, spherical steps and the likelihood. Images are those of the
search itself, without the guards that `run` puts behind every method. Results are kept by row and crop in
bench-results/latent.json, so that a killed measurement goes on where it was; --page writes all that are there into
docs/latent_search.md. Columns of judges exist where their parts do.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from bigrestore.errors import UsageError
from bigrestore.model.likelihood import Likelihood
from bigrestore.model.methods.latent import LatentMethod
from bigrestore.model.nets.guards import Seen
from bigrestore.model.nets.parts.part import load_part, shipped_parts
from bigrestore.model.nets.prior.search import KERNEL_WIDTH
from bigrestore.model.registry import create_method
from bigrestore.report.metrics.judges.rankiqa import RankingJudge
from bigrestore.settings import RunSettings
from tests.bench.material import CASES, Pair, validation_images
from tests.bench.metrics import RESULTS, markdown_row, psnr, ssim, to_bytes, write_json, write_page
from tests.bench.naturalness import SCORES, engine
from tests.bench.restorers import restore_whole, unit, windows_of

CASE = CASES["a"]


@attrs.frozen
class Setting:
    """A row of the table.

    Attributes
    ----------
    options : dict
        Of `--set`; None: the network at realness 0, or the input.
    paper : float, optional
        RankIQA of the paper at 100 steps, on LIVE's scale.
    """

    options: dict[str, Any] | None
    paper: float | None = None


ROWS: dict[str, Setting] = {
    "input": Setting(None),
    "network": Setting(None),
    "mean": Setting({"mmd": 0.0}, 35.11),
    "mean+mmd": Setting({}, 30.17),
    "random": Setting({"start": "random", "mmd": 0.0}, 31.82),
    "random+mmd": Setting({"start": "random"}, 35.66),
    "read": Setting({"start": "read", "mmd": 0.0}),
    "read+mmd": Setting({"start": "read"}),
    "mean, not spherical": Setting({"mmd": 0.0, "spherical": False, "rate": 0.1}),
    "mean+mmd, not spherical": Setting({"spherical": False, "rate": 0.1}),
    "mean+mmd, noise": Setting({"noise": "hashed"}),
    "preset pulse": Setting({"preset": "pulse"}),
    "mean+mmd, likelihood 1": Setting({"likelihood": 1.0}),
    "mean+mmd, likelihood 10": Setting({"likelihood": 10.0}),
    "mean+mmd, likelihood 50": Setting({"likelihood": 50.0}),
    "mean, 1000 steps": Setting({"mmd": 0.0, "steps": 1000}),
    "mean+mmd, 1000 steps": Setting({"steps": 1000}),
}
"""The rows by name; those with a likelihood are measured where its part is there."""

COLUMNS = {
    "gain": ("gain dB", "+.2f"),
    "ssim": ("SSIM", ".4f"),
    "contrast": ("fine contrast", ".2f"),
    "residual": ("residual / sigma", ".2f"),
    "discrepancy": ("512 d^2", ".3f"),
    "bits": ("bits/dim", ".2f"),
    **{name: (name.upper(), ".1f") for name in SCORES},
    "rankiqa": ("RankIQA mean", ".1f"),
    "rankiqa_median": ("RankIQA median", ".1f"),
    "seconds": ("s a crop", ".0f"),
}
"""Heading and format of each figure."""


@attrs.frozen(eq=False)
class Judges:
    """The judges that are there."""

    likelihood: Likelihood | None
    ranking: RankingJudge | None

    @classmethod
    def load(cls, likelihood: str | None, ranking: str | None) -> Judges:
        """Load those of files, else those that ship."""
        there = shipped_parts()
        return cls(
            Likelihood.load(1, likelihood) if likelihood or "likelihood-x1" in there else None,
            RankingJudge(load_part("ranking", 1, ranking)) if ranking or "ranking-x1" in there else None,
        )


def told(pair: Pair, folder: Path) -> dict[str, Any]:
    """Return the settings that tell a method the blur and the noise of a pair."""
    path = folder / "latent-kernel.npy"
    np.save(path, pair.kernel)
    return {"kernel": str(path), "noise": pair.noise_sd, "device": "cpu"}


def measured(row: str, pair: Pair, judges: Judges, options: argparse.Namespace) -> dict[str, float]:
    """Return the figures of a row on a crop."""
    x, facts, figures = unit(pair.degraded), told(pair, options.folder), dict[str, float]()
    started = time.process_time()
    chosen = ROWS[row].options
    if chosen is not None:
        if chosen.get("likelihood") and options.likelihood:
            chosen = chosen | {"likelihood_model": options.likelihood}
        image, found = searched(pair, x, RunSettings(method="latent", lock=False, options=chosen, **facts))
        figures |= found
    elif row == "network":
        method = create_method(RunSettings(realness=0.0, **facts))
        image = restore_whole(method, x, method.analyse(windows_of(x)))
    else:
        image = x
    figures["seconds"] = time.process_time() - started
    made = to_bytes(image)
    figures |= {"gain": psnr(made, pair.clean) - psnr(pair.degraded, pair.clean)}
    figures |= {"ssim": ssim(made, pair.clean), "contrast": fine_contrast(made) / fine_contrast(pair.clean)}
    figures |= engine().score(unit(made))
    if judges.likelihood is not None:
        figures["bits"] = float(judges.likelihood.bits(x[None], unit(made)[None]).mean())
    if judges.ranking is not None:
        figures |= judges.ranking.score(unit(made), None)
    return figures


def searched(
    pair: Pair, x: np.ndarray[Any, Any], settings: RunSettings
) -> tuple[np.ndarray[Any, Any], dict[str, float]]:
    """Return the image of a search on a whole crop, its residual in sigmas and the discrepancy of its codes."""
    import torch

    method = create_method(settings)
    assert isinstance(method, LatentMethod)
    known, given = method.analyse(windows_of(x)), torch.from_numpy(x)[None, None]
    seen = Seen(
        given,
        torch.ones_like(given),
        given,
        torch.from_numpy(known.kernel),
        known.noise_gain,
        known.read_noise,
        1,
        psi=torch.from_numpy(known.psi),
        origins=((0, 0),),
    )
    result = method.searched(seen)
    codes = result.codes.permute(0, 2, 3, 1).flatten(0, 2)
    return result.image[0, 0].clamp(0, 1).numpy(), {
        "residual": float(result.residual.square().mean().sqrt()),
        "discrepancy": KERNEL_WIDTH * float(method.search.discrepancy(codes)),
    }


def fine_contrast(image: np.ndarray[Any, Any]) -> float:
    """Return the standard deviation of an image less its mean over 9 x 9 pixels."""
    from scipy.ndimage import uniform_filter

    values = image.astype(np.float64)
    return float((values - uniform_filter(values, 9)).std())


def kept() -> dict[str, dict[str, dict[str, float]]]:
    """Return the figures so far, by row and crop."""
    path = RESULTS / "latent.json"
    return dict(json.loads(path.read_text())) if path.is_file() else {}


def report(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """Return the table: means over crops, and the paper's numbers."""
    rows = {name: list(results[name].values()) for name in ROWS if results.get(name)}
    columns = {
        name: said
        for name, said in COLUMNS.items()
        if any(name in crop for row in rows.values() for crop in row)
    }
    header = ("setting", "crops", *(heading for heading, _ in columns.values()), "paper: RankIQA")
    lines = [markdown_row(header), markdown_row(["---"] * len(header))]
    for name, crops in rows.items():
        cells = []
        for column, (_, form) in columns.items():
            values = [crop[column] for crop in crops if column in crop]
            cells.append(f"{np.mean(values):{form}}" if len(values) == len(crops) else "")
        paper = ROWS[name].paper
        lines.append(markdown_row((name, str(len(crops)), *cells, "" if paper is None else f"{paper:.2f}")))
    return "\n".join(lines)


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.latent", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--rows", default=",".join(ROWS).replace(", ", ";"), help="names, a ; for their commas"
    )
    parser.add_argument("--crop", type=int, default=192, help="middle of each image, px, a multiple of 16")
    parser.add_argument("--crops", type=int, default=4, help="images, at most")
    parser.add_argument(
        "--likelihood", default=None, help="file of train likelihood (default: the shipped one)"
    )
    parser.add_argument("--ranking", default=None, help="file of train ranking (default: the shipped one)")
    parser.add_argument("--folder", type=Path, default=RESULTS / "kernels", help="for kernels that are told")
    parser.add_argument("--page", action="store_true", help="write all results into docs/latent_search.md")
    return parser.parse_args(words)


def main() -> None:
    """Measure from the command line."""
    options = arguments()
    import torch

    torch.set_num_threads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    judges = Judges.load(options.likelihood, options.ranking)
    pairs = [CASE.apply(image) for image in validation_images(options.crop)[: options.crops]]
    results = kept()
    for row in (name.replace(";", ", ") for name in options.rows.split(",") if name):
        for pair in pairs:
            place = f"{pair.name}, {options.crop} px"
            if place in results.get(row, {}):
                continue
            try:
                results.setdefault(row, {})[place] = measured(row, pair, judges, options)
            except UsageError as error:  # no likelihood
                print(f"{row}: {error}")
                break
            write_json("latent", results)
    print(report(results))
    if options.page:
        write_page("latent_search.md", "latent", report(results))


if __name__ == "__main__":
    main()

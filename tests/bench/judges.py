"""What the judges know, on val/: does the likelihood see what an input contradicts, and is sharpness none of its business?

python -m tests.bench.judges [--likelihood FILE] [--ranking FILE] [--crop 192]
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from itertools import pairwise

import attrs
import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata

from bigrestore.core.pixels import Floats
from bigrestore.model.likelihood import Likelihood, law_bits
from bigrestore.model.nets.parts.part import load_part, shipped_parts
from bigrestore.training.data.ladders import DISTORTIONS
from tests.bench.material import CASES, ValidationImage, through_jpeg, validation_images
from tests.bench.metrics import Figure, figure_table, write_json

CROP_PX, WINDOWED_PX = 192, 432
"""Middle of each image for the likelihood, and the one that windows are cut from for the ranking."""
CASE = CASES["a"]
CELL_STEP_PX, CELL_SIGMA_PX, CELL_LEVELS = 40, 3.0, 20
"""Invented cells: their distance, width and contrast."""


def with_cells(image: Floats) -> tuple[Floats, tuple[slice, slice]]:
    """Return an image with dark cells that it has not, and the places of their centres."""
    places = (slice(CELL_STEP_PX // 2, None, CELL_STEP_PX),) * 2
    cells = np.zeros_like(image)
    cells[places] = 1
    cells = gaussian_filter(cells, CELL_SIGMA_PX) * (2 * np.pi * CELL_SIGMA_PX**2)
    return np.clip(image - np.float32(CELL_LEVELS / 255) * cells, 0, 1), places


def area_under_curve(positive: Floats, negative: Floats) -> float:
    """Return how often a value of the first kind is larger than one of the second; equal ones count half."""
    ranks = rankdata(np.concatenate([positive, negative]))
    above = ranks[: positive.size].sum() - positive.size * (positive.size + 1) / 2
    return float(above / (positive.size * negative.size))


def likelihood_figures(judge: Likelihood, images: list[ValidationImage]) -> dict[str, float]:
    """Return bits a pixel of the inputs of case (a), given what is said to be their restoration, and how cells stand out.

    Parameters
    ----------
    judge : Likelihood
        At x1.
    images : list of ValidationImage
        Two or more, of one size.
    """
    pairs = [CASE.apply(image) for image in images]
    inputs, clean = (
        [np.float32(1 / 255) * getattr(pair, name) for pair in pairs] for name in ("degraded", "clean")
    )

    def bits(restorations: list[Floats], *, alone: bool = False) -> float:
        both = zip(inputs, restorations, strict=True)
        return float(np.mean([judge.bits(x[None], y[None], alone=alone).mean() for x, y in both]))

    marked, unmarked, false = [], [], []
    for x, y in zip(inputs, clean, strict=True):
        image, places = with_cells(y)
        truth = judge.unlikely(x[None], None, y[None])[0]
        marked.append(judge.unlikely(x[None], None, image[None])[0][places].ravel())
        unmarked.append(truth[places].ravel())
        false.append(float(np.mean(truth > 5)))
    return {
        "floor": law_bits(0, CASE.noise / 255, inputs[0]),
        "paired": bits(clean),
        "unpaired": bits(clean[1:] + clean[:1]),
        "paired_alone": bits(clean, alone=True),
        "unpaired_alone": bits(clean[1:] + clean[:1], alone=True),
        "soft": bits([gaussian_filter(y, 1.0) for y in clean]),
        "unrestored": bits(inputs),
        "shifted": bits([np.roll(y, (2, 2), (0, 1)) for y in clean]),
        "auc": area_under_curve(np.concatenate(marked), np.concatenate(unmarked)),
        "false": float(np.mean(false)),
    }


def ladders_of(image: Floats, rng: np.random.Generator) -> dict[str, Floats]:
    """Return ladders, (6, h, w), of every distortion, and two by other programs: files of Pillow, and blur of SciPy."""
    clean = torch.from_numpy(image)
    made = {name: kind.ladder(clean, rng).numpy() for name, kind in DISTORTIONS.items()}
    pixels = np.rint(image * 255).astype(np.uint8)
    files = [through_jpeg(pixels, quality) for quality in (85, 65, 45, 30, 18)]
    made["jpeg by Pillow"] = np.stack([pixels, *files]).astype(np.float32) / 255
    made["blur by SciPy"] = np.stack(
        [gaussian_filter(image, sigma) for sigma in (0, 0.6, 1.0, 1.5, 2.1, 2.8)]
    )
    return made


def ranking_figures(
    network: torch.nn.Module, images: list[ValidationImage]
) -> dict[str, tuple[float, float]]:
    """Return for every distortion the share of neighbouring levels in order, and of levels two apart."""
    rng, numbers = np.random.default_rng(0), defaultdict(list)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for image in images:
        for name, ladder in ladders_of(np.float32(1 / 255) * image.pixels, rng).items():
            with torch.no_grad():
                levels = torch.from_numpy(ladder)[:, None].contiguous(memory_format=torch.channels_last)
                numbers[name].append(network(levels).numpy())
    return {
        name: tuple(float(np.mean([each[n:] > each[:-n] for each in of_kind])) for n in (1, 2))  # type: ignore[misc]
        for name, of_kind in numbers.items()
    }


def cut_windows(images: list[ValidationImage]) -> list[ValidationImage]:
    """Return windows of 192 px of the images, side by side from their first pixel: four images have few levels to order."""
    return [
        attrs.evolve(image, pixels=image.pixels[y : y + CROP_PX, x : x + CROP_PX])
        for image in images
        for y in range(0, image.pixels.shape[0] - CROP_PX + 1, CROP_PX)
        for x in range(0, image.pixels.shape[1] - CROP_PX + 1, CROP_PX)
    ]


def of_one_size(images: list[ValidationImage]) -> list[ValidationImage]:
    """Return the images that are as large as the largest, each with another one after it."""
    largest = max(image.pixels.shape for image in images)
    chosen = [image for image in images if image.pixels.shape == largest]
    assert all(one.name != other.name for one, other in pairwise(chosen))
    return chosen


def measure(
    likelihood: str | None = None, ranking: str | None = None, crop_px: int = CROP_PX
) -> list[Figure]:
    """Return the figures of this module; of the judges that ship where no file is named."""
    shipped, figures = shipped_parts(), []
    if likelihood or "likelihood-x1" in shipped:
        figures += of_likelihood(likelihood, of_one_size(validation_images(crop_px)))
    if ranking or "ranking-x1" in shipped:
        windows = cut_windows(validation_images(WINDOWED_PX))
        order = ranking_figures(load_part("ranking", 1, ranking).network, windows)
        write_json("ranking", {"ranking": ranking, "windows": len(windows), "figures": order})
        for at, (what, least) in enumerate((("neighbouring levels", 0.9), ("levels two apart", 0.97))):
            name = min(order, key=lambda each: order[each][at])
            share = order[name][at]
            text = f"{100 * share:.1f} % ({name})"
            figures.append(
                Figure(
                    f"ranking: {what} in order, worst distortion",
                    f">= {100 * least:g} %",
                    text,
                    share >= least,
                )
            )
    return figures


def of_likelihood(likelihood: str | None, images: list[ValidationImage]) -> list[Figure]:
    """Return the figures of the likelihood."""
    said = likelihood_figures(Likelihood.load(1, likelihood), images)
    write_json("judges", {"likelihood": likelihood, "figures": said})
    above, apart = said["paired"] - said["floor"], said["unpaired"] - said["paired"]
    alone = said["unpaired_alone"] - said["paired_alone"]
    soft, same = said["soft"] - said["paired"], said["unrestored"] - said["paired"]
    return [
        Figure(
            "likelihood of the input given the truth, above its noise",
            "< 0.5 bits",
            f"{above:.2f} bits",
            above < 0.5,
        ),
        Figure("given another image, above that", ">= 3 bits", f"{apart:.2f} bits", apart >= 3),
        Figure("the same by the restoration alone", ">= 3 bits", f"{alone:.2f} bits", alone >= 3),
        Figure(
            "unlikely: AUC of invented cells of 20 levels",
            ">= 0.95",
            f"{said['auc']:.3f}",
            said["auc"] >= 0.95,
        ),
        Figure(
            "unlikely: above 5 on the truth", "< 0.5 %", f"{100 * said['false']:.2f} %", said["false"] < 0.005
        ),
        Figure(
            "no ranking of sharpness: truth blurred by 1 px, above the truth",
            "< 0.5 bits",
            f"{soft:.2f} bits",
            soft < 0.5,
        ),
        Figure(
            "no ranking of sharpness: unrestored, above the truth",
            "< 0.5 bits",
            f"{same:.2f} bits",
            same < 0.5,
        ),
    ]


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.judges")
    parser.add_argument(
        "--likelihood", default=None, help="file of train likelihood (default: the shipped one)"
    )
    parser.add_argument("--ranking", default=None, help="file of train ranking (default: the shipped one)")
    parser.add_argument("--crop", type=int, default=CROP_PX, help="middle of each image, px")
    options = parser.parse_args()
    print(figure_table(measure(options.likelihood, options.ranking, options.crop)))


if __name__ == "__main__":
    main()

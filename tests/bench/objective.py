"""The learned map of realness: what it gains over one realness everywhere, and what it invents.

    python -m tests.bench.objective [--scale 1] [--minutes 25] [--folder DIR] [--data IMAGES] [--part FILE]
                                    [--crop 256] [--judge] [--page]

A head is trained by `train objective` for as many minutes of one core and kept in the folder; --part names a trained one,
and --judge takes what lies in the folder. Every image of val/, which no training sees, is degraded as for the quality
figures and restored from one estimate of its degradation: at several realness everywhere, and by the head at several
realness. Two comparisons are of the same mean PSNR: the uniform realness of the least distance with the head's realness of
its PSNR, and the head's realness 1 with the uniform one of its PSNR; both are found between those measured, and restored.
The distance is the one that heads are trained by (`bigrestore.training.stages.parts.perceptual`); NIQE and sharpness are of
no training here. Of each image the mean over cases is taken; intervals of 95 % are those of the mean over images, by
drawing images again.

At last the factor on the prior's detail is read where there is nothing to add: on damage, on glass, and where a place was
blurred by a further Gaussian of 3 px. --page writes the tables into docs/realness.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from bigrestore.model.method import SectionStatistics, TileBatch
from bigrestore.model.nets.checkpoint import load_model
from bigrestore.model.network import NetworkMethod, load_objective
from bigrestore.settings.train import StageOptions
from bigrestore.training.stages.parts.perceptual import texture_distance
from tests.bench.clock import train_or_go_on
from tests.bench.material import CASES, Grey, Pair, ValidationImage, data_folder, validation_images
from tests.bench.metrics import (
    RESULTS,
    Figure,
    figure_table,
    interval,
    markdown_row,
    to_bytes,
    write_json,
    write_page,
)
from tests.bench.naturalness import Judged, Row, judge, tissue_tiles
from tests.bench.restorers import unit, windows_of

UNIFORM = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
BY_HEAD = (0.5, 1.0)
RIM_PX = 16
"""Output pixels at the border of an image that the distance leaves out."""

HEADER = ("", "PSNR", "distance", "NIQE", "sharpness, 1e-4", "blobs invented", "mean factor")
NOTHING_TO_ADD = 0.1
"""Largest factor allowed on damage, glass and places out of focus."""

PLACE_PX, EDGE_PX = 160, 40
"""Side of such a place, and how far inside it the factor is read, input pixels."""


@attrs.frozen(eq=False)
class Scene:
    """A degraded image, its clean one, and what is known of it."""

    image: str
    case: str
    pair: Pair
    tiles: list[tuple[int, int]]
    known: SectionStatistics


@attrs.frozen(eq=False)
class Setting:
    """All scenes under one setting.

    Attributes
    ----------
    name : str
    judged : list of Judged
        By scene.
    distances, factors : ndarray, (scenes,)
        Distance to the clean image, and mean factor on the prior's detail.
    """

    name: str
    judged: list[Judged]
    distances: NDArray[np.float64]
    factors: NDArray[np.float64]

    @property
    def psnr(self) -> float:
        """The mean over scenes."""
        return float(np.mean([each.psnr for each in self.judged]))

    def line(self) -> str:
        """Return the row of the table."""
        row = Row(self.name, self.judged)
        cells = (
            self.name,
            f"{self.psnr:.2f}",
            f"{self.distances.mean():.4f}",
            f"{row.mean('niqe'):.2f}",
            f"{1e4 * row.mean('sharpness'):.2f}",
            f"{row.blobs('invented').share:.2%}",
            f"{self.factors.mean():.2f}",
        )
        return markdown_row(cells)


def trained(options: argparse.Namespace) -> Path:
    """Train a head unless one is named or was trained before, or go on where it was stopped; return its file."""
    path: Path = options.part or options.folder / f"x{options.scale}-{options.minutes:g}min.safetensors"
    if path.is_file() or options.judge or options.part:
        return path
    asked = StageOptions(
        scale=options.scale,
        model=f"tiny-x{options.scale}",
        minutes=options.minutes,
        threads=1,
        seed=options.seed,
    )
    return train_or_go_on("objective", options.data, path, asked)


def method_of(scale: int, realness: float, part: Path | None) -> NetworkMethod:
    """Return the shipped network at a realness, everywhere or by a head."""
    model = load_model("tiny", scale)
    method = NetworkMethod(model, realness=realness, device="cpu", precision="fp32")
    if part is not None:
        method.follow(load_objective(model, part))
    return method


def scenes_of(scale: int, images: Sequence[ValidationImage]) -> list[Scene]:
    """Return the images under every case of a scale, image by image."""
    reader = method_of(scale, 0.0, None)
    scenes = []
    for image in images:
        for key, case in CASES.items():
            if case.scale == scale:
                pair = case.apply(image)
                known = reader.analyse(windows_of(unit(pair.degraded)))
                scenes.append(Scene(image.name, key, pair, tissue_tiles(pair.clean), known))
    return scenes


def setting_of(name: str, method: NetworkMethod, scenes: Sequence[Scene]) -> Setting:
    """Restore and judge all scenes."""
    judged, distances, factors = [], [], []
    for scene in scenes:
        pixels, factor = restored_with_factor(method, unit(scene.pair.degraded), None, scene.known)
        made = to_bytes(pixels)
        judged.append(judge(made, scene.pair.clean, scene.tiles))
        distances.append(distance_of(made, scene.pair.clean))
        factors.append(float(factor.mean()))
    return Setting(name, judged, np.array(distances), np.array(factors))


def distance_of(image: Grey, clean: Grey) -> float:
    """Return the mean distance of an image to the clean one."""
    one, other = (torch.from_numpy(unit(each))[None, None] for each in (image, clean))
    return float(texture_distance(one, other)[..., RIM_PX:-RIM_PX, RIM_PX:-RIM_PX].mean())


def restored_with_factor(
    method: NetworkMethod,
    image: NDArray[np.float32],
    valid: NDArray[np.bool_] | None,
    known: SectionStatistics,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return an image restored as one tile, and what the prior's detail was multiplied with."""
    step, (height, width) = method.alignment_px, image.shape
    rim = ((0, -height % step), (0, -width % step))
    pixels = np.pad(image, rim, mode="edge")[None]
    sound = None if valid is None else np.pad(valid, rim, mode="edge")[None]
    batch = TileBatch(pixels, sound, np.zeros((1, 2), np.int64), 0, maps=("realness",))
    result = method.restore(batch, known)
    inside = np.s_[0, : height * method.scale, : width * method.scale]
    return result.pixels[inside], result.maps["realness"][inside]


def matched(psnr: float, settings: Sequence[Setting], realness: Sequence[float]) -> float:
    """Return the realness of a mean PSNR, linear between settings that were measured."""
    falling = np.minimum.accumulate([setting.psnr for setting in settings])
    return float(np.interp(-psnr, -falling, realness))


def of_images(values: NDArray[np.float64], scenes: Sequence[Scene]) -> NDArray[np.float64]:
    """Return the mean over cases of each image."""
    names = np.array([scene.image for scene in scenes])
    return np.array([values[names == name].mean() for name in dict.fromkeys(names)])


def places(method: NetworkMethod, scenes: Sequence[Scene]) -> dict[str, float]:
    """Return the largest mean factor over scenes: on damage, on glass, out of focus, and beside them on tissue."""
    largest = dict.fromkeys(("damage", "glass", "out of focus"), 0.0)
    tissue = []
    for scene in scenes:
        given = unit(scene.pair.degraded)
        box = tuple(slice((side - PLACE_PX) // 2, (side + PLACE_PX) // 2) for side in given.shape)
        inner = tuple(
            slice(method.scale * (at.start + EDGE_PX), method.scale * (at.stop - EDGE_PX)) for at in box
        )
        valid = np.ones(given.shape, bool)
        valid[box] = False
        noise = np.random.default_rng(0).normal(0, max(1.0, scene.pair.noise_sd) / 255, given.shape)
        glass, soft = given.copy(), given.copy()
        glass[box] = (0.92 + noise)[box]
        soft[box] = (gaussian_filter(given, 3.0) + noise)[box]
        for name, image, sound in (
            ("damage", given, valid),
            ("glass", glass, None),
            ("out of focus", soft, None),
        ):
            changed = np.clip(image, 0, 1).astype(np.float32)
            factor = restored_with_factor(method, changed, sound, scene.known)[1]
            largest[name] = max(largest[name], float(factor[inner].mean()))
        tissue.append(float(restored_with_factor(method, given, None, scene.known)[1][inner].mean()))
    return largest | {"the same places as they are": float(np.mean(tissue))}


def figures(
    compared: Sequence[tuple[Setting, Setting]], scenes: Sequence[Scene], beside: dict[str, float]
) -> list[Figure]:
    """Return the bench lines; `compared` are settings of the head, each with a uniform one of the same PSNR."""
    lines = []
    for head, other in compared:
        apart = of_images(head.distances - other.distances, scenes)
        low, high = interval(apart)
        text = (
            f"{apart.mean():+.4f} ({low:+.4f} to {high:+.4f}), {apart.mean() / other.distances.mean():+.1%}"
        )
        lines.append(
            Figure(f"distance of {head.name} less that of {other.name}", "< 0, interval too", text, high < 0)
        )
        lines.append(Figure("  PSNR less that one's", "", f"{head.psnr - other.psnr:+.3f} dB", None))
        own, theirs = (Row(each.name, each.judged).blobs("invented").share for each in (head, other))
        lines.append(Figure("  blobs invented", f"<= {theirs:.2%}", f"{own:.2%}", own <= theirs))
    lines += [
        Figure(f"largest mean factor, {name}", f"< {NOTHING_TO_ADD}", f"{value:.3f}", value < NOTHING_TO_ADD)
        for name, value in list(beside.items())[:3]
    ]
    return [
        *lines,
        Figure("  mean factor of the same places as they are", "", f"{list(beside.values())[3]:.2f}", None),
    ]


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.objective", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--scale", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--folder", type=Path, default=RESULTS / "objective")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--part", type=Path, help="a trained head, in place of training one")
    parser.add_argument("--crop", type=int, default=256, help="side of the middle of each image, pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--judge", action="store_true", help="train nothing, judge what is in the folder")
    parser.add_argument("--page", action="store_true", help="write the tables into docs/realness.md")
    options = parser.parse_args(words)
    options.data = options.data or data_folder() / "train"
    return options


def main() -> None:
    """Measure from the command line."""
    options = arguments()
    torch.set_num_threads(1)
    part = trained(options)
    scenes = scenes_of(options.scale, validation_images(options.crop))

    def measured(name: str, realness: float, file: Path | None) -> Setting:
        setting = setting_of(name, method_of(options.scale, realness, file), scenes)
        print(setting.line(), flush=True)
        return setting

    uniform = [measured(f"realness {value:g}", value, None) for value in UNIFORM]
    by_head = [measured(f"auto, realness {value:g}", value, part) for value in BY_HEAD]
    best = min(uniform, key=lambda setting: setting.distances.mean())
    value = matched(best.psnr, [uniform[0], *by_head], (0.0, *BY_HEAD))
    like_best = measured(f"auto, realness {value:.2f}", value, part)
    value = matched(by_head[-1].psnr, uniform, UNIFORM)
    like_head = measured(f"realness {value:.2f}", value, None)
    compared = ((like_best, best), (by_head[-1], like_head))
    beside = places(method_of(options.scale, 1.0, part), scenes)
    lines = figures(compared, scenes, beside)
    header = [markdown_row(HEADER), markdown_row(["---"] * len(HEADER))]
    rows = [setting.line() for setting in (*uniform, like_head, by_head[0], like_best, by_head[1])]
    facts = [("figure", "target", "measured", "met?"), ("---",) * 4]
    facts += [(line.name.strip(), line.target, line.measured, line.verdict) for line in lines]
    text = "\n".join([*header, *rows, "", *map(markdown_row, facts)])
    print(figure_table(lines))
    by_scene = {
        f"{scene.image} {scene.case}": {
            f"{head.name} less {other.name}": float(head.distances[index] - other.distances[index])
            for head, other in compared
        }
        for index, scene in enumerate(scenes)
    }
    write_json(
        f"objective-x{options.scale}",
        {"figures": [attrs.asdict(line) for line in lines], "by_scene": by_scene},
    )
    if options.page:
        write_page("realness.md", "objective", text)


if __name__ == "__main__":
    main()

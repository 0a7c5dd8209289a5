"""Measures one model over realness, case by case, with its two controls, and chooses the default from it.

Each image of a case is restored at every realness from one estimate of its degradation. An unsharp mask is
swept in amount over the input and over the output at realness 0, and a peer without data fidelity restores the
middle of each image. What is printed of this, and drawn, stands in `realness` and `realness_card`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from tests.bench import realesrgan
from tests.bench.classical import catmull_rom_twice
from tests.bench.material import Case, Pair, middle, validation_images
from tests.bench.metrics import to_bytes
from tests.bench.models import load_method
from tests.bench.naturalness import Place, Row, at_equal, judge, tissue_tiles
from tests.bench.restorers import restore_whole, unit, windows_of

Grey = NDArray[np.uint8]

REALNESS = (0.0, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0)
AMOUNTS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
MASK_SIGMA_PX = 1.5
MOST_LOSS_DB = 0.2
CROP_PX = 1024
"""Of each image: tiles enough for an interval, and minutes instead of a quarter of an hour."""

PEER_CROP_PX = 192
"""One tile of each image: Real-ESRGAN takes half a minute of a processor for it."""

PEER_MARGIN_PX = 16


@attrs.frozen(eq=False)
class Scene:
    """One degraded image of a case: its pair, the input on the output grid, and the tiles that are scored."""

    pair: Pair
    before: Grey
    tiles: list[Place]


@attrs.frozen(eq=False)
class CaseResult:
    """Everything that was measured in one case.

    Attributes
    ----------
    case : Case
        The degradation.
    clean : Row
        The truth itself: what the scores say of it is what a perfect restoration would get.
    before : Row
        The input on the output grid.
    curve : dict of Row
        By realness.
    masks : dict of list of Row
        Unsharp masks by what they sharpened (`input`, `realness 0`), in the order of `AMOUNTS`.
    peer : dict of Row
        The middle of each image: `input`, every realness by its name, and `Real-ESRGAN`; empty where it was not run.
    """

    case: Case
    clean: Row
    before: Row
    curve: dict[float, Row]
    masks: dict[str, list[Row]]
    peer: dict[str, Row]

    def loss_db(self, realness: float) -> float:
        """Return by how much PSNR falls below that of realness 0."""
        return self.curve[0.0].mean("psnr") - self.curve[realness].mean("psnr")


def scenes_of(case: Case, crop_px: int | None) -> list[Scene]:
    """Return the images of a case."""
    found = []
    for image in validation_images(crop_px):
        pair = case.apply(image)
        before = catmull_rom_twice(pair.degraded) if case.scale == 2 else pair.degraded
        found.append(Scene(pair, before, tissue_tiles(pair.clean)))
    return found


def restored(
    model: str, scenes: Sequence[Scene], realness: Sequence[float], **how: Any
) -> dict[float, list[Grey]]:
    """Return the restored images of a case by realness, each image from one estimate of its degradation."""
    methods = [load_method(model, realness=value, **how) for value in realness]
    statistics = [methods[0].analyse(windows_of(unit(scene.pair.degraded))) for scene in scenes]
    return {
        value: [
            to_bytes(restore_whole(method, unit(scene.pair.degraded), known))
            for scene, known in zip(scenes, statistics, strict=True)
        ]
        for value, method in zip(realness, methods, strict=True)
    }


def unsharp(image: Grey, amount: float) -> Grey:
    """Return the image plus `amount` times what a Gaussian of 1.5 px takes from it."""
    values = unit(image)
    return to_bytes(values + np.float32(amount) * (values - gaussian_filter(values, MASK_SIGMA_PX)))


def row_of(name: str, images: Sequence[Grey], scenes: Sequence[Scene]) -> Row:
    """Judge one candidate on all images of a case."""
    return Row(
        name,
        [judge(image, scene.pair.clean, scene.tiles) for image, scene in zip(images, scenes, strict=True)],
    )


def measure_case(
    case: Case,
    model: str,
    crop_px: int | None,
    peer: realesrgan.RealEsrgan | None = None,
    peer_crop_px: int = PEER_CROP_PX,
    **how: Any,
) -> CaseResult:
    """Measure one case with a model of its scale that has a prior."""
    scenes = scenes_of(case, crop_px)
    images = restored(model, scenes, REALNESS, scale=case.scale, **how)
    inputs = [scene.before for scene in scenes]
    clean = row_of("clean", [scene.pair.clean for scene in scenes], scenes)
    before = row_of("input", inputs, scenes)
    curve = {value: row_of(f"realness {value:g}", found, scenes) for value, found in images.items()}
    masks = {
        "input": _sweep(inputs, before, scenes),
        "realness 0": _sweep(images[0.0], curve[0.0], scenes),
    }
    beside = {"input": inputs} | {curve[value].name: found for value, found in images.items()}
    return CaseResult(
        case,
        clean,
        before,
        curve,
        masks,
        {} if peer is None else _peer_rows(peer, case, scenes, beside, peer_crop_px),
    )


def _sweep(base: Sequence[Grey], judged: Row, scenes: Sequence[Scene]) -> list[Row]:
    """Judge unsharp masks of all amounts over images of which the row is known already."""
    return [
        attrs.evolve(judged, name="unsharp 0")
        if amount == 0
        else row_of(f"unsharp {amount:g}", [unsharp(image, amount) for image in base], scenes)
        for amount in AMOUNTS
    ]


def _peer_rows(
    peer: realesrgan.RealEsrgan,
    case: Case,
    scenes: Sequence[Scene],
    beside: Mapping[str, Sequence[Grey]],
    crop_px: int,
) -> dict[str, Row]:
    """Judge the peer and the other candidates on the middle of each image."""
    cut = [attrs.evolve(scene.pair, clean=middle(scene.pair.clean, crop_px)) for scene in scenes]
    small = [Scene(pair, pair.clean, tissue_tiles(pair.clean)) for pair in cut]
    given = [_peer_output(peer, scene.pair, case.scale, crop_px) for scene in scenes]
    found = {
        name: row_of(name, [middle(image, crop_px) for image in images], small)
        for name, images in beside.items()
    }
    return found | {"Real-ESRGAN": row_of("Real-ESRGAN x4plus", given, small)}


def _peer_output(peer: realesrgan.RealEsrgan, pair: Pair, scale: int, crop_px: int) -> Grey:
    """Return what the peer makes of the pixels behind the middle of the clean image, given a margin of context."""
    edges = []
    for n in pair.clean.shape:
        start = max(0, (n - crop_px) // 2)
        first, last = start // scale, -(-min(n, start + crop_px) // scale)
        low, high = max(0, first - PEER_MARGIN_PX), min(n // scale, last + PEER_MARGIN_PX)
        edges.append((slice(low, high), slice(start - low * scale, min(n, start + crop_px) - low * scale)))
    (rows, inner_rows), (columns, inner_columns) = edges
    large = peer.restore(unit(pair.degraded[rows, columns]), scale)
    return to_bytes(large[inner_rows, inner_columns])


def default_realness(results: Sequence[CaseResult], most_db: float = MOST_LOSS_DB) -> float:
    """Return the largest realness up to which PSNR stays within `most_db` of realness 0 in every case."""
    chosen = 0.0
    for value in REALNESS:
        if any(result.loss_db(value) > most_db for result in results):
            break
        chosen = value
    return chosen


def control(result: CaseResult, realness: float, base: str) -> float:
    """Return the share of invented blobs of an unsharp mask that reaches the NIQE of a realness; NaN if none does."""
    sweep = [{"niqe": row.mean("niqe"), "share": row.blobs("invented").share} for row in result.masks[base]]
    return at_equal(result.curve[realness].mean("niqe"), sweep, "niqe", "share")

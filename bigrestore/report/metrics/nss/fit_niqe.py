"""Fit NIQE's model to good images of one's own, by LIVE's recipe for photographs.

Every image is cut into blocks of 96 pixels, and only the sharp ones count: their mean local contrast exceeds three
quarters of the largest in the image. The rest is out of focus, or background, and would teach NIQE to like flatness.
The mean and the covariance of the sharp blocks are the model.

A section too large for memory comes as tiles: the blocks' features are kept (37 numbers for 9216 pixels)
and the selection waits until the largest contrast of the image is known.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterable

import numpy as np
from numpy.typing import NDArray

from bigrestore.core.pixels import Floats
from bigrestore.errors import InputError, UsageError
from bigrestore.report.metrics.nss.fields import TileFields
from bigrestore.report.metrics.nss.mscn import normalised
from bigrestore.report.metrics.nss.niqe import NIQE_BLOCK_PX, block_features, whole_blocks
from bigrestore.report.metrics.nss.niqe_model import FEATURES, NiqeModel

NIQE_SHARP_SHARE = 0.75
"""A block is sharp if its mean contrast exceeds this share of the image's largest."""

FEWEST_BLOCKS = FEATURES + 1
"""Fewer blocks than that leave the covariance singular."""

_COMFORTABLE_BLOCKS = 10 * FEATURES


log = logging.getLogger(__name__)


def fit_niqe(
    tiles: Iterable[Floats | tuple[Hashable, Floats]],
    *,
    name: str = "fitted",
    sharp_share: float = NIQE_SHARP_SHARE,
) -> NiqeModel:
    """Fit a model to good images.

    Section II-D of Mittal, Soundararajan and Bovik, "Making a completely blind image quality analyzer", IEEE
    Signal Processing Letters 20 (2013).

    Parameters
    ----------
    tiles : iterable of ndarray, or of (image, ndarray)
        Grey tiles, float32, (height, width), 0..1 of the value range. Where several images are given, name the
        one that a tile belongs to (any hashable thing): sharpness is relative to the image. Tiles without a
        name belong to one image.
    name : str
        Of the model, for reports.
    sharp_share : float
        0 (all blocks) up to, but not including, 1.

    Returns
    -------
    NiqeModel
        The model; its facts say how many blocks of how many images it was fitted to.

    Raises
    ------
    UsageError
        If `sharp_share` is not a share.
    InputError
        If fewer than 37 sharp blocks are found.
    """
    if not 0.0 <= sharp_share < 1.0:
        raise UsageError(f"the share of the largest contrast is {sharp_share}, but must be in 0 <= share < 1")
    by_image: dict[Hashable, list[NDArray[np.float64]]] = {}
    for item in tiles:
        image, tile = item if isinstance(item, tuple) else (None, item)
        by_image.setdefault(image, []).append(_sharpness_and_features(tile))
    chosen = [_sharp(np.concatenate(parts), sharp_share) for parts in by_image.values()]
    features = np.concatenate(chosen) if chosen else np.empty((0, FEATURES))
    seen = sum(len(part) for parts in by_image.values() for part in parts)
    if len(features) < FEWEST_BLOCKS:
        raise InputError(
            f"only {len(features)} of {seen} blocks of {NIQE_BLOCK_PX} px are sharp and not flat, but a NIQE model needs"
            f" {FEWEST_BLOCKS} at least; give more or larger images"
        )
    if len(features) < _COMFORTABLE_BLOCKS:
        log.warning(
            "the NIQE model rests on %d blocks only; %d and more make it steady",
            len(features),
            _COMFORTABLE_BLOCKS,
        )
    mean = features.mean(axis=0)
    centred = features - mean
    covariance = np.einsum("bi,bj->ij", centred, centred) / (len(features) - 1)
    facts = {
        "blocks": len(features),
        "blocks_seen": seen,
        "images": len(by_image),
        "sharp_share": sharp_share,
    }
    return NiqeModel(mean, covariance, name, facts)


def _sharpness_and_features(tile: Floats) -> NDArray[np.float64]:
    """Describe every block of a tile by its mean contrast and its 36 features: (blocks, 37)."""
    if tile.ndim != 2 or tile.size == 0 or not np.isfinite(tile).all():
        return np.empty((0, 1 + FEATURES))
    fields = TileFields(tile)
    image = whole_blocks(fields)
    if image.size == 0:
        return np.empty((0, 1 + FEATURES))
    contrast = np.empty_like(image)
    normalised(image, contrast=contrast)
    rows, columns = image.shape[0] // NIQE_BLOCK_PX, image.shape[1] // NIQE_BLOCK_PX
    sharpness = contrast.reshape(rows, NIQE_BLOCK_PX, columns, NIQE_BLOCK_PX).mean(axis=(1, 3)).reshape(-1, 1)
    return np.concatenate([sharpness, block_features(fields)], axis=1)


def _sharp(blocks: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Keep the features of the sharp blocks of one image, without blocks too flat to fit."""
    if len(blocks) == 0:
        return np.empty((0, FEATURES))
    features = blocks[blocks[:, 0] > share * blocks[:, 0].max(), 1:]
    return np.asarray(features[np.isfinite(features).all(axis=1)])

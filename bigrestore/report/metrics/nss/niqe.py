"""NIQE: how far the local statistics of an image are from those of good ones.

Thirty-six numbers describe each block of 96 pixels: the shape and scale of the normalised values and of the four
products of neighbours, at full and at half size. Their mean and covariance over the blocks of the image are compared
with those of a set of good images. NIQE was trained on nothing else: no human opinion, and no histology unless a
model was fitted to it. Lower is better.

Its numbers depend on the size of the image (fewer blocks, a less certain covariance), so tiles have one fixed size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigrestore.report.metrics.nss.fields import TileFields
from bigrestore.report.metrics.nss.mscn import Field
from bigrestore.report.metrics.nss.niqe_model import NiqeModel
from bigrestore.report.metrics.nss.shapes import Sums, fit_asymmetric

NIQE_BLOCK_PX = 96
"""Side of a block at full size; half of it at half size."""


def niqe(fields: TileFields, model: NiqeModel) -> float:
    """Score a tile with NIQE.

    The distance of equation 10 in Mittal, Soundararajan and Bovik, "Making a completely blind image quality
    analyzer", IEEE Signal Processing Letters 20 (2013): sqrt(d' ((C1 + C2) / 2)^-1 d) for the
    difference d of the means.

    Parameters
    ----------
    fields : TileFields
        The tile.
    model : NiqeModel
        Mean and covariance of good images.

    Returns
    -------
    float
        0 and above, lower is better; NaN for a tile with fewer than two usable blocks.
    """
    features = block_features(fields)
    usable = features[np.isfinite(features).all(axis=1)]
    if len(usable) < 2:
        return float("nan")
    # Means over all blocks in which the feature is known, covariance over blocks in which all are: as LIVE's code.
    known = np.isfinite(features)
    mean = np.where(known, features, 0.0).sum(axis=0) / known.sum(axis=0)
    centred = usable - usable.mean(axis=0)
    covariance = np.einsum("bi,bj->ij", centred, centred) / (len(usable) - 1)
    difference = model.mean - mean
    inverse = np.linalg.pinv((model.covariance + covariance) / 2.0, hermitian=True)
    squared = float(np.einsum("i,ij,j->", difference, inverse, difference))
    return float(np.sqrt(squared)) if squared >= 0.0 else float("nan")


def niqe_parameters(model: NiqeModel) -> dict[str, Any]:
    """Return name, hash and facts of the model."""
    return {"name": model.name, "sha256": model.sha256} | dict(model.facts)


def whole_blocks(fields: TileFields) -> Field:
    """Return the part of the rounded tile covered by whole blocks, from the upper left corner on."""
    height, width = (side - side % NIQE_BLOCK_PX for side in fields.shape)
    return fields.rounded if (height, width) == fields.shape else fields.rounded[:height, :width].copy()


def block_features(fields: TileFields) -> NDArray[np.float64]:
    """Describe every block of a tile.

    Parameters
    ----------
    fields : TileFields
        The tile; what exceeds whole blocks at its right and lower border is not read.

    Returns
    -------
    ndarray of float64, (blocks, 36)
        18 features at full size, 18 at half size; NaN where a block is too flat to say. Rows of blocks one
        after the other.
    """
    image = whole_blocks(fields)
    if image.size == 0:
        return np.empty((0, 36))
    full = _niqe_features(fields.block_sums(image, NIQE_BLOCK_PX))
    half = _niqe_features(fields.block_sums(fields.half(image), NIQE_BLOCK_PX // 2))
    return np.concatenate([full, half], axis=1)


def _niqe_features(sums: Sums) -> NDArray[np.float64]:
    fit = fit_asymmetric(sums)
    mean = (fit.right_scale - fit.left_scale) * fit.mean_factor
    own = np.stack([fit.shape[0], (fit.left_scale[0] + fit.right_scale[0]) / 2.0])
    products = np.stack([fit.shape[1:], mean[1:], fit.left_scale[1:], fit.right_scale[1:]], axis=1)
    features = np.concatenate([own, products.reshape(16, *mean.shape[1:])])
    return np.ascontiguousarray(features.reshape(18, -1).T)

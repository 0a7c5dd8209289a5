"""BRISQUE: a rating of an image, learned from people's ratings of photographs.

The same normalised values as in NIQE, described once for the whole image at two sizes, go through LIVE's support
vector regression, trained on its database of distorted photographs and opinions. Lower is better. The scale of 0 to
100 is the scale of the opinions. The regression may leave it at both ends; a clipped score would make different
images look alike, so it is not clipped.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigrestore.report.metrics.nss.fields import TileFields
from bigrestore.report.metrics.nss.parameters import live_parameters, sha256_of
from bigrestore.report.metrics.nss.shapes import Sums, fit_asymmetric, fit_symmetric

SMALLEST_PX = 16
"""Below this side the half-size image holds less than one window of the filters."""


def brisque(fields: TileFields) -> float:
    """Score a tile with BRISQUE.

    Mittal, Moorthy and Bovik, "No-reference image quality assessment in the spatial domain", IEEE Transactions
    on Image Processing 21 (2012), with the support vectors, weights and feature ranges of LIVE's release.

    Parameters
    ----------
    fields : TileFields
        The tile.

    Returns
    -------
    float
        About 0..100, lower is better, not clipped; NaN for a tile too small or too flat to say.
    """
    if min(fields.shape) < SMALLEST_PX:
        return float("nan")
    half = fields.half(fields.levels)
    images = (fields.levels, half)
    features = np.concatenate([_brisque_features(fields.zero_sums(image)) for image in images])
    if not np.isfinite(features).all():
        return float("nan")
    return _regression(features)


def brisque_parameters(_: object) -> dict[str, Any]:
    """Return name and hash of the regression."""
    live = live_parameters()
    parts = [live[key] for key in sorted(live) if key.startswith("brisque_")]
    return {"name": "LIVE", "sha256": sha256_of(*parts)}


def _brisque_features(sums: Sums) -> NDArray[np.float64]:
    shape, variance = fit_symmetric(sums.count, sums.absolute[0], sums.square[0])
    fit = fit_asymmetric(sums)
    # Unlike NIQE's features these keep the deviations and not the scales; the mean is that of the scales.
    mean = (fit.right_scale - fit.left_scale) * fit.mean_factor
    products = np.stack([fit.shape, mean, fit.left**2, fit.right**2], axis=1)[1:]
    return np.concatenate([shape.ravel(), variance.ravel(), products.ravel()])


def _regression(features: NDArray[np.float64]) -> float:
    """Evaluate the support vector regression; sums run in one order, so no library of linear algebra is asked."""
    live = live_parameters()
    low, high = live["brisque_ranges"].T
    scaled = 2.0 * (features - low) / (high - low) - 1.0
    distances = ((live["brisque_vectors"] - scaled) ** 2).sum(axis=1)
    kernel = np.exp(-live["brisque_gamma"] * distances)
    return float((live["brisque_weights"] * kernel).sum() + live["brisque_offset"])

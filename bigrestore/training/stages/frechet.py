"""Distance of made detail from real detail, in one number, without a downloaded network.

The Frechet distance between two sets of patches, on features of fixed random convolutions: at full, half and a
quarter of the resolution 16 random filters of 5 x 5 summing to zero, the log of the mean magnitude of each response,
and the same of eight random mixtures of neighbouring magnitudes, for the arrangement of edges. On large sets random
features tell textures apart nearly as well as learned ones; unlike Inception's they know no objects, and patches of
detail have none. Each feature is divided by its standard deviation over the reference set. The figure has no unit;
beside it stands the floor, the distance between patches trained on and held out: only chance takes a prior below it.

Frechet distance of Gaussians: Dowson and Landau, J. Multivariate Analysis 12 (1982); for images: Heusel et al.,
NeurIPS 2017.
"""

from __future__ import annotations

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor

FEATURE_SEED = 97
RESOLUTIONS = 3
FILTERS, MIXTURES = 16, 8
FILTER_PX, MIXTURE_PX = 5, 3
SMALLEST = 1e-4
"""Magnitudes below a fortieth of a grey level of 8 bits are alike."""
CHUNK = 256


@attrs.frozen(eq=False)
class FeatureStatistics:
    """Mean and covariance of the features of a set of patches.

    Attributes
    ----------
    mean : Tensor, (d,), float64
    covariance : Tensor, (d, d), float64
    """

    mean: Tensor
    covariance: Tensor


@torch.no_grad()
def texture_features(detail: Tensor) -> Tensor:
    """Return the features of patches.

    Parameters
    ----------
    detail : Tensor, (N, 1, H, W)
        Detail in grey values of 0..1; sides of at least 48 pixels.

    Returns
    -------
    Tensor, (N, 72), float64, on the CPU
    """
    filters, mixtures = _random_filters()
    rows = []
    for part in torch.split(detail.detach().float().cpu(), CHUNK):
        columns: list[Tensor] = []
        for level in range(RESOLUTIONS):
            image = F.avg_pool2d(part, 2**level) if level else part
            magnitude = F.conv2d(image, filters).abs()
            mixed = F.conv2d(magnitude, mixtures).abs()
            columns += [torch.log(SMALLEST + response.mean((2, 3))) for response in (magnitude, mixed)]
        rows.append(torch.cat(columns, dim=1))
    return torch.cat(rows).double()


def feature_statistics(features: Tensor) -> FeatureStatistics:
    """Return mean and covariance of features, (N, d), N at least 2."""
    return FeatureStatistics(features.mean(0), torch.cov(features.T))


def frechet_distance(features: Tensor, reference: Tensor) -> float:
    """Return |m1 - m2|^2 + trace(C1 + C2 - 2 (C1 C2)^(1/2)), features scaled by the reference's deviations.

    Parameters
    ----------
    features, reference : Tensor, (N, d) and (M, d), float64
        Features of two sets of patches.
    """
    unit = 1 / reference.std(0).clamp_min(1e-6)
    one, two = feature_statistics(features * unit), feature_statistics(reference * unit)
    root = _root(two.covariance)
    cross = torch.linalg.eigvalsh(root @ one.covariance @ root).clamp_min(0).sqrt().sum()
    traces = one.covariance.trace() + two.covariance.trace()
    distance = (one.mean - two.mean).square().sum() + traces - 2 * cross
    return max(float(distance), 0.0)


def _root(covariance: Tensor) -> Tensor:
    """Return the symmetric square root of a covariance matrix."""
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    return root


def _random_filters() -> tuple[Tensor, Tensor]:
    """Return the filters, the same on every machine: (16, 1, 5, 5) and (8, 16, 3, 3), sums of zero."""
    generator = torch.Generator().manual_seed(FEATURE_SEED)
    shapes = ((FILTERS, 1, FILTER_PX, FILTER_PX), (MIXTURES, FILTERS, MIXTURE_PX, MIXTURE_PX))
    drawn = []
    for shape in shapes:
        weights = torch.randn(shape, generator=generator)
        weights = weights - weights.mean((1, 2, 3), keepdim=True)
        drawn.append(weights / weights.square().sum((1, 2, 3), keepdim=True).sqrt())
    return drawn[0], drawn[1]

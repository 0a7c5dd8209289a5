"""What a network in training is told of the degradation of a window, and what it is not.

Truth, the estimator's reading of the same window, or nothing: a network that has only known the truth does
not bear the estimator's errors, and one that has only known the estimator does not use a good kernel. So two
fifths of the pairs come with the truth, two fifths with what is read, and the rest with the zero code, "unknown".
Damage masks are shown half of the time, so that marked and unmarked damage are both known.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bigrestore.nn.code import Degradations, compose_psi
from bigrestore.nn.estimator import degradations_of
from bigrestore.nn.restorer import Restorer
from bigrestore.nn.wiener import tissue_sigma, wiener_filters
from bigrestore.train.pairs import Pairs

ORACLE_SHARE, DROPPED_SHARE = 0.4, 0.2
MASK_SHOWN_SHARE = 0.5


@torch.no_grad()
def read(model: Restorer, degraded: Tensor, valid: Tensor) -> Degradations:
    """Return what the estimator reads off each window, (N, 1, h, w)."""
    return degradations_of(model.estimator(degraded, valid))


@torch.no_grad()
def written(model: Restorer, known: Degradations) -> tuple[Tensor, Tensor]:
    """Return codes, (N, 24), and linear deconvolutions of degradations."""
    sigma = tissue_sigma(known.noise_gain, known.read_noise)
    filters = wiener_filters(known.kernel, sigma, model.scale)
    return compose_psi(model.basis, known, model.scale), filters


def shown_masks(pairs: Pairs, rng: np.random.Generator) -> Tensor:
    """Return the masks of the pairs, or all ones, by chance."""
    shown = torch.from_numpy(rng.random(len(pairs.valid)) < MASK_SHOWN_SHARE).to(pairs.valid.device)
    return torch.where(shown[:, None, None, None], pairs.valid, torch.ones_like(pairs.valid))


def drawn_codes(
    model: Restorer, pairs: Pairs, valid: Tensor, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Return oracle, estimated or dropped codes, drawn per pair, with their filters."""
    choice = torch.from_numpy(rng.random(len(valid))).to(pairs.degraded.device)
    psi, filters = written(model, pairs.known)
    asked = (choice >= ORACLE_SHARE) & (choice < 1 - DROPPED_SHARE)
    if bool(asked.any()):
        psi[asked], filters[asked] = written(model, read(model, pairs.degraded[asked], valid[asked]))
    psi[choice >= 1 - DROPPED_SHARE] = 0
    return psi, filters

"""The priors that ship still make tissue on their own, after they were joined to a U-Net."""

from __future__ import annotations

import pytest
import torch

from bigrestore.nn.checkpoint import load_model, read_checkpoint, shipped_models
from bigrestore.nn.prior import Generator
from bigrestore.train.frechet import texture_features
from bigrestore.train.prior import sample_patches

WITH_PRIOR = [name for name, path in shipped_models().items() if read_checkpoint(path)[0]["prior"]]
pytestmark = pytest.mark.skipif(not WITH_PRIOR, reason="no shipped model has a prior")


def prior_of(name: str) -> Generator:
    prior = load_model(name).restorer.prior
    assert prior is not None
    return prior


@pytest.mark.parametrize("name", WITH_PRIOR)
def test_samples_of_the_prior_alone_are_detail_and_of_many_kinds(name: str) -> None:
    patches = sample_patches(prior_of(name), 48)
    assert patches.shape == (48, 1, 64, 64)
    assert bool(torch.isfinite(patches).all())
    assert 0.02 < float(patches.std()) < 0.3
    assert float(patches.mean().abs()) < 0.02, "a prior of detail brings no grey"
    assert float(texture_features(patches).std(0).mean()) > 0.1, "patches differ in contrast and grain"


@pytest.mark.parametrize("name", WITH_PRIOR)
def test_the_bridge_has_not_made_the_prior_forget_tissue(name: str) -> None:
    training = load_model(name).info["training"]
    before = training["bridge"]["figures"]["frechet_prior_before"]
    last = training["polish" if "polish" in training else "bridge"]["figures"]["frechet_prior"]
    assert last <= 1.2 * before


@pytest.mark.parametrize("name", WITH_PRIOR)
def test_the_realness_that_a_model_states_is_the_one_that_its_card_measured(name: str) -> None:
    stated = load_model(name).realness
    card = shipped_models()[name].with_suffix(".md").read_text(encoding="utf-8")
    assert 0 < stated <= 1
    assert f"used at realness {stated:g} where" in card
    assert f"The default is **{stated:g}**" in card
    assert f"**realness {stated:g}**" in card, "its row in the table"
    assert f"{name}-realness.png" in card

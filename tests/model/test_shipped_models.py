"""The models that ship: their priors still make tissue on their own, and hard sections keep their grey levels."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from bigrestore.errors import UsageError
from bigrestore.model.method import TileBatch
from bigrestore.model.nets.checkpoint import load_model, read_checkpoint, shipped_models
from bigrestore.model.nets.prior.generator import Generator
from bigrestore.model.nets.redegrade import redegrade
from bigrestore.model.network import NetworkMethod
from bigrestore.training.stages.frechet import texture_features
from bigrestore.training.stages.prior import sample_patches

INFO = {name: read_checkpoint(path)[0] for name, path in shipped_models().items()}
WITH_PRIOR = [name for name, info in INFO.items() if info["prior"]]
JOINED = [name for name in WITH_PRIOR if "halo_prior_px" in INFO[name]]


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


@pytest.mark.parametrize("name", JOINED)
def test_the_bridge_has_not_made_the_prior_forget_tissue(name: str) -> None:
    training = load_model(name).info["training"]
    before = training["bridge"]["figures"]["frechet_prior_before"]
    last = training["polish" if "polish" in training else "bridge"]["figures"]["frechet_prior"]
    assert last <= 1.2 * before


@pytest.mark.parametrize("name", JOINED)
def test_the_realness_that_a_model_states_is_the_one_that_its_card_measured(name: str) -> None:
    stated = load_model(name).realness
    card = shipped_models()[name].with_suffix(".md").read_text(encoding="utf-8")
    assert 0 < stated <= 1
    assert f"used at realness {stated:g} where" in card
    assert f"The default is **{stated:g}**" in card
    assert f"**realness {stated:g}**" in card, "its row in the table"
    assert f"{name}-realness.png" in card


def blurred_section(kind: str) -> np.ndarray:
    """Return 512 x 512 px of noise-like tissue, much blurred: with a hard white edge, or so light that it saturates."""
    rng = np.random.default_rng(0)
    grain = gaussian_filter(rng.standard_normal((512, 512)), 1.5)
    clean = 0.35 + 0.12 * grain / grain.std()
    if kind == "white edge":
        clean[:, :260] = 1.0
    else:
        clean = np.minimum(clean + 0.5, 1.0)
    noisy = gaussian_filter(clean, 2.5) + rng.normal(0, 1 / 255, clean.shape)
    return np.asarray(np.rint(255 * noisy.clip(0, 1)) / 255, np.float32)


def test_a_prior_that_is_not_joined_is_not_used() -> None:
    model = load_model(JOINED[0])
    parted = {name: fact for name, fact in model.info.items() if name not in ("halo_prior_px", "realness")}
    model = attrs.evolve(model, info=parted)
    assert model.realness == 0
    with pytest.raises(UsageError, match="not joined to its U-Net"):
        NetworkMethod(model, realness=0.1, device="cpu")


@pytest.mark.parametrize("kind", ["white edge", "light"])
@pytest.mark.parametrize("name", list(shipped_models()))
def test_regional_grey_is_held_where_much_is_clipped(name: str, kind: str) -> None:
    x = blurred_section(kind)
    tiles = x.reshape(4, 128, 4, 128).swapaxes(1, 2).reshape(16, 128, 128)
    for realness in (0.0, 1.0) if name in JOINED else (0.0,):
        method = NetworkMethod(load_model(name), realness=realness, device="cpu", precision="fp32")
        statistics = method.analyse(tiles)
        y = method.restore(TileBatch(x[None], None, np.zeros((1, 2), np.int64), 0), statistics).pixels
        again = redegrade(torch.from_numpy(y)[None], torch.from_numpy(statistics.kernel), method.scale)[0, 0]
        drift = (again.numpy() - x).reshape(8, 64, 8, 64).mean((1, 3))
        assert 255 * np.abs(drift).max() < 0.75

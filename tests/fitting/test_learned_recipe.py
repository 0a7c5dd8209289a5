"""A recipe learned from pairs is taken where any recipe is: patches, whole sections, trainings; at its own scale alone."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import attrs
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import zarr

from bigrestore.core.kernels import delta, equivalent_sigma, fold_downsampling, gaussian, kernel_size
from bigrestore.degradation import api
from bigrestore.degradation.api import degrade
from bigrestore.degradation.degradation import Noise
from bigrestore.degradation.given import Given
from bigrestore.degradation.learned.learned_recipe import (
    LearnedRecipe,
    load_learned,
    on_input_grid,
    recipe_of,
)
from bigrestore.degradation.learned.synthesis import Synthesis
from bigrestore.degradation.recipe import draw_degradations, load_recipe
from bigrestore.degradation.scanner import degrade_batch, margin_px
from bigrestore.degradation.schema import Recipe
from bigrestore.degradation.section import SectionDegrader, correlate_exactly
from bigrestore.errors import InputMissingError, ModelError, ModelScaleError, UsageError
from bigrestore.io.open_section import open_section
from bigrestore.model.method import TileBatch
from bigrestore.model.nets.parts.learned_degradation import SYN_REACH_PX, LearnedDegradation, SynNet
from bigrestore.model.nets.parts.part import load_part, save_part
from bigrestore.model.nets.prior.discriminator import ConditionalDiscriminator
from bigrestore.settings.train import StageOptions
from bigrestore.training.fitting.fit import fit_windows
from bigrestore.training.fitting.real_pairs import RealWindow
from bigrestore.training.fitting.twins import TwinSource
from bigrestore.training.loop.adversary import Adversary
from bigrestore.training.stages.parts import degradation as degradation_stage
from bigrestore.training.stages.parts.degradation import DegradationStage, save_fit
from bigrestore.training.stages.stage import train_stage
from tests.fitting.made_pairs import degraded_image, made_window, tissue_image
from tests.fitting.test_fit import through_jpeg2000

pytestmark = pytest.mark.filterwarnings("ignore:.*tensorboard.*")


def halo_kernel() -> np.ndarray:
    return (1.6 * gaussian(21, 0.9).astype(np.float64) - 0.6 * gaussian(21, 2.0)).astype(np.float32)


def write_recipe(path: Path, scale: int, *, network: bool = False) -> Path:
    """Write a fit of windows of two blurs, one with a halo; with a network of random weights if asked for."""
    if scale == 1:
        kernels = [halo_kernel(), gaussian(21, 1.8)]
    else:
        kernels = [
            fold_downsampling(gaussian(kernel_size(scale), sigma), "area", scale) for sigma in (1.0, 2.2)
        ]
    windows = [
        made_window(kernel, scale, side=96, seed=3, read=read / 255)
        for kernel in kernels
        for read in (1.0, 4.0)
    ]
    fit = fit_windows(windows, scale)
    torch.manual_seed(0)
    net = LearnedDegradation(len(windows), fit.kernels.shape[-1], scale, network=network)
    if network:
        assert net.syn_net is not None
        torch.nn.init.normal_(net.syn_net.head.weight, std=0.02)
        net.codes.copy_(torch.nn.functional.normalize(torch.randn_like(net.codes), dim=1))
    save_fit(path, net, fit)
    return path


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("fit") / "fit.safetensors", 1)


@pytest.fixture(scope="module")
def with_network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("net") / "net.safetensors", 1, network=True)


@pytest.fixture(scope="module")
def fitted_x2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("fit2") / "fit2.safetensors", 2)


@pytest.fixture(scope="module")
def section(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("section") / "clean.zarr"
    pixels = np.rint(tissue_image(200, 232, 21) * 255).astype(np.uint8)
    zarr.create_array(path, shape=pixels.shape, chunks=(64, 64), dtype="uint8")[:] = pixels
    return path


def test_draws_are_windows_and_points_between_neighbours(fitted: Path) -> None:
    recipe = load_recipe(str(fitted), 1)
    assert isinstance(recipe, LearnedRecipe)
    drawn = draw_degradations(recipe, 1, 200, np.random.default_rng(0))
    shares = np.array([d.blur["share"] for d in drawn])
    assert 0.35 < (shares == 0).mean() < 0.65
    assert {d.blur["window"] for d in drawn} == {0.0, 1.0, 2.0, 3.0}
    assert {(d.blur["window"], d.blur["neighbour"]) for d in drawn} == {(0, 1), (1, 0), (2, 3), (3, 2)}
    assert all(float(d.kernel.sum()) == pytest.approx(1, abs=1e-5) for d in drawn)
    again = draw_degradations(recipe, 1, 5, np.random.default_rng(0))
    assert [d.blur for d in again] == [d.blur for d in drawn[:5]]
    levels = [255 * d.effective_noise[1] for d in drawn]
    assert 0.5 < min(levels) < 1.5
    assert 3.5 < max(levels) < 4.5


def test_the_stand_in_for_the_truth_has_no_negative_taps(fitted: Path) -> None:
    drawn = draw_degradations(load_recipe(str(fitted), 1), 1, 20, np.random.default_rng(0))
    assert any((d.kernel < 0).any() for d in drawn)
    for degradation in drawn:
        assert (degradation.effective_kernel >= 0).all()
        assert equivalent_sigma(degradation.effective_kernel) < 2.5


@pytest.mark.parametrize("recipe", ["fitted", "with_network"])
def test_patches_and_their_table_say_what_was_drawn(
    recipe: str, section: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(recipe)
    table = degrade(section, tmp_path / "out", count=3, patch_px=64, recipe=path, seed=2, progress="none")
    rows = pq.read_table(table).to_pylist()
    assert {row["kind"] for row in rows} == {"learned"}
    for row in rows:
        parameters = json.loads(row["parameters"])
        assert set(parameters["blur"]) == {"window", "neighbour", "share"}
        assert ("synthesis" in parameters) == (recipe == "with_network")
    first = (tmp_path / "out" / "lq" / "000000.png").read_bytes()
    degrade(section, tmp_path / "again", count=1, patch_px=64, recipe=path, seed=2, progress="none")
    assert (tmp_path / "again" / "lq" / "000000.png").read_bytes() == first


def whole_and_cut(degrader: SectionDegrader, clean: np.ndarray, tile: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a section degraded in one piece, and in tiles with the halo of the method, in clean pixels."""
    scale, halo, step = degrader.degradation.scale, degrader.halo_px, degrader.alignment_px
    assert tile % step == 0

    def run(y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        batch = TileBatch(clean[None, y0:y1, x0:x1].copy(), None, np.array([[y0, x0]], np.int64), 0)
        return degrader.restore(batch, degrader.analyse(batch.pixels[:0])).pixels[0]

    height, width = clean.shape
    whole, cut = run(0, height, 0, width), np.zeros((height // scale, width // scale), np.float32)
    for y in range(0, height, tile):
        for x in range(0, width, tile):
            top, left = max(0, y - halo), max(0, x - halo)
            made = run(top, min(height, y + tile + halo), left, min(width, x + tile + halo))
            part = made[(y - top) // scale :, (x - left) // scale :]
            goal = cut[y // scale : (y + tile) // scale, x // scale : (x + tile) // scale]
            goal[...] = part[: goal.shape[0], : goal.shape[1]]
    return whole, cut


@pytest.mark.parametrize("tile", [32, 64, 96])
@pytest.mark.parametrize("recipe", ["fitted", "fitted_x2"])
def test_tiles_of_a_fit_are_the_whole_section_to_the_last_bit(
    recipe: str, tile: int, request: pytest.FixtureRequest
) -> None:
    scale = 2 if recipe == "fitted_x2" else 1
    learned = load_learned(request.getfixturevalue(recipe), scale)
    degradation = api._for_whole(learned, scale, 3)
    clean = tissue_image(160, 192, 8)
    whole, cut = whole_and_cut(SectionDegrader(degradation, *clean.shape, 3), clean, tile)
    assert np.array_equal(whole, cut)


@pytest.mark.parametrize("tile", [32, 64, 96])
def test_tiles_of_a_network_are_the_whole_section_but_for_rounding(with_network: Path, tile: int) -> None:
    degradation = api._for_whole(load_learned(with_network, 1), 1, 3)
    clean = tissue_image(160, 192, 8)
    whole, cut = whole_and_cut(SectionDegrader(degradation, *clean.shape, 3), clean, tile)
    assert np.abs(whole - cut).max() <= 1.001 / 255  # eight bits
    assert (np.abs(whole - cut) > 1e-5).mean() < 1e-3
    plain = attrs.evolve(degradation, synthesis=None)
    assert (
        np.abs(whole - whole_and_cut(SectionDegrader(plain, *clean.shape, 3), clean, 96)[0]).mean()
        > 0.5 / 255
    )


def test_a_whole_section_through_the_engine_is_the_fit(
    fitted: Path, section: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(api.WHOLE_TILE_PX, 1, 64)
    degrade(section, tmp_path / "out", whole=True, recipe=fitted, seed=4, progress="none")
    stored = open_section(tmp_path / "out" / "lq.ome.zarr")
    clean = np.asarray(zarr.open_array(section, mode="r")[:]).astype(np.float32) / 255
    degrader = SectionDegrader(api._for_whole(load_learned(fitted, 1), 1, 4), *clean.shape, seed=4)
    batch = TileBatch(clean[None], None, np.zeros((1, 2), np.int64), 0)
    whole = degrader.restore(batch, degrader.analyse(batch.pixels[:0])).pixels[0]
    made = stored.read(0, 0, stored.height, 0, stored.width)
    assert np.array_equal(made, np.rint(whole * 255).astype(np.uint8))


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_a_patch_holds_the_reach_of_a_network(scale: int) -> None:
    """What a network adds to a patch does not depend on the margin around it."""
    torch.manual_seed(1)
    network = SynNet(scale)
    torch.nn.init.normal_(network.head.weight, std=0.05)
    synthesis = Synthesis(network, torch.nn.functional.normalize(torch.randn(64), dim=0))
    plain = draw_degradations(Recipe(name="none"), scale, 1, np.random.default_rng(0))[0]
    learned = attrs.evolve(plain, synthesis=synthesis)
    side = 32 * scale + 2 * margin_px(scale)
    clean = torch.from_numpy(tissue_image(side, side, 4))[None, None]
    made, _, target = degrade_batch(clean, [learned], scale, torch.Generator())
    base, _, _ = degrade_batch(clean, [plain], scale, torch.Generator())
    added = synthesis.added(target[0, 0])
    inner = slice(SYN_REACH_PX, -SYN_REACH_PX)
    assert torch.allclose((made - base)[0, 0][inner, inner], added[inner, inner], atol=1e-5)
    assert not torch.allclose((made - base)[0, 0], added, atol=1e-5)


@pytest.mark.parametrize("scale", [2, 4])
def test_no_blur_is_one_tap_on_the_input_grid(scale: int) -> None:
    size = kernel_size(scale)
    sharp = fold_downsampling(delta(size), "area", scale)
    assert np.allclose(on_input_grid(sharp, scale), delta(21), atol=1e-6)
    wide = on_input_grid(fold_downsampling(gaussian(size, 2.0 * scale), "area", scale), scale)
    assert equivalent_sigma(wide) == pytest.approx(2.0, abs=0.25)


def test_stated_blur_takes_the_place_of_a_network(with_network: Path) -> None:
    (drawn,) = draw_degradations(load_recipe(str(with_network), 1), 1, 1, np.random.default_rng(0))
    assert drawn.synthesis is not None
    assert Given(noise=3.0).replace(drawn).synthesis is not None
    stated = Given(blur="1.5").replace(drawn)
    assert stated.synthesis is None
    assert equivalent_sigma(stated.effective_kernel) == pytest.approx(1.5, abs=0.05)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from PIL import Image

    folder = tmp_path_factory.mktemp("images")
    for index in range(3):
        pixels = np.rint(tissue_image(360, 360, 30 + index) * 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


def test_a_part_trains_on_it(
    images: Path, tmp_path: Path, fitted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bigrestore.training.stages.parts import denoiser

    monkeypatch.setattr(denoiser, "measure_method_halo", lambda *_: 64)
    monkeypatch.setattr(denoiser, "DENOISER_HELD_OUT", 4)
    options = StageOptions(steps=2, batch=2, threads=1, recipe=str(fitted))
    assert train_stage("denoiser", images, tmp_path / "part.safetensors", options).steps == 2
    assert str(fitted) in (tmp_path / "part.md").read_text()


@pytest.mark.parametrize("scale", [1, 2])
def test_estimator_and_fidelity_train_on_it(
    scale: int, images: Path, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bigrestore.training.data import pairs
    from bigrestore.training.stages import estimator, fidelity

    monkeypatch.setattr(pairs, "BASIS_KERNELS", 60)
    monkeypatch.setattr(estimator, "ESTIMATOR_HELD_OUT", 2 * estimator.TOGETHER)
    monkeypatch.setattr(fidelity, "FIDELITY_HELD_OUT", 4)
    monkeypatch.setattr(fidelity, "measure_halo", lambda *_, **__: (64, {"64": 0.0}))
    path = request.getfixturevalue("fitted" if scale == 1 else "fitted_x2")
    options = StageOptions(preset="nano", steps=5, batch=2, threads=1, recipe=str(path), scale=scale)
    for stage in ("estimator", "fidelity"):
        assert train_stage(stage, images, tmp_path / "m.safetensors", options).steps == 5


def test_pairs_of_a_learned_recipe_are_told_less_truth(fitted: Path) -> None:
    from bigrestore.model.nets.restorer import Restorer
    from bigrestore.settings.presets import get_preset
    from bigrestore.training.data.codes import drawn_codes, encode
    from bigrestore.training.data.pairs import Pairs, known_of

    model = Restorer(get_preset("nano"), 1)
    shares = {}
    for recipe in (Recipe.load("optics").always_degrading(), load_recipe(str(fitted), 1)):
        drawn = draw_degradations(recipe, 1, 40, np.random.default_rng(0))
        known = known_of(drawn, torch.device("cpu"))
        pairs = Pairs(torch.empty(0), torch.empty(0), torch.empty(0), known, drawn)
        _, filters = drawn_codes(model, pairs, np.random.default_rng(1))
        _, true = encode(model, known)
        shares[recipe.name] = float(torch.isclose(filters, true, atol=1e-6).flatten(1).all(1).float().mean())
    assert shares["optics"] == pytest.approx(0.4, abs=0.15)
    assert shares["fit"] == pytest.approx(0.15, abs=0.12)


@pytest.mark.parametrize(("own", "asked"), [(1, 2), (1, 4), (2, 1)])
def test_another_scale_is_a_sentence(
    own: int, asked: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    path = request.getfixturevalue("fitted" if own == 1 else "fitted_x2")
    with pytest.raises(ModelScaleError, match=f"made for scale {own}, not for {asked}; give --scale {own}"):
        load_recipe(str(path), asked)


def test_files_that_are_no_learned_recipe_are_sentences(tmp_path: Path, fitted: Path) -> None:
    from bigrestore.model.nets.parts.ranking import RankingNet

    other = tmp_path / "ranking.safetensors"
    save_part(other, RankingNet(), "ranking", 1, {"sizes": {}, "halo_px": 0, "alignment_px": 1})
    with pytest.raises(
        UsageError, match=r"--recipe is .*ranking\.safetensors, a ranking, and a degradation is asked for"
    ):
        load_recipe(str(other), 1)
    text = tmp_path / "text.safetensors"
    text.write_text("[noise]\n")
    with pytest.raises(ModelError, match="damaged or no safetensors"):
        load_recipe(str(text), 1)
    with pytest.raises(InputMissingError, match="There is no model file"):
        load_recipe(str(tmp_path / "missing.safetensors"), 1)
    mixed = tmp_path / "mixed.toml"
    mixed.write_text(f'[mix]\n"{fitted}" = 1\ndefault = 1\n')
    with pytest.raises(
        UsageError, match="was learned from pairs, and only shipped recipes and TOML files are mixed"
    ):
        load_recipe(str(mixed), 1)


def test_a_file_without_its_fits_is_a_sentence(tmp_path: Path) -> None:
    for facts in ({}, {"windows": []}, {"windows": [{"noise_gain": 1}]}, {"windows": [{"noise_gain": "x"}]}):
        path = tmp_path / "bare.safetensors"
        net = LearnedDegradation(1, 21, 1)
        net.kernels[0, 10, 10] = 1
        sizes = {"windows": 1, "kernel_px": 21, "scale": 1}
        save_part(path, net, "degradation", 1, {"sizes": sizes, "halo_px": 10, "alignment_px": 1, **facts})
        with pytest.raises(ModelError, match="train it again"):
            load_learned(path, 1)


class Known(torch.nn.Module):
    """In the place of a network: a part of what a clean patch, found again in its window, has beyond blur and noise."""

    def __init__(self, windows: list[RealWindow], beyond: list[np.ndarray], part: float) -> None:
        super().__init__()
        self.windows, self.beyond, self.part = windows, beyond, part

    def forward(self, clean: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.stack([self._of(patch) for patch in clean[:, 0].numpy()]))[:, None]

    def _of(self, patch: np.ndarray) -> np.ndarray:
        height, width = patch.shape
        for window, beyond in zip(self.windows, self.beyond, strict=True):
            for y, x in np.argwhere(window.clean == patch[0, 0]):
                place = np.s_[y : y + height, x : x + width]
                if np.array_equal(window.clean[place], patch):
                    return np.asarray(self.part * beyond[place], np.float32)
        raise AssertionError("a patch of no window")


@functools.cache
def known_stage(noise: float) -> tuple[DegradationStage, list[RealWindow], list[np.ndarray]]:
    """Return a stage on windows with a known residual, the windows and their residuals."""
    windows, beyond = [], []
    for seed in range(2):
        clean = tissue_image(176, 176, seed)
        soft = degraded_image(clean, gaussian(21, 0.9), 1)
        wrong = through_jpeg2000(soft, 12) - soft
        rough = np.random.default_rng(seed).normal(0, noise, soft.shape)
        windows.append(RealWindow.unmoved(np.clip(soft + wrong + rough, 0, 1).astype(np.float32), clean))
        beyond.append(wrong)
    fit = fit_windows(windows, 1)
    source = TwinSource(fit, Recipe.load("default"), 0, torch.device("cpu"))
    net = LearnedDegradation(2, fit.kernels.shape[-1], 1, network=True)
    adversary = Adversary(ConditionalDiscriminator(8, 2), lambda *_: 1e-4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(degradation_stage, "TRANSFERRED", 1)
        return DegradationStage(net, source, adversary, seed=0, batch=2), windows, beyond


@pytest.mark.parametrize("noise", [0.0, 4 / 255])
@pytest.mark.parametrize(("part", "kept"), [(1.0, 0.0), (0.0, 1.0), (0.2, 0.6)])
def test_what_a_network_explains_is_not_drawn_again(noise: float, part: float, kept: float) -> None:
    stage, windows, beyond = known_stage(noise)
    stage.syn_net = Known(windows, beyond, part)  # type: ignore[assignment]
    assert all(each.noise.contrast_gain > 0 for each in stage.source.fit.fits)
    assert stage._bank()[1] == pytest.approx(kept, abs=0.25)


@pytest.mark.parametrize("kept", [1.0, 0.4])
def test_what_was_unexplained_is_drawn_and_less_of_it_beside_a_network(tmp_path: Path, kept: float) -> None:
    fit = fit_windows([made_window(gaussian(21, 1.2), side=96, read=1 / 255)], 1)
    loud = [attrs.evolve(each, noise=Noise(0.0, 0.004, 0.5, 0.6)) for each in fit.fits]
    for network in (False, True):
        net = LearnedDegradation(1, fit.kernels.shape[-1], 1, network=network)
        if network:
            net.codes.copy_(torch.nn.functional.normalize(torch.ones_like(net.codes), dim=1))
        path = tmp_path / f"{network}.safetensors"
        save_fit(path, net, attrs.evolve(fit, fits=loud), kept)
        (drawn,) = draw_degradations(load_learned(path, 1), 1, 1, np.random.default_rng(0))
        assert drawn.noise.contrast_gain == pytest.approx(0.6 * (kept if network else 1))


@pytest.mark.parametrize("kept", [None, [], "much", -1.0, 2.0, float("nan")])
def test_a_part_that_makes_no_sense_is_a_sentence(fitted: Path, kept: object) -> None:
    part = load_part("degradation", 1, fitted)
    with pytest.raises(ModelError, match="does not say what was fitted"):
        recipe_of(attrs.evolve(part, info=part.info | {"contrast_kept": kept}))


def test_a_file_of_an_older_version_has_nothing_unexplained(fitted: Path, tmp_path: Path) -> None:
    part = load_part("degradation", 1, fitted)
    windows = [{k: v for k, v in each.items() if k != "contrast_gain"} for each in part.info["windows"]]
    old = attrs.evolve(
        part, info={k: v for k, v in part.info.items() if k != "contrast_kept"} | {"windows": windows}
    )
    assert all(window.noise.contrast_gain == 0 for window in recipe_of(old).windows)
    assert recipe_of(old).contrast_kept == 1


@pytest.mark.parametrize("kernel", ["halo", "sharpening"])
def test_negative_taps_act_on_patches_as_on_sections(kernel: str) -> None:
    """A kernel whose middle tap is above one is a blur as well, and its negative taps count."""
    sharpening = 1.9 * delta(21).astype(np.float64) - 0.9 * gaussian(21, 1.5)
    taps = halo_kernel() if kernel == "halo" else sharpening.astype(np.float32)
    clean = tissue_image(100, 100, 6)
    drawn = attrs.evolve(
        draw_degradations(Recipe(name="none"), 1, 1, np.random.default_rng(0))[0], kernel=taps
    )
    batch = torch.from_numpy(clean)[None, None]
    made, _, _ = degrade_batch(batch, [drawn], 1, torch.Generator())
    whole = correlate_exactly(torch.from_numpy(clean), taps, 1)
    margin = margin_px(1)
    assert torch.allclose(made[0, 0], whole[margin:-margin, margin:-margin], atol=1e-5)
    assert float((made[0, 0] - batch[0, 0, margin:-margin, margin:-margin]).abs().mean()) > 1e-3

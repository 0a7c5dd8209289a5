"""`train degradation` as a user meets it: pairs in folders and sections, sentences for bad ones, a network that resumes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from scipy.ndimage import shift
from typer.testing import CliRunner

from bigrestore.cli.train import train_app
from bigrestore.core.kernels import equivalent_sigma, gaussian, normalised_kernel
from bigrestore.degradation.learned.learned_recipe import load_learned
from bigrestore.errors import InputError, InputMissingError, ModelScaleError, OutputExistsError, UsageError
from bigrestore.model.nets.checkpoint import read_weights
from bigrestore.settings.train import StageOptions
from bigrestore.training.fitting import twins
from bigrestore.training.fitting.fit import fit_windows
from bigrestore.training.fitting.real_pairs import open_pairs, register_pairs
from bigrestore.training.stages import learning
from bigrestore.training.stages.learning import learn_degradation
from bigrestore.training.stages.parts import degradation
from tests.fitting.made_pairs import degraded_image, save_grey, tissue_image, write_pairs_folder

pytestmark = pytest.mark.filterwarnings("ignore:.*tensorboard.*")
BLUR = gaussian(21, 1.3)


def bytes_of(image: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs_folder(tmp_path_factory.mktemp("pairs") / "mine", 5, BLUR, read=2 / 255)


@pytest.fixture
def own_pairs(pairs: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pairs, tmp_path / "pairs"))


def learned_by_command(*words: object) -> Any:
    return CliRunner().invoke(train_app, ["degradation", *map(str, words), "--device", "cpu"])


def test_the_fit_of_a_folder_is_a_recipe_with_a_card_and_a_table(pairs: Path, tmp_path: Path) -> None:
    output = tmp_path / "deg.safetensors"
    result = learned_by_command(pairs, "-o", output)
    assert result.exit_code == 0, result.output
    for word in ("windows", "kernel", "one for all windows", "noise", "JPEG", "none found"):
        assert word in result.stdout
    recipe = load_learned(output, 1)
    assert len(recipe.windows) == 5
    assert equivalent_sigma(normalised_kernel(recipe.kernels[0])) == pytest.approx(1.3, abs=0.1)
    card = output.with_suffix(".md").read_text()
    assert "## Fit" in card
    assert "000004.png" in card
    assert not (tmp_path / "deg.safetensors.train").exists()
    first = output.read_bytes()
    assert learned_by_command(pairs, "-o", output, "--minutes", 0, "--quiet").exit_code == 0
    assert output.read_bytes() == first


@pytest.mark.parametrize("moved", [(0.0, 0.0), (3.4, -5.7), (-9.0, 12.5)])
def test_two_sections_are_registered_window_by_window(
    moved: tuple[float, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bigrestore.training.fitting.real_pairs.REAL_WINDOW_PX", 128)
    clean = tissue_image(300, 300, 4)
    seen = np.clip(shift(clean, moved, order=5, mode="nearest"), 0, 1).astype(np.float32)
    save_grey(tmp_path / "lq.png", bytes_of(degraded_image(seen, BLUR, 1, read=1 / 255)))
    save_grey(tmp_path / "hq.png", bytes_of(clean))
    opened = open_pairs(None, str(tmp_path / "lq.png"), str(tmp_path / "hq.png"), 1)
    windows = register_pairs(opened, 1, "them")
    assert len(windows) == 4
    for window in windows:
        assert (window.offset.y, window.offset.x) == pytest.approx((-moved[0], -moved[1]), abs=0.1)
        assert window.degraded.shape == window.clean.shape
    output = tmp_path / "deg.safetensors"
    sections = (str(tmp_path / "lq.png"), str(tmp_path / "hq.png"))
    fit = learn_degradation(None, sections, output, StageOptions(steps=1), network=False).fit
    assert fit.fits[0].sigma_px == pytest.approx(1.3, abs=0.15)


@pytest.mark.parametrize("scale", [2, 4])
def test_a_shift_at_larger_scales_is_one_of_degraded_pixels(scale: int, tmp_path: Path) -> None:
    clean = tissue_image(160 * scale, 160 * scale, 4)
    seen = np.clip(shift(clean, (2.5 * scale, -scale), order=5, mode="nearest"), 0, 1).astype(np.float32)
    from bigrestore.core.kernels import delta, fold_downsampling, kernel_size

    kernel = fold_downsampling(delta(kernel_size(scale)), "area", scale)
    save_grey(tmp_path / "lq.png", bytes_of(degraded_image(seen, kernel, scale)))
    save_grey(tmp_path / "hq.png", bytes_of(clean))
    opened = open_pairs(None, str(tmp_path / "lq.png"), str(tmp_path / "hq.png"), scale)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bigrestore.training.fitting.real_pairs.LEAST_PAIR_WINDOWS", 1)
        (window,) = register_pairs(opened, scale, "them")
    assert (window.offset.y, window.offset.x) == pytest.approx((-2.5, 1.0), abs=0.1)
    assert window.clean.shape == tuple(scale * side for side in window.degraded.shape)


def test_pairs_of_other_places_are_a_sentence(tmp_path: Path) -> None:
    folder = write_pairs_folder(tmp_path / "pairs", 6, BLUR)
    names = [f"{index:06d}.png" for index in range(6)]
    for index, name in enumerate(names):  # each degraded image beside the clean one of another place
        (folder / "hq" / name).rename(folder / "hq" / f"{(index + 1) % 6}.moved")
    for index, name in enumerate(names):
        (folder / "hq" / f"{index}.moved").rename(folder / "hq" / name)
    opened = open_pairs(folder, None, None, 1)
    with pytest.raises(
        InputError, match=r"do not show the same place: 0 of 6 windows correlate above 0\.5; register them"
    ):
        register_pairs(opened, 1, str(folder))


def without(side: str) -> Any:
    def change(folder: Path) -> None:
        shutil.rmtree(folder / side)

    return change


def alone(side: str) -> Any:
    def change(folder: Path) -> None:
        (folder / side / "000001.png").unlink()

    return change


def smaller(folder: Path) -> None:
    save_grey(folder / "hq" / "000002.png", np.full((90, 112), 9, np.uint8))


def doubled(folder: Path) -> None:
    for path in (folder / "hq").iterdir():
        save_grey(path, np.zeros((224, 224), np.uint8))


def one_left(folder: Path) -> None:
    for side in ("lq", "hq"):
        for index in range(1, 5):
            (folder / side / f"{index:06d}.png").unlink()


def glass(folder: Path) -> None:
    for path in (folder / "hq").iterdir():
        save_grey(path, np.full((112, 112), 230, np.uint8))


def emptied(folder: Path) -> None:
    for path in [*(folder / "lq").iterdir(), *(folder / "hq").iterdir()]:
        path.unlink()


def garbled(folder: Path) -> None:
    (folder / "lq" / "000003.png").write_bytes(b"no image")


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        (without("hq"), InputMissingError, "has no folder hq/; pairs are images of equal names"),
        (without("lq"), InputMissingError, "has no folder lq/"),
        (
            alone("hq"),
            InputMissingError,
            r"lq/000001\.png has no image of this name in hq/; add it, or take it out",
        ),
        (alone("lq"), InputMissingError, r"hq/000001\.png has no image of this name in lq/"),
        (smaller, InputError, r"90 x 112 px and .* 112 x 112 px; a clean image is 1, 2 or 4 times as large"),
        (doubled, ModelScaleError, "which is x2; give --scale 2"),
        (
            one_left,
            InputError,
            "have 1 window.s. with tissue, .* at least 4; give more pairs, or larger ones",
        ),
        (glass, InputError, "have 0 window"),
        (emptied, InputError, "There is no image in"),
        (garbled, InputError, r"000003\.png"),
        (shutil.rmtree, InputMissingError, "There is no folder"),
    ],
)
def test_bad_pairs_are_one_sentence_and_leave_nothing(
    change: Any, error: type[Exception], sentence: str, own_pairs: Path, tmp_path: Path
) -> None:
    change(own_pairs)
    output = tmp_path / "deg.safetensors"
    with pytest.raises(error, match=sentence) as info:
        learn_degradation(own_pairs, (None, None), output, StageOptions(steps=1), network=False)
    assert "\n" not in str(info.value)
    assert not output.exists()
    assert not output.with_suffix(".md").exists()


@pytest.mark.parametrize(
    ("folder", "sections", "sentence"),
    [
        (
            None,
            (None, None),
            "Give either PAIRS, a folder with lq/ and hq/, or two sections by --lq and --hq",
        ),
        ("here", ("a.png", None), "Give either PAIRS"),
        ("here", ("a.png", "b.png"), "Give either PAIRS"),
        (None, ("a.png", None), "--lq alone is no pair; give the other section by --hq"),
        (None, (None, "a.png"), "--hq alone is no pair; give the other section by --lq"),
    ],
)
def test_pairs_are_given_in_one_way(folder: str | None, sections: Any, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        open_pairs(None if folder is None else Path(folder), *sections, 1)


def test_other_models_and_trained_networks_are_not_replaced(pairs: Path, tmp_path: Path) -> None:
    from bigrestore.model.nets.parts.learned_degradation import LearnedDegradation
    from bigrestore.model.nets.parts.part import save_part
    from bigrestore.model.nets.parts.ranking import RankingNet

    output = tmp_path / "model.safetensors"
    facts = {"halo_px": 0, "alignment_px": 1}
    for network, kind, sizes, sentence in (
        (RankingNet(), "ranking", {}, "a model of another kind"),
        (
            LearnedDegradation(1, 21, 1, network=True),
            "degradation",
            {"windows": 1, "kernel_px": 21, "scale": 1, "network": True},
            "holds a trained network, which a new fit would replace",
        ),
    ):
        save_part(output, network, kind, 1, {"sizes": sizes, **facts})
        before = output.read_bytes()
        with pytest.raises(OutputExistsError, match=sentence):
            learn_degradation(pairs, (None, None), output, StageOptions(steps=1), network=False)
        assert output.read_bytes() == before


FITS: dict[str, Any] = {}


def fitted_once(opened: Any, scale: int, where: str) -> Any:
    """Return the fit of pairs; those of one place are fitted once."""
    if where not in FITS:
        FITS[where] = fit_windows(register_pairs(opened, scale, where), scale)
    return FITS[where]


@pytest.fixture
def small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "register_pairs", fitted_once)
    monkeypatch.setattr(learning, "fit_windows", lambda fit, _: fit)
    monkeypatch.setattr(twins, "TWIN_PX", 48)
    monkeypatch.setattr(twins, "HELD_OUT_TWINS", 4)
    monkeypatch.setattr(degradation, "TRANSFERRED", 2)


@pytest.mark.usefixtures("small_network")
def test_a_network_trains_resumes_and_is_drawn(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, broken = tmp_path / "a" / "net.safetensors", tmp_path / "b" / "net.safetensors"
    options = StageOptions(steps=4, batch=2, threads=1, rate=1e-3)
    plan = attrs.evolve(degradation.DEGRADATION.plan, checkpoint_s=1e-9)
    monkeypatch.setattr(learning, "DEGRADATION", attrs.evolve(degradation.DEGRADATION, plan=plan))
    trained = learn_degradation(pairs, (None, None), straight, options, network=True).trained
    assert trained is not None
    assert {"same", "different", "partner", "transfer_real"} <= set(trained.figures)
    step = degradation.DegradationStage.step

    def stopped(self: Any, number: int, progress: float) -> Any:
        if number == 2:
            raise KeyboardInterrupt
        return step(self, number, progress)

    with monkeypatch.context() as patch:
        patch.setattr(degradation.DegradationStage, "step", stopped)
        with pytest.raises(KeyboardInterrupt):
            learn_degradation(pairs, (None, None), broken, options, network=True)
    assert load_learned(broken, 1).network is None  # the fit is there already
    resumed = attrs.evolve(options, resume=True)
    learn_degradation(pairs, (None, None), broken, resumed, network=True)
    (info, tensors), (_, others) = (read_weights(path) for path in (straight, broken))
    assert all(torch.equal(tensor, others[name]) for name, tensor in tensors.items())
    assert info["training"]["degradation"]["steps"] == 4
    assert info["training"]["degradation"]["recipe"] == "default"
    recipe = load_learned(straight, 1)
    drawn = recipe.draw(1, np.random.default_rng(0))
    assert drawn.synthesis is not None
    assert float(drawn.synthesis.code.norm()) == pytest.approx(1, abs=1e-3)
    with pytest.raises(OutputExistsError, match="holds a trained network"):
        learn_degradation(pairs, (None, None), straight, options, network=True)


@pytest.mark.usefixtures("small_network")
def test_a_training_of_other_pairs_is_not_resumed(pairs: Path, tmp_path: Path, own_pairs: Path) -> None:
    output = tmp_path / "net.safetensors"
    options = StageOptions(steps=1, batch=2, threads=1)
    learn_degradation(pairs, (None, None), output, options, network=True)
    other = write_pairs_folder(tmp_path / "mine", 5, gaussian(21, 2.0))
    with pytest.raises(UsageError, match=r"was started with other settings \(data was mine"):
        learn_degradation(other, (None, None), output, attrs.evolve(options, resume=True), network=True)


def test_windows_too_small_for_a_network_are_a_sentence(tmp_path: Path) -> None:
    folder = write_pairs_folder(tmp_path / "pairs", 4, None, side=72)
    output = tmp_path / "deg.safetensors"
    with pytest.raises(
        InputError, match="windows of 72 degraded px, and a network learns from 84 px or more"
    ):
        learn_degradation(folder, (None, None), output, StageOptions(steps=1), network=True)
    assert load_learned(output, 1).network is None


@pytest.mark.parametrize(
    ("words", "network", "minutes"),
    [
        ([], False, None),
        (["--minutes", "0"], False, None),
        (["--no-network", "--minutes", "0"], False, None),
        (["--minutes", "5"], True, 5.0),
        (["--network"], True, 60.0),
        (["--network", "--steps", "7"], True, None),
    ],
)
def test_a_network_is_trained_where_it_is_asked_for(
    words: list[str], network: bool, minutes: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def stand_in(*arguments: Any, **named: Any) -> Any:
        asked.update(named, options=arguments[3])
        raise UsageError("enough")

    monkeypatch.setattr(learning, "learn_degradation", stand_in)
    learned_by_command("pairs", "-o", tmp_path / "d.safetensors", *words)
    assert asked["network"] is network
    assert asked["options"].minutes == minutes

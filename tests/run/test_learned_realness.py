"""`--realness-map auto`: a trained head lowers realness place by place, the same for every cut, and fits one network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from engine_toys import level0, save_zarr
from PIL import Image
from prior_toys import go, model_file, network, objective_file

import bigrestore
from bigrestore.errors import BigrestoreError, OutputExistsError, UsageError
from bigrestore.model.nets.parts import part
from bigrestore.model.nets.restorer import Restorer
from bigrestore.model.nets.unet import UNet
from bigrestore.settings import RunSettings

Call = Callable[..., int]


@pytest.fixture
def image(tissue: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(tissue[:200, :500])


@pytest.fixture
def source(tmp_path: Path, image: np.ndarray) -> Path:
    return save_zarr(tmp_path / "in.zarr", image)


def auto(folder: Path, scale: int = 1, **head: Any) -> dict[str, Any]:
    model = model_file(folder, scale)
    file = str(objective_file(folder, model, scale, **head))
    return {"model": str(model), "scale": scale, "realness_map": "auto", "objective_model": file}


def factor(output: Path) -> np.ndarray:
    return np.asarray(zarr.open_array(output / "maps/realness/0", mode="r")[:])


def bytes_of(store: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((store / "0/c").rglob("*")) if p.is_file()}


@pytest.mark.parametrize("scale", [1, 2])
def test_image_and_map_do_not_depend_on_the_cut(tmp_path: Path, source: Path, scale: int) -> None:
    settings = auto(tmp_path, scale) | {"maps": "realness"}
    go(source, tmp_path / "tiled.zarr", **settings)
    go(source, tmp_path / "whole.zarr", **settings, tile_size=1920, block_size=1920)
    go(
        source,
        tmp_path / "part.zarr",
        **settings,
        roi=f"{16 * scale}:{180 * scale},{96 * scale}:{400 * scale}",
    )
    inside = np.s_[16 * scale : 180 * scale, 96 * scale : 400 * scale]
    for one, whole in (("tiled", np.s_[:]), ("part", inside)):
        apart = np.abs(
            level0(tmp_path / f"{one}.zarr").astype(int) - level0(tmp_path / "whole.zarr")[whole].astype(int)
        )
        assert apart.max() <= 1
        assert (apart == 0).mean() > 0.999
        shares = factor(tmp_path / f"{one}.zarr"), factor(tmp_path / "whole.zarr")[whole]
        assert np.abs(shares[0] - shares[1]).max() < 1e-3
    drawn = factor(tmp_path / "whole.zarr")
    assert drawn.shape == (200 * scale, 500 * scale)
    assert drawn.min() < 0.5 * drawn.max(), "the head says something else at every place"
    assert drawn.std() > 0.02


@pytest.mark.usefixtures("warm_children")
def test_two_workers_give_the_bytes_of_one(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = auto(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "auto").write_text("a file of this name is no map")
    settings["objective_model"] = Path(settings["objective_model"]).name
    go(source, tmp_path / "one.zarr", **settings)
    go(source, tmp_path / "two.zarr", **settings, workers=2)
    assert bytes_of(tmp_path / "one.zarr") == bytes_of(tmp_path / "two.zarr")


def test_at_realness_zero_nothing_changes(tmp_path: Path, source: Path) -> None:
    """Not even a head is looked for."""
    settings = auto(tmp_path)
    go(source, tmp_path / "plain.zarr", model=settings["model"], realness=0, maps="realness")
    go(source, tmp_path / "auto.zarr", **settings, realness=0, maps="realness")
    del settings["objective_model"]
    go(source, tmp_path / "none.zarr", **settings, realness=0)
    assert (
        bytes_of(tmp_path / "auto.zarr")
        == bytes_of(tmp_path / "plain.zarr")
        == bytes_of(tmp_path / "none.zarr")
    )
    assert not factor(tmp_path / "auto.zarr").any()


@pytest.fixture(scope="module")
def trust(tissue: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The map of a run at realness 0.8 without a head."""
    folder = tmp_path_factory.mktemp("plain")
    source = save_zarr(folder / "in.zarr", np.ascontiguousarray(tissue[:200, :500]))
    go(source, folder / "out.zarr", model=str(model_file(folder)), maps="realness,invented", realness=0.8)
    return factor(folder / "out.zarr")


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_share_is_multiplied_with_realness_and_trust(
    tmp_path: Path, source: Path, trust: np.ndarray, share: float
) -> None:
    settings = auto(tmp_path, share=share)
    go(source, tmp_path / "auto.zarr", **settings, realness=0.8, maps="realness,invented")
    plain = {"model": settings["model"], "maps": "realness,invented"}
    assert np.abs(factor(tmp_path / "auto.zarr") - share * trust).max() < 1e-3
    assert trust.max() > 0.3
    go(source, tmp_path / "same.zarr", **plain, realness=0.8 * share)
    apart = np.abs(level0(tmp_path / "auto.zarr").astype(int) - level0(tmp_path / "same.zarr").astype(int))
    assert apart.max() <= 1
    assert (apart == 0).mean() > 0.99


def test_the_unet_runs_once_a_tile_and_no_prior_where_nothing_is_trusted(
    tmp_path: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flat tile runs no prior, and has the pixels that it has beside tissue."""
    image[:, 200:] = 150
    source, settings = save_zarr(tmp_path / "half.zarr", image), auto(tmp_path)
    calls = {"unet": 0, "prior": 0}
    forward, detail = UNet.forward, Restorer.detail

    def counted(self: UNet, *given: Any) -> Any:
        calls["unet"] += 1
        return forward(self, *given)

    def drawn(self: Restorer, *given: Any) -> Any:
        calls["prior"] += 1
        return detail(self, *given)

    monkeypatch.setattr(UNet, "forward", counted)
    monkeypatch.setattr(Restorer, "detail", drawn)
    go(source, tmp_path / "tiled.zarr", **settings, tile_size=96, threads=1)
    assert calls["unet"] == 18
    assert 0 < calls["prior"] < 18
    go(source, tmp_path / "whole.zarr", **settings, tile_size=1920, block_size=1920)
    apart = np.abs(level0(tmp_path / "tiled.zarr").astype(int) - level0(tmp_path / "whole.zarr").astype(int))
    assert apart.max() <= 1
    assert (apart == 0).mean() > 0.999


@pytest.mark.parametrize("side", [(1, 1), (5, 9), (40, 17)])
def test_an_image_smaller_than_a_tile_is_restored(tmp_path: Path, side: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, side, np.uint8)
    settings = auto(tmp_path)
    go(save_zarr(tmp_path / "in.zarr", pixels), tmp_path / "out.zarr", **settings, maps="realness")
    assert level0(tmp_path / "out.zarr").shape == factor(tmp_path / "out.zarr").shape == side


def test_a_head_of_other_weights_is_another_run(tmp_path: Path, source: Path) -> None:
    settings, out = auto(tmp_path), tmp_path / "out.zarr"
    go(source, out, **settings)
    assert go(source, out, **settings, resume=True).blocks_restored == 0
    other = objective_file(tmp_path, Path(settings["model"]), share=0.3, name="other")
    with pytest.raises(OutputExistsError, match="--objective-model"):
        go(source, out, **settings | {"objective_model": str(other)}, resume=True)
    with pytest.raises(OutputExistsError, match=r"--realness-map \(auto then, none now\)"):
        go(source, out, model=settings["model"], realness=1.0, resume=True)
    with pytest.raises(OutputExistsError, match=r"--realness \("):
        go(source, out, **settings, realness=0.5, resume=True)
    made = zarr.open_group(out, mode="r").attrs["bigrestore"]
    assert made["settings"]["realness_map"] == "auto"
    assert made["method"]["objective"]["model"] == "head"
    assert len(made["method"]["objective"]["sha256"]) == 64


def test_a_method_handed_in_without_a_head_is_refused(tmp_path: Path, source: Path) -> None:
    with pytest.raises(UsageError, match="without a head of objectives"):
        go(source, tmp_path / "out.zarr", network(realness=1.0), realness_map="auto")
    assert not (tmp_path / "out.zarr").exists()


def test_toml_report_info_dry_run_and_python(
    tmp_path: Path, image: np.ndarray, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    source, settings = tmp_path / "in.png", auto(tmp_path)
    Image.fromarray(image).save(source)
    config, out = tmp_path / "run.toml", tmp_path / "out.ome.zarr"
    lines = [f"{name.replace('_', '-')} = {json.dumps(value)}" for name, value in settings.items()]
    config.write_text(
        "\n".join([*lines, 'mask = "none"', 'maps = "realness"', 'progress = "none"', 'precision = "fp32"'])
    )
    assert call("run", source, out, "--config", config, "--dry-run", "--json") == 0
    assert not out.exists()
    assert call("run", source, out, "--config", config, "-q") == 0
    assert call("verify", out) == 0
    assert (
        "realness 1 by the map of head"
        in (tmp_path / "out.ome.zarr.bigrestore/report/report.html").read_text()
    )
    capsys.readouterr()
    assert call("info", out) == 0
    assert "realness 1, by the map of head" in " ".join(capsys.readouterr().out.split())
    made = bigrestore.restore(image, **settings, mask="none", precision="fp32", progress="none")
    apart = np.abs(np.asarray(made).astype(int) - level0(out).astype(int))
    assert apart.max() <= 1


def test_variants_of_realness_follow_a_map(tmp_path: Path, source: Path) -> None:
    """`try` takes auto, and a drawn map, whose realness begins above 0."""
    settings = auto(tmp_path) | {"mask": "none", "precision": "fp32"}
    tried = bigrestore.try_variants(source, **settings, realness=[0, 1])
    plain = bigrestore.try_variants(
        source, model=settings["model"], mask="none", precision="fp32", realness=[0, 1]
    )
    images = [variant.image.astype(int) for variant in (*tried.variants, *plain.variants)]
    assert (images[0] == images[2]).all(), "at realness 0"
    assert np.abs(images[1] - images[3]).max() > 3, "at realness 1 the head takes some away"
    blank = save_zarr(tmp_path / "map.zarr", np.zeros((200, 500), np.float32))
    drawn = bigrestore.try_variants(
        source, model=settings["model"], mask="none", precision="fp32", realness_map=str(blank)
    )
    assert [variant.settings["realness"] for variant in drawn.variants] == [0.5, 1.0]
    assert all(np.abs(variant.image.astype(int) - images[2]).max() <= 1 for variant in drawn.variants)


REFUSED: list[tuple[list[str], int, str]] = [
    (
        ["--realness-map", "auto", "--model", "PRIOR"],
        2,
        "name a file of `bigrestore train objective` by --objective-model",
    ),
    (
        ["--realness-map", "auto", "--model", "OTHER", "--objective-model", "HEAD"],
        2,
        "other weights than nano-other",
    ),
    (
        ["--realness-map", "auto", "--model", "X2", "--scale", "2", "--objective-model", "HEAD"],
        2,
        "scale 1, not for 2",
    ),
    (
        ["--realness-map", "auto", "--model", "PRIOR", "--objective-model", "PRIOR"],
        2,
        "a restorer, and an objective",
    ),
    (
        ["--realness-map", "auto", "--model", "PRIOR", "--objective-model", "absent.safetensors"],
        3,
        "absent.safetensors",
    ),
    (["--realness-map", "auto", "--model", "BARE"], 2, "has no prior"),
    (["--realness-map", "auto", "--method", "wiener"], 2, "--realness-map needs a network"),
    (["--realness-map", "auto", "--method", "rational"], 2, "--realness-map needs a network"),
    (["--realness-map", "auto,map.png"], 2, "it takes auto or one file, not both"),
    (["--realness-map", "map.png, auto"], 2, "it takes auto or one file, not both"),
    (["--objective-model", "HEAD", "--model", "PRIOR"], 2, "nothing asks for it; give --realness-map auto"),
    (
        ["--objective-model", "HEAD", "--realness-map", "map.png"],
        2,
        "nothing asks for it; give --realness-map auto",
    ),
]


@pytest.mark.parametrize(("flags", "code", "said"), REFUSED)
def test_what_makes_no_sense_is_a_sentence(
    tmp_path: Path,
    image: np.ndarray,
    call: Call,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.setattr(part, "shipped_parts", dict)

    def other() -> Path:
        from prior_toys import HALOS, nano

        from bigrestore.model.nets.checkpoint import save_model

        restorer = nano()
        restorer.unet.grey[0].bias.data += 0.01
        save_model(tmp_path / "nano-other.safetensors", restorer, dict(HALOS), half=False)
        return tmp_path / "nano-other.safetensors"

    made = {
        "BARE": lambda: model_file(tmp_path, with_prior=False),
        "PRIOR": lambda: model_file(tmp_path),
        "X2": lambda: model_file(tmp_path, 2),
        "OTHER": other,
        "HEAD": lambda: objective_file(tmp_path, model_file(tmp_path)),
    }
    Image.fromarray(image).save(tmp_path / "in.png")
    words = [str(made[word]()) if word in made else word for word in flags]
    assert call("run", tmp_path / "in.png", tmp_path / "out.ome.zarr", *words) == code
    shown = " ".join(capsys.readouterr().err.split())
    assert said in shown
    assert "Traceback" not in shown
    assert not list(tmp_path.glob("out*"))


def test_settings_in_python_are_refused_alike() -> None:
    for given in (["auto", "map.png"], 5, "", True):
        with pytest.raises(BigrestoreError, match="--realness-map is"):
            RunSettings(realness_map=given)  # type: ignore[arg-type]
    assert RunSettings(realness_map="auto").realness == 1.0
    assert RunSettings(realness_map="auto", realness=0).realness == 0

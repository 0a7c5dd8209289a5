"""`~` is the home folder wherever a path is given: on the command line, in TOML, and in Python."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from PIL import Image

import bigrestore
from bigrestore.cli.app import app
from bigrestore.core.files import expand_home
from bigrestore.core.urls import local_path, parse_options
from bigrestore.errors import InputMissingError, UsageError
from bigrestore.io.open_section import open_section
from bigrestore.model.nets.checkpoint import find_model
from bigrestore.run.output.place import output_path
from bigrestore.settings import RunSettings, ScoreSettings
from bigrestore.settings.degrade import DegradeArguments, DegradeSettings
from bigrestore.settings.looking import (
    DoctorArguments,
    InfoArguments,
    ModelArguments,
    ModelCardArguments,
    ProfileArguments,
    StatusArguments,
    VerifyArguments,
)
from bigrestore.settings.option import option_of
from bigrestore.settings.run import RunArguments
from bigrestore.settings.score import FitArguments, ScoreArguments
from bigrestore.settings.train import AdaptArguments, AdaptOptions, StageOptions, TrainArguments

NO_PATHS = {
    "method",
    "device",
    "precision",
    "format",
    "scheduler",
    "cluster",
    "shard",
    "progress",
    "log_format",
}
NO_PATHS |= {"arch", "fail_if", "fusion", "engine", "preset", "storage_options"}
CLASSES: tuple[Any, ...] = (
    *(
        RunSettings,
        RunArguments,
        ScoreSettings,
        ScoreArguments,
        FitArguments,
        DegradeSettings,
        DegradeArguments,
    ),
    *(InfoArguments, ProfileArguments, StatusArguments, VerifyArguments, DoctorArguments, ModelArguments),
    *(ModelCardArguments, StageOptions, TrainArguments, AdaptOptions, AdaptArguments),
)
FIELDS = [
    (kind, field)
    for kind in CLASSES
    for field in attrs.fields(kind)
    if str(field.type).split(" |")[0] in ("str", "Path", "list[str]") and field.name not in NO_PATHS
]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "my").mkdir()
    pixels = np.random.default_rng(0).integers(60, 200, (200, 200), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "my" / "a.png")
    return tmp_path


@pytest.mark.parametrize(
    ("kind", "field"), FIELDS, ids=[f"{kind.__name__}.{field.name}" for kind, field in FIELDS]
)
def test_every_option_and_argument_with_a_path_knows_the_home_folder(
    kind: Any, field: Any, home: Path
) -> None:
    value: Any = "~/my/a.png"
    value = (
        Path(value) if str(field.type).startswith("Path") else [value] if "list" in str(field.type) else value
    )
    assert option_of(field).help
    converted = field.converter(value) if field.converter else value
    assert str(converted[0] if isinstance(converted, list) else converted) == str(home / "my" / "a.png")


def test_only_a_beginning_of_a_user_is_a_home(home: Path) -> None:
    assert expand_home("~") == str(home)
    assert expand_home("a~b.tif") == "a~b.tif"
    assert expand_home("~no-such-user-here/a.tif") == "~no-such-user-here/a.tif"
    assert expand_home(["~/a", Path("~/b")]) == [f"{home}/a", home / "b"]
    assert expand_home(None) is None


def test_python_knows_the_home_folder(home: Path) -> None:
    assert open_section("~/my/a.png").shape == (1, 200, 200)
    assert open_section(Path("~/my/a.png")).shape == (1, 200, 200)
    assert open_section(["~/my/a.png"]).shape == (1, 200, 200)
    assert open_section("~/my/*.png").shape == (1, 200, 200)
    assert output_path("~/my/out.ome.zarr") == home / "my" / "out.ome.zarr"
    assert local_path("~/my/out.ome.zarr", "status") == home / "my" / "out.ome.zarr"
    with pytest.raises(InputMissingError, match=rf"no model file {home}/none\.safetensors"):
        find_model("~/none.safetensors", 1)


def test_keys_of_a_server_lie_in_the_home_folder(home: Path) -> None:
    (home / "keys.json").write_text('{"anon": true}')
    assert parse_options("@~/keys.json") == {"anon": True}


def test_toml_knows_the_home_folder(home: Path) -> None:
    (home / "run.toml").write_text(
        '[run]\nmask = "~/my/a.png"\nmodel = "~/m.safetensors"\nstage = "~/stage"\n'
    )
    settings = RunSettings.resolve({}, home / "run.toml")
    assert settings.mask == str(home / "my" / "a.png")
    assert (settings.model, settings.stage) == (str(home / "m.safetensors"), str(home / "stage"))


def test_commands_know_the_home_folder(
    home: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert app is not None
    assert call("info", "~/my/a.png", "--json") == 0
    assert json.loads(capsys.readouterr().out)["shape_zyx"] == [1, 200, 200]


@pytest.mark.slow
def test_a_run_goes_from_home_to_home(home: Path) -> None:
    options: dict[str, Any] = {"method": "rational", "progress": "none"}
    bigrestore.restore("~/my/a.png", "~/my/out.ome.zarr", report=False, **options)
    assert (home / "my" / "out.ome.zarr" / "zarr.json").is_file()
    with pytest.raises(UsageError):
        bigrestore.score("~/my/out.ome.zarr", "~/scores", tile_size=480)
    bigrestore.score("~/my/out.ome.zarr", "~/scores", before="~/my/a.png", tile_size=96, progress="none")
    assert (home / "scores" / "report.html").is_file()
    bigrestore.degrade("~/my/a.png", "~/pairs", count=1, patch_px=32, progress="none")
    assert (home / "pairs" / "pairs.parquet").is_file()


@pytest.mark.parametrize(
    "words",
    [
        ("info", ""),
        ("run", "", "out.ome.zarr"),
        ("run", "in.png", ""),
        ("score", "in.png", "-o", ""),
        ("score", "in.png", "--before=", "-o", "s"),
        ("adapt", "in.png", "", "-o", "m.safetensors"),
    ],
    ids=str,
)
def test_an_empty_word_is_not_the_current_folder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((120, 120), np.uint8)).save("in.png")
    assert call(*words) == 2
    assert "is empty, as of a shell variable that is not set" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in.png"]


@pytest.mark.parametrize("given", ["", ["", "a.png"], ("a.png", "")])
def test_python_refuses_an_empty_path(given: Any) -> None:
    with pytest.raises(UsageError, match="a path is empty"):
        open_section(given)
    with pytest.raises(UsageError, match="a path is empty"):
        bigrestore.restore(given, "out.zarr", method="rational")
    with pytest.raises(UsageError, match="a path is empty"):
        bigrestore.score(given)

"""Options of methods and methods of other packages: read, checked, named in sentences, and part of a run's identity."""

from __future__ import annotations

import importlib
import json
import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

import bigrestore
from bigrestore.cli.app import app
from bigrestore.core.words import shown
from bigrestore.errors import OutputExistsError, UsageError
from bigrestore.model.methods.interpolate import InterpolateMethod
from bigrestore.model.methods.table import METHODS
from bigrestore.model.options import MethodOption, read_options
from bigrestore.model.registry import create_method, find_factory, list_methods
from bigrestore.settings import RunSettings

OPTIONS = (
    MethodOption("amount", float, 1.0, "Strength.", "a number from 0 to 10", lambda value: 0 <= value <= 10),
    MethodOption("rounds", int, 2, "Repetitions.", "a whole number above 0", lambda value: value > 0),
    MethodOption("keep", bool, False, "Whether the mean stays.", "true or false"),
    MethodOption(
        "mode", str, "nearest", "Border.", "nearest or mirror", lambda v: v in ("nearest", "mirror")
    ),
)

MODULE = """
from bigrestore.model.methods.interpolate import InterpolateMethod
from bigrestore.model.method import MethodFactory
from bigrestore.model.options import MethodOption

def create(settings, *, gain):
    if gain == 3:
        raise RuntimeError("no such gain")
    return object() if gain == 2 else InterpolateMethod("rational", 2 if gain == 4 else settings.scale)

FACTORY = MethodFactory(
    create, "Doubles.", options=(MethodOption("gain", float, 1.0, "Factor.", "a number"),), scales=(1, 2)
)
PLAIN = create
"""


def install(folder: Path, name: str, points: str, module: str = MODULE, version: str = "0.3") -> None:
    """Write a package with entry points as an installer would leave it."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[bigrestore.methods]\n{points}\n")
    (folder / f"{name}.py").write_text(module)


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


def test_texts_of_the_command_line_become_the_types_of_the_options() -> None:
    texts = {"amount": "2", "rounds": "3", "keep": "true", "mode": "mirror"}
    values = read_options(OPTIONS, texts, "toy")
    assert values == {"amount": 2.0, "rounds": 3, "keep": True, "mode": "mirror"}
    assert [type(value) for value in values.values()] == [float, int, bool, str]
    assert read_options(OPTIONS, None, "toy") == {
        "amount": 1.0,
        "rounds": 2,
        "keep": False,
        "mode": "nearest",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("amount", "11"),
        ("amount", "x"),
        ("amount", "nan"),
        ("amount", True),
        ("rounds", 1.5),
        ("rounds", "1.5"),
        ("rounds", 0),
        ("rounds", True),
        ("keep", "yes"),
        ("keep", 1),
        ("mode", "wrap"),
        ("mode", 5),
    ],
)
def test_a_wrong_value_is_a_sentence_with_option_value_and_what_it_takes(name: str, value: Any) -> None:
    takes = next(option.takes for option in OPTIONS if option.name == name)
    with pytest.raises(UsageError) as info:
        read_options(OPTIONS, {name: value}, "toy")
    assert str(info.value) == f"--set {name} is {shown(value)}; --method toy takes {takes}."


@pytest.mark.parametrize("given", [2, "2"])
def test_an_option_of_numbers_and_words_takes_a_number(given: object) -> None:
    """As Python and a TOML table give it."""
    method = create_method(RunSettings(method="gddec", options={"steps": given}))
    assert method.describe()["descent"]["steps"] == 2
    with pytest.raises(UsageError, match="steps is 9000"):
        create_method(RunSettings(method="gddec", options={"steps": 9000}))


def test_an_unknown_option_is_a_sentence_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match="toy has no option 'amonut'; choose amount, rounds, keep or mode"):
        read_options(OPTIONS, {"amonut": 1}, "toy")
    with pytest.raises(UsageError, match="rational has no option 'amount'; it takes no options"):
        create_method(RunSettings(method="rational", options={"amount": 1}))


@pytest.mark.parametrize(
    "wrong", [{"name": "name"}, {"name": "Big-One"}, {"type": list, "default": []}, {"default": -1.0}]
)
def test_an_option_that_contradicts_itself_is_refused(wrong: dict[str, Any]) -> None:
    good: dict[str, Any] = {"name": "a", "type": float, "default": 1.0, "help": "A.", "takes": "a number"}
    with pytest.raises(ValueError, match="option"):
        MethodOption(**good | {"check": lambda value: value > 0} | wrong)


def test_options_come_from_flags_a_table_and_python(tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text('scale = 2\n[method]\nname = "toy"\namount = 1.5\nsharp-edges = true\n')
    flags = {"options": ["amount=2", "mode=a=b"]}
    settings = RunSettings.resolve(flags, config)
    assert (settings.method, settings.scale) == ("toy", 2)
    assert settings.options == {"amount": "2", "sharp_edges": True, "mode": "a=b"}
    config.write_text('[run]\nmethod = "toy"\n[method]\namount = 1.5\n')
    assert RunSettings.resolve({}, config).options == {"amount": 1.5}
    config.write_text('[run]\nmethod = "toy"\n[method]\nname = "other"\n')
    with pytest.raises(UsageError, match="'method' besides"):
        RunSettings.resolve({}, config)
    assert RunSettings(options={"amount": np.float32(1.5)}).options == {"amount": 1.5}


@pytest.mark.parametrize("options", [["amount"], {"amount": [1]}, {5: 1}, {"": 1}, "amount=1"])
def test_options_of_another_form_are_refused(options: Any) -> None:
    with pytest.raises(UsageError, match="--set"):
        RunSettings(options=options)


def test_a_method_of_another_package_is_found_listed_and_made(foreign: Path) -> None:
    install(foreign, "doubles", "doubles = doubles:FACTORY")
    method = create_method(RunSettings(method="doubles", scale=2))
    assert (method.name, method.scale) == ("rational", 2)
    listed = {entry.name: entry for entry in list_methods()}
    assert list(listed) == [*METHODS, "doubles"]
    assert listed["doubles"].package == "doubles 0.3"
    shown = CliRunner().invoke(app, ["models", "methods"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    assert all(word in shown.output for word in ("doubles 0.3", "gain", "Factor.", "catmull-rom"))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"options": {"gain": 2}}, "is of the type object and has no name, scale"),
        ({"options": {"gain": 3}}, r"cannot be made \(RuntimeError: no such gain\)"),
        ({"options": {"gain": 4}}, "--scale is 1, but the method 'doubles' has the scale 2"),
        ({"scale": 4}, "--scale is 4, and --method doubles restores at 1 or 2"),
        ({"model": "tiny"}, "--model means nothing to --method doubles"),
        ({"device": "cuda"}, "runs on the CPU"),
    ],
)
def test_what_a_foreign_method_does_wrong_is_a_sentence(
    foreign: Path, change: dict[str, Any], match: str
) -> None:
    install(foreign, "doubles", "doubles = doubles:FACTORY")
    with pytest.raises(UsageError, match=match):
        create_method(RunSettings(method="doubles", **change))


@pytest.mark.parametrize(
    ("points", "module", "match"),
    [
        ("doubles = doubles:FACTORY", "import nowhere_at_all", "ModuleNotFoundError: No module named"),
        ("doubles = doubles:FACTORY", "1 / 0", "ZeroDivisionError"),
        ("doubles = doubles:NONE", MODULE, "AttributeError"),
        ("doubles = doubles:PLAIN", MODULE, "is of the type function and no MethodFactory"),
    ],
)
def test_a_broken_package_is_a_sentence_and_stops_no_other_method(
    foreign: Path, points: str, module: str, match: str
) -> None:
    name = f"broken{abs(hash(match + points)) % 10**8}"
    install(foreign, name, points.replace("doubles:", f"{name}:"), module)
    with pytest.raises(UsageError, match=match) as info:
        find_factory("doubles")
    assert f"{name} 0.3" in str(info.value)
    assert find_factory("rational") is METHODS["rational"]
    problems = {entry.name: entry.problem for entry in list_methods()}
    assert problems["doubles"] == str(info.value)
    assert CliRunner().invoke(app, ["models", "methods"]).exit_code == 0


def test_a_name_of_two_methods_is_refused(foreign: Path) -> None:
    install(foreign, "mine", "rational = mine:FACTORY\nsame = mine:FACTORY")
    install(foreign, "other", "same = mine:FACTORY")
    with pytest.raises(UsageError, match=r"mine 0\.3 brings a method 'rational', the name of a built-in one"):
        create_method(RunSettings(method="rational"))
    with pytest.raises(UsageError, match=r"'same' is brought by mine 0\.3 and other 0\.3"):
        create_method(RunSettings(method="same"))
    assert create_method(RunSettings(method="catmull-rom")).name == "catmull-rom"


def test_a_run_resumes_only_under_the_same_options(foreign: Path, tmp_path: Path) -> None:
    install(foreign, "doubles", "doubles = doubles:FACTORY")
    source, output = tmp_path / "in.tif", tmp_path / "out.ome.zarr"
    tifffile.imwrite(source, np.random.default_rng(0).integers(0, 255, (96, 96)).astype(np.uint8))
    asked: dict[str, Any] = {"mask": "none", "progress": "none", "report": False, "voxel_size": 1}
    bigrestore.restore(source, output, method="doubles", options={"gain": 1.5}, **asked)
    bigrestore.restore(source, output, method="doubles", options={"gain": "1.50"}, resume=True, **asked)
    with pytest.raises(OutputExistsError, match=r"--set \(gain=1\.5 then, gain=1\.0 now\)"):
        bigrestore.restore(source, output, method="doubles", resume=True, **asked)
    said = json.loads((output / "zarr.json").read_text())["attributes"]["bigrestore"]["method"]
    assert (said["options"], said["package"]) == ({"gain": 1.5}, "doubles 0.3")
    install(foreign, "doubles", "doubles = doubles:FACTORY", version="0.4")
    shutil.rmtree(foreign / "doubles-0.3.dist-info")
    importlib.invalidate_caches()
    with pytest.raises(
        OutputExistsError, match=r"the method's package \(doubles 0\.3 then, doubles 0\.4 now\)"
    ):
        bigrestore.restore(source, output, method="doubles", options={"gain": 1.5}, resume=True, **asked)


def test_no_package_is_loaded_unless_its_method_is_asked_for(foreign: Path) -> None:
    install(foreign, "trap", "trap = trap:FACTORY", "raise SystemExit('loaded')")
    create_method(RunSettings(method="rational"))
    with pytest.raises(UsageError, match=r"choose network, rational, catmull-rom, .*, median or trap"):
        create_method(RunSettings(method="magic"))


def test_an_object_is_a_method_too_and_its_settings_are_its_own(tmp_path: Path) -> None:
    source = tmp_path / "in.tif"
    pixels = np.random.default_rng(0).integers(0, 255, (96, 96)).astype(np.uint8)
    tifffile.imwrite(source, pixels)
    asked: dict[str, Any] = {"mask": "none", "progress": "none", "report": False, "voxel_size": 1}
    method = InterpolateMethod("catmull-rom", 2)
    bigrestore.restore(source, tmp_path / "object.ome.zarr", method=method, **asked)
    bigrestore.restore(source, tmp_path / "name.ome.zarr", method="catmull-rom", scale=2, **asked)
    written = [
        np.asarray(bigrestore.open_section(tmp_path / f"{name}.ome.zarr").data) for name in ("object", "name")
    ]
    assert written[0].shape[-2:] == (192, 192)
    assert (written[0] == written[1]).all()
    for more, match in (
        ({"realness": 0.5}, "realness means nothing to a method that is handed in"),
        ({"options": {"a": 1}}, "options means nothing"),
        ({"scale": 4}, "has the scale 2"),
        ({"workers": 2}, "Workers make the method anew from its name"),
    ):
        with pytest.raises(UsageError, match=match):
            bigrestore.restore(source, tmp_path / "no.ome.zarr", method=method, **asked | more)
    with pytest.raises(UsageError, match="The method is of the type int and has no name"):
        bigrestore.restore(source, tmp_path / "no.ome.zarr", method=5, **asked)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"halo_px": 3, "alignment_px": 2}, "a halo of 3 and an alignment of 2"),
        ({"scale": Fraction(1, 2)}, "has the scale 1/2"),
        ({"describe": lambda: {"kernel": np.ones(3)}}, "facts that JSON does not know"),
    ],
)
def test_an_object_that_breaks_the_protocol_is_refused(
    wrong: dict[str, Any], match: str, tmp_path: Path
) -> None:
    class Broken:
        name, scale, halo_px, alignment_px, exact = "broken", 1, 4, 2, True
        describe = analyse = restore = staticmethod(dict)

    method: Any = Broken()
    for name, value in wrong.items():
        setattr(method, name, value)
    with pytest.raises(UsageError, match=match):
        bigrestore.restore("nowhere.tif", tmp_path / "no.ome.zarr", method=method)

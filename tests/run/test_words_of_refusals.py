"""Refusals speak as people write: no lists, None or True of Python; and a resumed run names the option that differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import bigrestore
from bigrestore.core.words import either, shown
from bigrestore.errors import OutputExistsError, UsageError
from bigrestore.run.output.place import require_folder_name
from bigrestore.run.state.fingerprint import require_same_run
from bigrestore.settings import RunSettings

BEGUN: dict[str, Any] = {
    "settings.method": "network",
    "settings.scale": 1,
    "settings.seed": 0,
    "method.name": "network",
    "method.model": "tiny-x1",
    "method.sha256": "a",
    "method.preset": "tiny",
    "method.scale": 1,
    "method.seed": 0,
    "method.halo_px": 160,
    "method.realness": 0.2,
    "method.kernel": "estimated",
    "method.device": "cpu",
    "plan.tile_px": 960,
}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "none"),
        (True, "true"),
        (("foo",), "'foo'"),
        (["foo", "bar"], "'foo', 'bar'"),
        ((1, 2.5), "1,2.5"),
        (((0, 5), (1, 2)), "0:5,1:2"),
        ({"a": (1, 2), "b": None}, "a=1,2, b=none"),
        ([], "an empty list"),
        ({}, "an empty table"),
        (Path("x"), "of the type PosixPath"),
        ([Path("x")], "a PosixPath"),
        ("two\nlines", "'two\\nlines'"),
    ],
)
def test_a_value_is_shown_as_people_write_it(value: object, words: str) -> None:
    assert shown(value) == words


@pytest.mark.parametrize(
    ("choices", "words"), [((), ""), (("a",), "a"), ((1, 2), "1 or 2"), ("abc", "a, b or c")]
)
def test_choices_are_listed_as_in_a_sentence(choices: Any, words: str) -> None:
    assert either(choices) == words


@pytest.mark.parametrize(
    "settings",
    [
        {"maps": "foo"},
        {"options": ["foo"]},
        {"options": {"a": [1, 2]}},
        {"scale": None},
        {"lock": None},
        {"threads": True},
        {"blur": [1, 2]},
        {"voxel_size": ()},
        {"shard": [1, 2]},
        {"mask": Path("x").parts},
        {"cluster": ["slurm"]},
    ],
    ids=str,
)
def test_a_refused_setting_has_no_python_in_its_sentence(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as info:
        RunSettings.from_mapping(settings, "restore()")
    assert not any(sign in str(info.value) for sign in ("[", "(1", "('", "{", "None", "True", "Posix"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"method.realness": 0, "method.halo_px": 96}, "--realness (0.2 then, 0 now)"),
        (
            {"settings.method": "wiener", "method.name": "wiener", "method.halo_px": 144},
            "--method (network then, wiener now)",
        ),
        (
            {"method.model": "mine", "method.sha256": "b", "method.realness": 0, "method.halo_px": 96},
            "--model (tiny-x1 then, mine now)",
        ),
        (
            {"settings.scale": 2, "method.scale": 2, "method.model": "tiny-x2", "method.sha256": "b"},
            "--scale (1 then, 2 now)",
        ),
        ({"settings.seed": 3, "method.seed": 3}, "--seed (0 then, 3 now)"),
        ({"method.kernel": "given, sha256 0123"}, "--kernel (estimated then, given now)"),
        ({"method.device": "cuda"}, "--device (cpu then, cuda now)"),
        ({"method.sha256": "b", "method.halo_px": 96}, "the model or its kernel"),
        ({"method.halo_px": 96}, "the method's halo px (160 then, 96 now)"),
    ],
    ids=str,
)
def test_a_resumed_run_names_the_option_that_differs(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(OutputExistsError) as info:
        require_same_run(BEGUN, BEGUN | changes, Path("o.zarr"))
    assert f"was begun otherwise: {words}; resume it" in str(info.value)


@pytest.mark.parametrize("inputs", [[[1, 2], [3, 4]], [1, 2], ((0.5,), (1.0,))])
def test_a_list_of_numbers_is_told_to_be_an_array(tmp_path: Path, inputs: Any) -> None:
    for output in (None, tmp_path / "o.zarr"):
        with pytest.raises(UsageError, match=r"a list of numbers; make it an array by numpy\.asarray"):
            bigrestore.restore(inputs, output)


def test_an_empty_list_is_called_empty(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="The input is empty; give a path"):
        bigrestore.restore([], tmp_path / "o.zarr")


@pytest.mark.parametrize("name", ["r.html", "r.json", "r.parquet", "r.png", "r.ome.zarr"])
def test_a_folder_is_not_named_as_a_file(tmp_path: Path, name: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((64, 64), np.uint8))
    with pytest.raises(UsageError, match=rf"-o is .*{name}, the name of a file, .*; name one, such as "):
        bigrestore.score(tmp_path / "a.tif", tmp_path / name, progress="none", tile_size=96)
    with pytest.raises(UsageError, match=rf"OUTDIR is .*{name}, the name of a file"):
        bigrestore.degrade(tmp_path / "a.tif", tmp_path / name, count=1, patch_px=16, progress="none")
    (tmp_path / name).mkdir()
    require_folder_name(tmp_path / name, "-o", "reports")

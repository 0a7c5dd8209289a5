"""Absurd settings are answered by a sentence with the flag, its value and what it takes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from engine_toys import Fir

from bigrestore.errors import InputMissingError, UsageError
from bigrestore.model.registry import create_method
from bigrestore.settings import RunSettings, ScoreSettings
from bigrestore.settings.reading import load_config
from bigrestore.settings.values import parse_roi, parse_voxel_size


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scale", 3),
        ("scale", True),
        ("realness", math.nan),
        ("realness", -0.1),
        ("realness", 1.5),
        ("tile_size", 0),
        ("tile_size", -480),
        ("tile_size", 10**9),
        ("overlap", 7),
        ("overlap", -2),
        ("block_size", 1000),
        ("block_size", 0),
        ("batch_size", 0),
        ("threads", 0),
        ("level", -1),
        ("seed", -1),
        ("device", "tpu"),
        ("precision", "fp8"),
        ("format", "png"),
        ("progress", "loud"),
        ("log_format", "xml"),
        ("voxel_size", (1.0, -2.0, 3.0)),
        ("voxel_size", (math.nan, 2.0, 3.0)),
        ("input_range", (1.0, 1.0)),
        ("input_range", (0.0, math.inf)),
        ("input_range", 5),
        ("input_range", ["a", "b"]),
        ("input_range", (True, 5)),
        ("voxel_size", ["a", 1]),
        ("voxel_size", True),
        ("voxel_size", ()),
        ("voxel_size", (1, 2, 3, 4)),
        ("voxel_size", 10**400),
        ("overwrite", "false"),
        ("resume", 1),
        ("lock", "no"),
        ("deterministic", None),
        ("mask", 5),
        ("mask", ""),
        ("mask", np.zeros((3, 3), np.uint8)),
        ("kernel", np.zeros((3, 3), np.float32)),
        ("model", 7),
        ("method", 5),
        ("progress", ["a"]),
        ("scale", 2.0),
        ("scale", np.zeros(3)),
        ("realness", True),
        ("device", "cuda:-1"),
        ("device", "cuda:"),
        ("device", "cuda:01"),
        ("device", 1),
        ("roi", 5),
        ("roi", [0, 10]),
        ("roi", (None, (-5, 10), (0, 10))),
        ("roi", (None, (10, 5), (0, 10))),
        ("roi", (None, (0, 10), (0, 10.5))),
        ("roi", ((0, 1), None, (0, 10))),
        ("roi", np.zeros((3, 2), int)),
        ("blur", -0.1),
        ("blur", "wide"),
        ("blur", "0.6,0.4"),
        ("blur", "0.6,-0.4,0"),
        ("blur", math.nan),
        ("blur", "nan"),
        ("blur", (0.6, 0.4, math.inf)),
        ("blur", True),
        ("blur", ()),
        ("blur", ["0.6"]),
        ("noise", -1),
        ("noise", 64.5),
        ("noise", math.nan),
        ("noise", "3"),
        ("noise", True),
        ("report", "yes"),
        ("report_sample", 0),
        ("fail_if", ""),
    ],
)
def test_absurd_values_are_refused_with_flag_and_value(name: str, value: Any) -> None:
    with pytest.raises(UsageError) as info:
        RunSettings(**{name: value})
    message = str(info.value)
    assert "--" + name.replace("_", "-") in message
    assert message.endswith(".")
    assert info.value.exit_code == 2
    assert "(None, " not in message, "what was not given is not repeated"
    assert "array(" not in message
    assert len(message) < 300


@pytest.mark.parametrize("kind", [RunSettings, ScoreSettings])
def test_every_setting_refuses_what_is_of_another_type(kind: type[RunSettings | ScoreSettings]) -> None:
    for field in attrs.fields(kind):
        table = {1: "no name"} if field.name in ("storage_options", "options") else {"a": 1}
        flag = "--set" if field.name == "options" else "--" + field.name.replace("_", "-")
        for value in (object(), table, b"bytes"):
            with pytest.raises(UsageError, match=flag):
                kind(**{field.name: value})


def test_numbers_of_numpy_are_numbers() -> None:
    found = RunSettings(
        scale=np.int64(2),
        seed=np.uint8(3),
        realness=np.float32(0.5),
        input_range=[np.uint16(0), np.float64(5)],
    )
    assert (found.scale, found.seed, found.realness, found.input_range) == (2, 3, 0.5, (0, 5.0))
    assert type(found.scale) is int
    score = ScoreSettings(sample=np.int64(7), tile_size=np.int32(96), metrics=["niqe"])
    assert (score.sample, score.tile_size, score.metrics) == (7, 96, ("niqe",))
    assert RunSettings(roi=[[0, 10], [np.int32(2), 5]]).roi == (None, (0, 10), (2, 5))


def test_a_blur_is_one_sigma_or_two_and_an_angle() -> None:
    for value in (0.6, "0.6", [0.6], np.float64(0.6), (0.6, 0.6, 45)):
        assert RunSettings(blur=value).blur == (0.6, 0.6, 0.0)  # type: ignore[arg-type]
    for value in ("0.6, 0.4, 210", [0.6, 0.4, 30], (0.6, np.float64(0.4), -150)):
        assert RunSettings(blur=value).blur == (0.6, 0.4, 30.0)  # type: ignore[arg-type]
    assert RunSettings(noise=np.float32(3)).noise == 3
    with pytest.raises(UsageError, match="--blur and --kernel"):
        RunSettings(blur=(0.6, 0.6, 0.0), kernel="k.npy")


def test_blur_and_noise_are_facts_only_where_they_are_given() -> None:
    facts = RunSettings().pixel_facts()
    assert not {"blur", "noise"} & facts.keys()
    given = RunSettings(blur=(0.6, 0.4, 30.0), noise=0.0).pixel_facts()
    assert given == facts | {"blur": [0.6, 0.4, 30.0], "noise": 0.0}


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:1", "cuda:12", "mps"])
def test_a_gpu_may_be_named_by_its_number(device: str) -> None:
    assert RunSettings(device=device).device == device


@pytest.mark.parametrize("text", ["", "1:2", "5:5,0:1", "3:1,0:1", "-1:4,0:1", "a:b,0:1", "0:1,0:1,0:1,0:1"])
def test_a_region_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--roi"):
        parse_roi(text)


def test_regions_and_voxel_sizes_are_read() -> None:
    assert parse_roi("1:2,3:4") == (None, (1, 2), (3, 4))
    assert parse_roi("0:1,1:2,3:4") == ((0, 1), (1, 2), (3, 4))
    assert parse_voxel_size("10") == (None, 10.0, 10.0)
    assert parse_voxel_size("20,10,11") == (20.0, 10.0, 11.0)
    assert RunSettings(voxel_size=2).voxel_size == (None, 2.0, 2.0)
    with pytest.raises(UsageError, match="--voxel-size"):
        parse_voxel_size("big")


@pytest.mark.parametrize(("device", "expected"), [("cuda:1", "cuda:1"), ("auto", "cuda"), ("cuda", "cuda")])
def test_tiles_are_planned_for_the_gpu_that_was_asked_for(
    device: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from bigrestore.run.plan import _tile_memory

    class OnGpu(Fir):
        def describe(self) -> dict[str, Any]:
            return super().describe() | {"device": "cuda"}

    asked: list[str] = []

    def free_and_total(device: torch.device) -> tuple[int, int]:
        asked.append(str(device))
        return 14, 100

    monkeypatch.setattr(torch.cuda, "mem_get_info", free_and_total)
    for held in ("memory_reserved", "memory_allocated"):
        monkeypatch.setattr(torch.cuda, held, lambda _: 0)
    assert _tile_memory(OnGpu(), device, 1, 1) == 7, "half of what is free"
    assert asked == [expected]


def test_flags_override_the_configuration_and_it_the_defaults(tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text('[run]\nscale = 2\ntile-size = 512\nroi = "0:5,0:5"\ninput_range = [0, 4095]\n')
    found = RunSettings.resolve({"scale": 4, "seed": None}, config)
    assert (found.scale, found.tile_size, found.seed) == (4, 512, 0)
    assert found.roi == (None, (0, 5), (0, 5))
    assert found.input_range == (0, 4095)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("tile_siz = 3", "tile_siz"),
        ("scale = ", "TOML"),
        ("run = 1", "table"),
        ('overwrite = "false"', "--overwrite"),
        ("roi = [0, 10]", "--roi"),
        ("tile-size = 96\ntile_size = 480", "twice"),
        ("scale = 2\n[run]\nseed = 1", "outside"),
    ],
)
def test_a_bad_configuration_is_a_sentence(tmp_path: Path, text: str, match: str) -> None:
    config = tmp_path / "run.toml"
    config.write_text(text)
    with pytest.raises(UsageError, match=match):
        RunSettings.resolve({}, config)
    with pytest.raises(InputMissingError, match="does not exist"):
        load_config(tmp_path / "none.toml")


def test_what_changes_pixels_changes_the_facts_and_nothing_else_does() -> None:
    facts = RunSettings().pixel_facts()
    for change in ({"scale": 2}, {"seed": 1}, {"lock": False}, {"roi": "0:5,0:5"}, {"level": 1}):
        assert RunSettings(**change).pixel_facts() != facts  # type: ignore[arg-type]
    same = RunSettings(resume=True, threads=3, progress="none", log_format="json")
    assert same.pixel_facts() == facts
    names = {field.name for field in attrs.fields(RunSettings)}
    assert facts.keys() <= names


@pytest.mark.parametrize(
    "change",
    [
        {"model": "tiny"},
        {"realness": 0.5},
        {"kernel": "k.npy"},
        {"blur": 0},
        {"noise": 0},
        {"device": "cuda"},
        {"precision": "bf16"},
    ],
)
def test_flags_that_mean_nothing_to_an_interpolation_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        create_method(RunSettings(method="rational", **change))


def test_resume_and_overwrite_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="exclude"):
        RunSettings(resume=True, overwrite=True)
    with pytest.raises(UsageError, match="choose network, rational, catmull-rom"):
        create_method(RunSettings(method="magic"))

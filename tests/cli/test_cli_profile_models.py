"""`profile -o` and `models`: an input is never written over, and every command can say more."""

from __future__ import annotations

import errno
import json
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from bigrestore.cli.models import models_app
from bigrestore.cli.profile import profile
from bigrestore.errors import DiskFullError, OutputError, OutputExistsError, UsageError
from bigrestore.model.nets.parts.part import PART_KINDS, shipped_parts

app = typer.Typer()
app.command()(profile)


@pytest.fixture
def section(tmp_path: Path) -> Path:
    path = tmp_path / "section.png"
    noise = np.random.default_rng(0).integers(60, 220, (160, 160)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    return path


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, [*map(str, arguments), "--method", "catmull-rom"])


@pytest.mark.parametrize("way", ["same", "dotted", "link", "hard link"])
@pytest.mark.parametrize("flags", [(), ("--overwrite",)])
def test_a_profile_is_never_written_over_its_input(section: Path, way: str, flags: tuple[str, ...]) -> None:
    before = section.read_bytes()
    output = section if way == "same" else section.with_name("other.png")
    if way == "dotted":
        (section.parent / "sub").mkdir()
        output = section.parent / "sub" / ".." / "section.png"
    if way == "link":
        output.symlink_to(section)
    if way == "hard link":
        os.link(section, output)
    result = invoke(section, "-o", output, *flags)
    assert isinstance(result.exception, OutputError)
    assert result.exception.exit_code == 4
    assert "input" in str(result.exception)
    assert section.read_bytes() == before


def test_only_a_profile_is_replaced_without_asking(section: Path) -> None:
    output = section.with_name("notes.json")
    output.write_text('{"mine": 1}')
    result = invoke(section, "-o", output)
    assert isinstance(result.exception, OutputExistsError)
    assert "--overwrite" in str(result.exception)
    assert output.read_text() == '{"mine": 1}'
    assert invoke(section, "-o", output, "--overwrite").exit_code == 0
    first = output.read_text()
    assert "kernel" in json.loads(first)
    assert invoke(section, "-o", output).exit_code == 0
    assert output.read_text() == first


def test_a_place_that_takes_no_profile_is_refused_with_4(
    section: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (section.parent / "file").write_text("in the way")
    for place in (section.parent / "file" / "p.json", section.parent / "nowhere" / "p.json", section.parent):
        error = invoke(section, "-o", place).exception
        assert isinstance(error, OutputError)
        assert error.exit_code == 4

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    output = section.with_name("p.json")
    assert invoke(section, "-o", output).exit_code == 0
    before = output.read_text()
    monkeypatch.setattr(Path, "write_text", full)
    assert isinstance(invoke(section, "-o", output).exception, DiskFullError)
    assert output.read_text() == before, "a full disk costs no profile of before"
    assert not list(section.parent.glob("*.partial"))


@pytest.mark.parametrize("command", ["list", "path", "show", "verify"])
def test_every_command_of_models_takes_v(command: str, tmp_path: Path) -> None:
    named = [] if command == "list" else [str(tmp_path / "none.safetensors")]
    result = CliRunner().invoke(models_app, [command, *named, "-v"])
    assert "No such option" not in result.output
    assert result.exit_code != 2
    assert logging.getLogger("bigrestore").level == logging.DEBUG


def test_a_model_whose_name_has_brackets_is_listed_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bigrestore.model.nets import checkpoint

    info = {"preset": "nano", "scale": 1, "halo_px": 8, "parameters": 10}
    monkeypatch.setattr(checkpoint, "shipped_models", lambda: {"[bold]odd[/x]": tmp_path})
    monkeypatch.setattr(checkpoint, "read_checkpoint", lambda _: (info, {}))
    result = CliRunner().invoke(models_app, ["list"])
    assert "[bold]odd[/x]" in result.output


@pytest.mark.parametrize("name", ["p.bmp", "p.jpg", "p.csv", "p.ome.zarr"])
def test_an_ending_that_is_none_of_a_profile_is_refused_before_any_work(section: Path, name: str) -> None:
    error = invoke(section.with_name("none.png"), "-o", section.with_name(name)).exception
    assert isinstance(error, UsageError)
    assert (
        f"-o is {section.with_name(name)}, and a profile is no .{name.split('.')[-1]} file; name it"
        in str(error)
    )
    assert not section.with_name(name).exists()


@pytest.mark.parametrize("name", list(shipped_parts()))
def test_parts_are_listed_and_shown(name: str) -> None:
    listed = json.loads(CliRunner().invoke(models_app, ["list", "--json"]).output)
    (facts,) = (each for each in listed if each["model"] == name)
    assert facts["kind"] in PART_KINDS
    shown = CliRunner().invoke(models_app, ["show", name])
    assert "a part of other methods" in shown.output
    assert f"{facts['parameters']:,} parameters" in shown.output
    assert name in CliRunner().invoke(models_app, ["show", name, "--card"]).output
    assert CliRunner().invoke(models_app, ["path", name]).output.strip().endswith(f"{name}.safetensors")
    assert "is right" in CliRunner().invoke(models_app, ["verify", name]).output


@pytest.mark.parametrize("command", ["show", "verify"])
@pytest.mark.parametrize("name", ["tiny-x1", "tiny-x2", "denoiser-x1", "likelihood-x1"])
def test_the_file_of_a_model_is_read_once(command: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    whole = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: (read.append(path.stem), whole(path))[1])
    assert CliRunner().invoke(models_app, [command, name]).exit_code == 0
    assert read == [name]


@pytest.mark.parametrize("command", ["show", "path", "verify"])
def test_an_unknown_model_is_a_sentence_without_a_scale(command: str) -> None:
    error = CliRunner().invoke(models_app, [command, "nothere"]).exception
    assert isinstance(error, UsageError)
    assert str(error).startswith(
        "there is no model 'nothere'; give a .safetensors file, or a shipped one: tiny-x1, "
    )
    assert "denoiser-x1" in str(error)

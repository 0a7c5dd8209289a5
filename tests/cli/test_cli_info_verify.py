"""`info` and `verify` as a user meets them: exit codes, paths that look like markup, output that is piped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from PIL import Image

from bigrestore.io import open_section as section_module
from bigrestore.io.store.ome_zarr import create_store, finish_store, open_level, write_block
from bigrestore.io.store.pyramid import build_pyramid
from bigrestore.io.store.store_spec import StoreSpec

ODD = ["[bold]red.png", "a[/x]b.png", "[link=x].png", "plain.png", "ends [/].png"]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    spec = StoreSpec((1, 40, 30), np.uint8)
    path = tmp_path / "[i]s[b].ome.zarr"
    create_store(path, spec)
    write_block(open_level(path, 0), 0, 0, 0, np.arange(1200, dtype=np.uint8).reshape(40, 30))
    build_pyramid(path, spec)
    finish_store(path, spec, (0, 255), {"version": "[red]"})
    return path


@pytest.mark.parametrize("name", ODD)
def test_a_path_with_square_brackets_is_printed_as_it_is(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(path)
    assert call("info", path) == 0
    assert f" {path}\n" in capsys.readouterr().out
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    monkeypatch.setenv("COLUMNS", "400")
    assert call("info", path) == 0
    assert str(path) in capsys.readouterr().out
    monkeypatch.delenv("FORCE_COLOR")
    path.unlink()
    assert call("info", path) == 3
    assert str(path) in capsys.readouterr().err


def test_verify_prints_a_store_with_square_brackets(
    store: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("verify", store) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"{store}: no faults"
    assert second.startswith(f"{store}: no plan of a run lies beside it")
    (store / "1" / "zarr.json").unlink()
    assert call("verify", store) == 6
    assert "level.missing" in capsys.readouterr().out


def test_the_faults_as_json_say_what_was_checked_and_what_mends_them(
    tmp_path: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.arange(600, dtype=np.uint16).astype(np.uint8).reshape(20, 30)).save(tmp_path / "a.png")
    out, quiet = tmp_path / "o.ome.zarr", ("--method", "rational", "--no-report", "--progress", "none")
    assert call("run", tmp_path / "a.png", out, *quiet) == 0
    text = (out / "zarr.json").read_text()
    (out / "zarr.json").write_text(text.replace('"name": "rational"', '"name": "by hand"'))
    capsys.readouterr()
    assert call("verify", "--json", out) == 6
    printed = capsys.readouterr()
    said = json.loads(printed.out)
    assert said["checks"] == ["image", "plan", "blocks", "files", "summary", "profiles", "report"]
    assert said["unchecked"] == ""
    assert said["faults"] == [
        {
            "id": "provenance.altered",
            "location": "zarr.json method.name",
            "expected": '"rational"',
            "actual": '"by hand"',
            "mended_by": "--resume",
        }
    ]
    assert printed.err.endswith("has 1 fault(s), listed above; mend the run by --resume.\n")
    assert call("run", tmp_path / "a.png", out, *quiet, "--resume") == 0
    assert call("verify", out) == 0


def test_a_piped_table_has_one_line_a_value_and_no_trailing_blanks(
    store: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    assert call("info", store) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line == line.rstrip() for line in lines)
    assert sum("zarr format" in line or str(store) in line for line in lines) == 2
    assert any("version [red]" in line for line in lines)


def test_info_of_a_pattern_that_names_one_store_says_what_made_it(
    store: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("info", store.parent / "*.ome.zarr", "--json") == 0
    assert json.loads(capsys.readouterr().out)["bigrestore"] == {"version": "[red]"}


def test_verify_of_what_is_no_store_is_a_wrong_input(
    tmp_path: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("hello")
    for path in (tmp_path / "a.png", tmp_path / "notes.txt", tmp_path, tmp_path / "absent"):
        assert call("verify", path) == 3
        assert capsys.readouterr().err.startswith(f"bigrestore: {path} ")


def test_an_unfinished_store_is_no_input(
    tmp_path: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    create_store(tmp_path / "s.ome.zarr", StoreSpec((1, 40, 30), np.uint8))
    for command in (("info",), ("run", "--method", "rational")):
        out = [tmp_path / "o.ome.zarr"] if command[0] == "run" else []
        assert call(*command, tmp_path / "s.ome.zarr", *out) == 3
        assert "was not finished" in capsys.readouterr().err
    assert not (tmp_path / "o.ome.zarr").exists()
    assert call("verify", tmp_path / "s.ome.zarr") == 6


@pytest.mark.parametrize("command", ["info", "verify"])
def test_verbose_shows_the_traceback_of_a_bug(
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("a bug for the test")

    monkeypatch.setattr(section_module, "open_section", broken)
    monkeypatch.setattr("bigrestore.run.state.checks.verify_store", broken)
    for flag, shown in (("", False), ("-v", True), ("--verbose", True)):
        assert call(command, *([flag] if flag else []), store) == 1
        assert ("Traceback" in capsys.readouterr().err) is shown


def test_a_group_of_one_image_is_described_with_what_made_it(
    store: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    zarr.create_group(store.parent / "g")
    store.rename(store.parent / "g" / "image")
    assert call("info", store.parent / "g", "--json") == 0
    assert json.loads(capsys.readouterr().out)["bigrestore"] == {"version": "[red]"}

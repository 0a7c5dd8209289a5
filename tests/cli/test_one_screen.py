"""What the commands for a look print fits one screen; all of it is in --json."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bigrestore.cli.info import MOST_FACTS, _shown_facts
from bigrestore.cli.run import opening_rows
from bigrestore.core.host.installed import install_command
from bigrestore.run.view import doctor
from bigrestore.run.view.summary import ReportResult, RunSummary

Call = Callable[..., int]
ROWS = 23
"""Lines of a terminal of the usual size, the prompt left out."""


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "in.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 300), np.uint8)).save(path)
    return path


@pytest.mark.parametrize(
    "words", [("info", "PICTURE"), ("info", "STORE"), ("profile", "PICTURE"), ("models", "show", "tiny-x1")]
)
def test_a_look_fits_one_screen(
    words: tuple[str, ...],
    picture: Path,
    call: Call,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(picture.parent)
    if "STORE" in words:
        how = ("--method", "rational", "--no-report", "-q")
        assert call("run", "in.png", "out.ome.zarr", *how, "--maps", "residual", "--overwrite") in (0, 2)
        assert call("run", "in.png", "out.ome.zarr", *how, "--overwrite") == 0
    names = {"PICTURE": "in.png", "STORE": "out.ome.zarr"}
    given = [names.get(word, word) for word in words]
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    monkeypatch.setenv("COLUMNS", "80")
    capsys.readouterr()
    assert call(*given) == 0
    assert len(capsys.readouterr().out.splitlines()) <= ROWS
    assert call(*given, "--json") == 0
    assert json.loads(capsys.readouterr().out)


def test_many_and_long_facts_are_cut_to_a_screen() -> None:
    facts = {f"fact {index}": "word " * 200 for index in range(50)} | {"none": None, "empty": []}
    rows = _shown_facts(facts)
    assert len(rows) == MOST_FACTS + 1
    assert rows[-1] == ("more", "30 further facts by --json")
    assert all(len(value) <= 150 for _, value in rows)


@pytest.mark.parametrize("words", [("list",), ("methods",)])
def test_lists_of_models_and_methods_are_there_as_json(
    words: tuple[str, ...], call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("models", *words, "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert "network" in str(listed) or "tiny-x1" in str(listed)


def test_a_card_is_printed_whole(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("models", "show", "tiny-x1", "--card") == 0
    assert "Training, stage prior" in capsys.readouterr().out


def test_the_doctor_has_nothing_to_say_of_its_own_tile(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "bigrestore"):
        assert doctor._one_tile().verdict == "ok"
    assert caplog.text == ""


def summary(output: str, **more: object) -> RunSummary:
    facts = {"blocks_done": 1, "blocks_empty": 0, "blocks_restored": 1, "failed": {}, "seconds": {}} | more
    known = {
        "megapixels": 1.0,
        "redundancy": 1.0,
        "tile_px": 480,
        "threads": 1,
        "device": "cpu",
        "precision": "fp32",
    }
    return RunSummary(output=Path(output), **known, **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("output", "programs"),
    [
        ("o.ome.zarr", ["bigrestore", "napari"]),
        ("plain", ["bigrestore", "napari"]),
        ("o.ome.tif", ["bigrestore"]),
        ("o.ome.zarr.zip", ["bigrestore"]),
    ],
)
def test_the_commands_open_the_format_that_was_written(
    output: str, programs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    monkeypatch.setattr("shutil.which", lambda _: None)
    rows = opening_rows("my scan.tif", summary(output))
    assert [command.split()[0] for _, command in rows] == programs
    assert rows[0][1] == f"bigrestore view {output} --before 'my scan.tif'"


def test_at_most_three_commands_and_none_for_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    made = summary("o.ome.zarr", report=ReportResult("o.ome.zarr.bigrestore/report"))
    assert len(opening_rows("in.png", made)) == 3
    assert opening_rows("in.png", summary("o.ome.zarr", part="shard 1/2")) == []
    assert opening_rows("in.png", summary("o.ome.zarr", blocks_done=0)) == []
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert opening_rows("in.png", made)[0][1].startswith(f"{install_command('view')} && bigrestore view ")

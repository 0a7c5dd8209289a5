"""Guards the record of a training: the CSV, the live line, the sheet."""

from __future__ import annotations

import builtins
import csv
import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from bigrestore.errors import OutputError, UsageError
from bigrestore.training.loop.logs import CsvLog, LiveLine, duration, open_board
from bigrestore.training.loop.sheet import GUTTER_PX, compose_sheet, write_sheet


def read(path: Path) -> list[dict[str, str]]:
    with path.open() as stream:
        return list(csv.DictReader(stream))


def test_a_loss_that_appears_late_gets_a_column(tmp_path: Path) -> None:
    log = CsvLog(tmp_path / "log.csv", 0)
    log.add(0, {"loss": 1.0})
    log.add(1, {"loss": 0.5, "penalty": 2.0})
    log.add(2, {"loss": 0.25})
    assert [row["penalty"] for row in read(tmp_path / "log.csv")] == ["", "2", ""]
    assert [row["loss"] for row in read(tmp_path / "log.csv")] == ["1", "0.5", "0.25"]


def test_a_new_training_empties_an_old_log(tmp_path: Path) -> None:
    CsvLog(tmp_path / "log.csv", 0).add(7, {"loss": 1.0})
    log = CsvLog(tmp_path / "log.csv", 0)
    log.add(0, {"loss": 3.0})
    assert [row["step"] for row in read(tmp_path / "log.csv")] == ["0"]


def test_an_unwritable_log_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="choose another"):
        CsvLog(tmp_path / "file" / "log.csv", 0)


def test_without_a_terminal_lines_are_plain_and_rare(caplog: pytest.LogCaptureFixture) -> None:
    stream = io.StringIO()
    with caplog.at_level(logging.INFO), LiveLine("toy", Console(file=stream), interval_s=3600) as line:
        assert line.due()
        line.show("step 3 loss 0.1")
        assert not line.due()
    assert caplog.messages == ["toy step 3 loss 0.1"]
    assert stream.getvalue() == ""


def test_on_a_terminal_the_line_is_redrawn(caplog: pytest.LogCaptureFixture) -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80)
    with caplog.at_level(logging.INFO), LiveLine("toy", console) as line:
        assert line.due()
        line.show("step 3")
        assert not line.due()
        line.show("step 4 [not markup]")
    assert "toy step 4 [not markup]" in stream.getvalue()
    assert not caplog.messages


def test_tensorboard_is_optional(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **rest: Any) -> Any:
        if name.startswith("torch.utils.tensorboard"):
            raise ImportError(name)
        return real(name, *args, **rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with caplog.at_level(logging.INFO):
        assert open_board(tmp_path, 0) is None
    assert "TensorBoard is not installed" in caplog.text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "00:00:00"), (3725.9, "01:02:05"), (float("inf"), "unknown"), (-1, "unknown")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_sheet_lays_images_out_at_one_grey_scale(tmp_path: Path) -> None:
    dark, light = np.full((10, 12), 0.25), np.full((20, 24), 2.0)
    sheet = compose_sheet([[dark, light], [light]])
    assert sheet.shape == (20 + GUTTER_PX + 20, 24 + GUTTER_PX + 24)
    assert set(np.unique(sheet[:20, :24])) == {64}
    assert set(np.unique(sheet[:20, 24 + GUTTER_PX :])) == {255}
    assert compose_sheet([[light, light]], height_px=10).shape == (10, 12 + GUTTER_PX + 12)
    write_sheet(tmp_path / "sheets" / "a.png", sheet)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "sheets" / "a.png")), sheet)
    assert [path.name for path in (tmp_path / "sheets").iterdir()] == ["a.png"]


def test_an_empty_or_unwritable_sheet_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no images"):
        compose_sheet([])
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="choose another"):
        write_sheet(tmp_path / "file" / "a.png", np.zeros((4, 4), np.uint8))

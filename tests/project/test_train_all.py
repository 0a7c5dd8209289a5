"""The example that trains all shipped models: its order, its shares, and going on where it was stopped."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bigrestore.training.stages.table import STAGES

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_all", ROOT / "examples" / "train_all.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["train_all"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def trained(example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """Run trainings that leave an empty file, stop at the fifth once, and note their flags."""
    calls: list[dict[str, str]] = []

    def run(words: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        flags = dict(pairwise(words))
        for name in ("--start", "--prior", "--model"):
            assert name not in flags or Path(flags[name]).exists()
        assert not Path(flags["--output"]).exists()
        calls.append({"stage": words[4], **{k: v for k, v in flags.items() if k.startswith("--")}})
        if len(calls) == 5:
            return subprocess.CompletedProcess(words, 75)
        Path(flags["--output"]).touch()
        return subprocess.CompletedProcess(words, 0)

    monkeypatch.setattr(example.subprocess, "run", run)
    monkeypatch.setattr(
        sys, "argv", ["train_all.py", "images", str(tmp_path), "--minutes", "600", "--batch", "2"]
    )
    return calls


def test_all_is_trained_in_order_and_goes_on_where_it_was_stopped(
    example: ModuleType, trained: list[dict[str, str]], tmp_path: Path
) -> None:
    assert example.main() == 75
    assert len(trained) == 5
    assert example.main() == 0
    assert trained[5] == trained[4]
    del trained[4]
    assert [call["stage"] for call in trained] == [training.stage for training in example.PLAN]
    assert sum(float(call["--minutes"]) for call in trained) == pytest.approx(600, abs=0.1)
    assert all(call["--batch"] == "2" for call in trained)
    assert example.main() == 0
    assert len(trained) == len(example.PLAN)


def test_every_shipped_model_is_in_the_plan(example: ModuleType) -> None:
    shipped = {file.stem for file in (ROOT / "bigrestore" / "weights").rglob("*.safetensors")}
    assert shipped <= {training.makes for training in example.PLAN}


def test_stages_are_told_what_means_something_to_them(example: ModuleType) -> None:
    made: dict[str, str] = {}
    for training in example.PLAN:
        row = STAGES[training.stage]
        assert (training.scale is None) == ("scale" in row.left_out)
        assert training.scale is None or training.scale in row.scales
        assert training.prior is None or row.takes_prior
        if row.needs is not None and training.prior is None:
            assert training.start is not None
            assert made[training.start] == row.needs
        made[training.makes] = training.stage

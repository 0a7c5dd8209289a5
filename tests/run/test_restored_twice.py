"""An input that is an output: a run warns, whatever it is packed in."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from engine_toys import go, save_zarr

from bigrestore.degradation.api import degrade

OUTPUTS = {
    "OME-Zarr 0.5": ("out.ome.zarr", {}, ""),
    "OME-Zarr 0.4": ("out.ome.zarr", {"format": "0.4"}, ""),
    "OME-TIFF": ("out.ome.tif", {}, ""),
    "zip": ("out.ome.zarr.zip", {}, ""),
    "an array in it": ("out.ome.zarr", {}, "/0"),
    "a level of it": ("out.ome.zarr", {}, "/1"),
}


@pytest.fixture
def source(tmp_path: Path, tissue: np.ndarray) -> Path:
    return save_zarr(tmp_path / "in.zarr", tissue[:500, :600])


@pytest.mark.parametrize("kind", OUTPUTS)
def test_a_run_on_an_output_warns(
    tmp_path: Path, source: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    name, more, inside = OUTPUTS[kind]
    go(source, tmp_path / name, "rational", **more)
    assert "restored before" not in caplog.text
    go(f"{tmp_path / name}{inside}", tmp_path / "again.zarr", "catmull-rom")
    warned = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len([record for record in warned if "restored before" in record.getMessage()]) == 1
    assert f"{name}{inside} was restored before, by bigrestore (rational)" in caplog.text


def test_a_stack_of_outputs_warns(tmp_path: Path, source: Path, caplog: pytest.LogCaptureFixture) -> None:
    for index in range(2):
        go(source, tmp_path / f"s{index}.ome.tif", "rational")
    go(str(tmp_path / "s*.ome.tif"), tmp_path / "volume.zarr", "rational")
    assert "restored before" in caplog.text


def test_a_degraded_section_is_none_that_was_restored(
    tmp_path: Path, source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    degrade(source, tmp_path / "soft", whole=True, scale=1, progress="none")
    go(tmp_path / "soft" / "lq.ome.zarr", tmp_path / "out.ome.zarr", "rational")
    assert "restored before" not in caplog.text
    degrade(tmp_path / "out.ome.zarr", tmp_path / "again", whole=True, scale=1, progress="none")
    assert "restored before" not in caplog.text

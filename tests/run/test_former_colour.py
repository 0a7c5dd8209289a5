"""Outputs of colour by a former version, with a chunk for each channel: never gone on with, replaced as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_toys import Fir

from bigrestore.errors import OutputExistsError
from bigrestore.io.store.ome_zarr import open_level
from bigrestore.io.store.store_spec import StoreSpec
from bigrestore.io.verify.store import verify_store
from bigrestore.run.execute import execute
from bigrestore.run.plan import Plan
from bigrestore.settings import RunSettings


def go(source: Path, output: Path, **settings: Any) -> Any:
    asked: dict[str, Any] = {"block_size": 480, "mask": "none", "report": False, "progress": "none"}
    return execute(source, output, RunSettings(**(asked | settings)), method=Fir())


@pytest.fixture
def source(tmp_path: Path, rgb: np.ndarray) -> Path:
    import zarr

    zarr.save_array(tmp_path / "in.zarr", np.ascontiguousarray(rgb[:200]))
    return tmp_path / "in.zarr"


@pytest.fixture(params=["0.5", "0.4"])
def former(tmp_path: Path, source: Path, request: pytest.FixtureRequest) -> tuple[Path, str]:
    """Write an output as version 0.1.0 did."""
    output, fmt = tmp_path / "out.ome.zarr", str(request.param)
    facts = Plan.facts.fget  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StoreSpec, "array_chunks", lambda spec: (1, spec.chunk_px, spec.chunk_px))
        known = {"channels_per_chunk"}
        patch.setattr(
            Plan, "facts", property(lambda plan: {k: v for k, v in facts(plan).items() if k not in known})
        )
        if fmt == "0.4":
            patch.setattr("bigrestore.run.pipeline.shard_paths", _former_paths, raising=False)
        go(source, output, format=fmt)
    assert open_level(output, 0, mode="r").chunks[0] == 1
    return output, fmt


def _former_paths(
    path: Path, spec: StoreSpec, level: int, z: int, y0: int, x0: int, height: int, width: int
) -> list[Path]:
    rows, columns = range(y0 // 480, -(-(y0 + height) // 480)), range(x0 // 480, -(-(x0 + width) // 480))
    return [
        path / str(level) / str(c) / str(row) / str(column)
        for c in range(3)
        for row in rows
        for column in columns
    ]


def test_it_is_not_gone_on_with(source: Path, former: tuple[Path, str]) -> None:
    output, fmt = former
    for settings in ({"resume": True}, {"init_only": True}, {"finalize": True}, {"shard": "1/1"}):
        with pytest.raises(
            OutputExistsError, match=r"was begun otherwise: channels per chunk \(none then, 3 now\);"
        ):
            go(source, output, format=fmt, **settings)
    assert verify_store(output) == []


def test_it_is_replaced_as_a_whole(source: Path, former: tuple[Path, str]) -> None:
    output, fmt = former
    go(source, output, format=fmt, overwrite=True)
    assert verify_store(output) == []
    assert open_level(output, 0, mode="r").chunks[0] == 3
    assert not (output / "0/1").exists()


def test_grey_is_gone_on_with_as_before(tmp_path: Path, tissue: np.ndarray) -> None:
    import zarr

    zarr.save_array(tmp_path / "in.zarr", tissue[:200])
    go(tmp_path / "in.zarr", tmp_path / "out.zarr")
    assert go(tmp_path / "in.zarr", tmp_path / "out.zarr", resume=True).blocks_restored == 0

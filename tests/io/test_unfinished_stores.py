"""Guards fill values read as pixels: a store that a run has not finished is no input, at any of its paths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from bigrestore.errors import InputError, OutputError
from bigrestore.io.open_section import open_section
from bigrestore.io.store.ome_zarr import create_store, finish_store, mark_unfinished, open_level, write_block
from bigrestore.io.store.pyramid import build_pyramid
from bigrestore.io.store.store_spec import StoreSpec
from bigrestore.io.verify.store import verify_store

FORMATS = pytest.mark.parametrize("fmt", ["0.5", "0.4"])


def begun(path: Path, fmt: Any) -> StoreSpec:
    """Write the first of two blocks, as a run that is killed then does."""
    spec = StoreSpec((1, 700, 300), np.uint8, fmt=fmt, chunk_px=96, shard_px=384)
    create_store(path, spec)
    write_block(open_level(path, 0), 0, 0, 0, np.full((384, 300), 7, np.uint8))
    return spec


def finish(path: Path, spec: StoreSpec) -> None:
    """Go on to the end."""
    write_block(open_level(path, 0), 0, 384, 0, np.full((316, 300), 8, np.uint8))
    build_pyramid(path, spec)
    finish_store(path, spec, (0, 255), {"version": "0"})


@FORMATS
@pytest.mark.parametrize("inside", ["", "0"])
def test_a_store_that_was_killed_is_refused_with_the_remedy(tmp_path: Path, fmt: Any, inside: str) -> None:
    begun(tmp_path / "o.ome.zarr", fmt)
    with pytest.raises(InputError, match=r"o\.ome\.zarr was not finished.*--resume.*\.$"):
        open_section(tmp_path / "o.ome.zarr" / inside)


@FORMATS
def test_a_group_around_an_unfinished_store_does_not_hide_it(tmp_path: Path, fmt: Any) -> None:
    zarr.create_group(tmp_path / "g", zarr_format=3 if fmt == "0.5" else 2)
    begun(tmp_path / "g" / "o", fmt)
    with pytest.raises(InputError, match="without an image"):
        open_section(tmp_path / "g")
    with pytest.raises(InputError, match="was not finished"):
        open_section(tmp_path / "g" / "o" / "0")


@FORMATS
def test_a_store_whose_pyramid_is_not_built_is_refused_too(tmp_path: Path, fmt: Any) -> None:
    spec = begun(tmp_path / "o", fmt)
    build_pyramid(tmp_path / "o", spec)
    for inside in ("", "0", "1"):
        with pytest.raises(InputError, match="was not finished"):
            open_section(tmp_path / "o" / inside)


@FORMATS
def test_the_mark_is_gone_without_a_trace_when_the_store_is_finished(tmp_path: Path, fmt: Any) -> None:
    spec = begun(tmp_path / "o", fmt)
    finish(tmp_path / "o", spec)
    root = json.loads((tmp_path / "o" / ("zarr.json" if fmt == "0.5" else ".zattrs")).read_text())
    attributes = root["attributes"] if fmt == "0.5" else root
    assert attributes["bigrestore"] == {"version": "0"}
    assert open_section(tmp_path / "o").read(0, 380, 390, 0, 1)[:, 0].tolist() == [7] * 4 + [8] * 6
    assert open_section(tmp_path / "o" / "0").shape == (1, 700, 300)
    assert verify_store(tmp_path / "o") == []


@FORMATS
def test_going_on_with_a_store_without_the_mark_gives_the_same_bytes(tmp_path: Path, fmt: Any) -> None:
    name = "zarr.json" if fmt == "0.5" else ".zattrs"
    for place in ("old", "new"):
        spec = begun(tmp_path / place, fmt)
        if place == "old":
            zarr.open_group(tmp_path / place, mode="r+").attrs.put({})
        finish(tmp_path / place, spec)
    assert (tmp_path / "old" / name).read_bytes() == (tmp_path / "new" / name).read_bytes()


@FORMATS
def test_a_finished_store_that_is_gone_on_with_is_unfinished_again(tmp_path: Path, fmt: Any) -> None:
    spec = begun(tmp_path / "o", fmt)
    finish(tmp_path / "o", spec)
    mark_unfinished(tmp_path / "o")
    with pytest.raises(InputError, match="was not finished"):
        open_section(tmp_path / "o")


def test_a_shard_that_is_torn_before_the_pyramid_is_named(tmp_path: Path) -> None:
    spec = begun(tmp_path / "o", "0.5")
    shard = tmp_path / "o" / "0" / "c" / "0" / "0"
    shard.write_bytes(shard.read_bytes()[:-7])
    with pytest.raises(OutputError, match=r"o/0 cannot be read back at z=0, .*--resume\.$"):
        build_pyramid(tmp_path / "o", spec)

"""An input that could not be read everywhere is repaired: every later step of its run takes it for the same input."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import tifffile

from bigrestore.degradation.api import degrade
from bigrestore.errors import OutputExistsError
from bigrestore.run.execute import execute
from tests.run.engine_toys import level0
from tests.run.test_unreadable_sections import PLAIN, volume


def step(source: Path, output: Path, **settings: Any) -> list[str]:
    """Take one step of a run; return its failed blocks."""
    return list(execute(source, output, attrs.evolve(PLAIN, **settings)).failed)


def repair(source: Path, pixels: np.ndarray, damaged: set[int] | None = None) -> None:
    """Write the volume anew, with fewer damaged sections, or none."""
    shutil.rmtree(source)
    volume(source, pixels, damaged or set())


@pytest.fixture
def whole(tmp_path: Path, tissue: np.ndarray) -> np.ndarray:
    """The output of an input that is read everywhere from the beginning."""
    execute(volume(tmp_path / "whole.zarr", tissue, set()), tmp_path / "whole.ome.zarr", PLAIN)
    return level0(tmp_path / "whole.ome.zarr")


@pytest.mark.parametrize("damaged", [{0}, {1}, {0, 2}])
def test_a_job_array_finishes(
    tmp_path: Path, tissue: np.ndarray, whole: np.ndarray, damaged: set[int]
) -> None:
    source, out = volume(tmp_path / "in.zarr", tissue, damaged), tmp_path / "out.ome.zarr"
    step(source, out, init_only=True)
    assert sum(len(step(source, out, shard=f"{n}/2")) for n in (1, 2)) == len(damaged)
    repair(source, tissue)
    assert not [name for n in (1, 2) for name in step(source, out, shard=f"{n}/2")]
    assert not step(source, out, finalize=True)
    np.testing.assert_array_equal(level0(out), whole)


def test_a_run_that_was_stopped_after_the_repair_is_resumed(
    tmp_path: Path, tissue: np.ndarray, whole: np.ndarray
) -> None:
    source, out = volume(tmp_path / "in.zarr", tissue, {1}), tmp_path / "out.ome.zarr"
    assert step(source, out)
    repair(source, tissue)
    step(source, out, shard="1/1")  # all blocks are done, and the output is not finished
    assert not step(source, out, resume=True)
    np.testing.assert_array_equal(level0(out), whole)


def test_sections_are_repaired_one_after_the_other(
    tmp_path: Path, tissue: np.ndarray, whole: np.ndarray
) -> None:
    source, out = volume(tmp_path / "in.zarr", tissue, {0, 2}), tmp_path / "out.ome.zarr"
    assert len(step(source, out)) == 2
    repair(source, tissue, {2})
    assert len(step(source, out, resume=True)) == 1
    repair(source, tissue)
    assert not step(source, out, resume=True)
    np.testing.assert_array_equal(level0(out), whole)


def test_an_input_is_repaired_before_the_first_block(
    tmp_path: Path, tissue: np.ndarray, whole: np.ndarray
) -> None:
    source, out = volume(tmp_path / "in.zarr", tissue, {0}), tmp_path / "out.ome.zarr"
    step(source, out, init_only=True)
    repair(source, tissue)
    assert not step(source, out, resume=True)
    np.testing.assert_array_equal(level0(out), whole)


def test_a_change_after_the_repair_is_refused(tmp_path: Path, tissue: np.ndarray) -> None:
    source, out = volume(tmp_path / "in.zarr", tissue, {1}), tmp_path / "out.ome.zarr"
    step(source, out)
    repair(source, tissue)
    step(source, out, shard="1/1")
    repair(source, 255 - tissue)
    with pytest.raises(OutputExistsError, match=r"begun otherwise|was changed since"):
        step(source, out, resume=True)


def test_blocks_beside_the_repair_are_done_again(tmp_path: Path, tissue: np.ndarray) -> None:
    mask = np.ones((3, 160, 160), np.uint8)
    mask[:, 60:90, 60:90] = 2
    tifffile.imwrite(tmp_path / "mask.tif", mask, photometric="minisblack")
    asked = {"mask": str(tmp_path / "mask.tif"), "neighbours": 1}
    source, out = volume(tmp_path / "in.zarr", tissue, {0}), tmp_path / "out.ome.zarr"
    assert len(step(source, out, **asked)) == 1
    chunk = source / "c/0/0/0"
    chunk.write_bytes(b"still no zstd frame")  # of another size and time
    assert len(step(source, out, resume=True, **asked)) == 1
    repair(source, tissue)
    assert not step(source, out, resume=True, **asked)
    step(source, tmp_path / "whole.ome.zarr", **asked)
    np.testing.assert_array_equal(level0(out), level0(tmp_path / "whole.ome.zarr"))


def test_a_degraded_section_is_finished(tmp_path: Path, tissue: np.ndarray) -> None:
    source, pairs = volume(tmp_path / "in.zarr", tissue, {1}), tmp_path / "pairs"
    asked = {"whole": True, "recipe": "noise", "seed": 3, "progress": "none"}
    with pytest.raises(Exception, match="cannot be decoded"):
        degrade(source, pairs, **asked)
    repair(source, tissue)
    degrade(source, pairs, resume=True, **asked)
    degrade(source, tmp_path / "whole", **asked)
    np.testing.assert_array_equal(level0(pairs / "lq.ome.zarr"), level0(tmp_path / "whole/lq.ome.zarr"))
    assert (pairs / "pairs.parquet").read_bytes() == (tmp_path / "whole/pairs.parquet").read_bytes()

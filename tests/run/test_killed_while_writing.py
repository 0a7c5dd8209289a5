"""A process killed at any write leaves a place that --resume and --overwrite take, and no temporary file for ever."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_toys import Fir, go, level0, save_zarr

from bigrestore.core.files import DEAD_SECONDS, temporary_name, whole_file
from bigrestore.errors import BigrestoreError, OutputError, OutputExistsError
from bigrestore.io.verify.store import verify_store
from bigrestore.report.folder import settle_folder
from tests.warm_python import WarmPython

HARNESS = Path(__file__).parents[1] / "faults/every_event.py"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (300, 300), np.uint8)
    return save_zarr(tmp_path_factory.mktemp("in") / "in.zarr", pixels)


@pytest.fixture(scope="module")
def dead() -> int:
    """Give the number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


@pytest.mark.parametrize("case", ["first step", "last step"])
def test_a_kill_before_a_change_to_the_disk(case: str, warm_python: WarmPython) -> None:
    code = f"import runpy, sys; sys.path[0] = {str(HARNESS.parent)!r}; runpy.run_path({str(HARNESS)!r}, None, '__main__')"
    command = [warm_python.executable, "-c", code, "--only", case, "--step", "29"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 went wrong" in done.stdout


def only_the_lock(out: Path, pid: int) -> None:
    side = Path(f"{out}.bigrestore")
    side.mkdir()
    (side / "lock").write_text(json.dumps({"pid": pid, "host": "", "space": ""}))
    os.utime(side / "lock", (0, 0))


def half_a_plan(out: Path, pid: int) -> None:
    only_the_lock(out, pid)
    for name in ("journal", "profiles"):
        Path(f"{out}.bigrestore/{name}").mkdir()
    Path(f"{out}.bigrestore/plan.json.{pid}-0123abcd.partial").write_text("{")


def half_the_root(out: Path, pid: int) -> None:
    shutil.rmtree(out)
    out.mkdir()
    (out / f"zarr.{'0' * 32}.partial").write_text("{")


def half_of_level_0(out: Path, pid: int) -> None:
    shutil.rmtree(out / "0")
    (out / "0").mkdir()
    (out / f"0/zarr.{'0' * 32}.partial").write_text("")


def an_empty_store(out: Path, pid: int) -> None:
    shutil.rmtree(out)
    out.mkdir()


def half_a_record(out: Path, pid: int) -> None:
    Path(f"{out}.bigrestore/journal/z00000-y0000-x0000.json.{pid}-0123abcd.partial").write_text("{")
    (out / "0/c").mkdir(exist_ok=True)


HARMS: dict[Callable[[Path, int], None], bool] = {
    only_the_lock: False,
    half_a_plan: False,
    half_the_root: True,
    half_of_level_0: True,
    an_empty_store: True,
    half_a_record: True,
}
"""What a kill leaves, and whether the plan was stored before."""


@pytest.mark.parametrize("flags", [{"resume": True}, {"overwrite": True}, {}], ids=str)
@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.__name__)
def test_what_a_kill_leaves_is_gone_on_with(
    tmp_path: Path, source: Path, dead: int, harm: Callable[[Path, int], None], flags: dict[str, Any]
) -> None:
    out = tmp_path / "out.zarr"
    if HARMS[harm]:
        go(source, out, Fir(), init_only=True)
    harm(out, dead)
    if HARMS[harm] and not flags:
        with pytest.raises(OutputExistsError, match="go on with it by --resume, replace it by --overwrite"):
            go(source, out, Fir())
        flags = {"resume": True}
    go(source, out, Fir(), **flags)
    assert verify_store(out) == []
    assert not list(tmp_path.rglob("*.partial"))
    go(source, tmp_path / "calm.zarr", Fir())
    np.testing.assert_array_equal(level0(out), level0(tmp_path / "calm.zarr"))


@pytest.mark.parametrize("name", ["out.ome.zarr.zip", "out.ome.tif"])
@pytest.mark.parametrize("flags", [{"resume": True}, {"overwrite": True}, {}], ids=str)
def test_a_half_packed_file_goes_with_the_next_run(
    tmp_path: Path, source: Path, dead: int, name: str, flags: dict[str, Any]
) -> None:
    out = tmp_path / name
    if flags:
        go(source, out, Fir(), init_only=True)
    (tmp_path / f"{name}.{dead}-0123abcd.partial").write_bytes(b"PK" * 5000)
    (tmp_path / f"{name}.mine.partial").write_text("years of work")
    go(source, out, Fir(), **flags)
    assert [path.name for path in tmp_path.glob("*.partial")] == [f"{name}.mine.partial"]


@pytest.mark.parametrize("letter", ["n", "\N{LATIN SMALL LETTER A WITH DIAERESIS}"])
@pytest.mark.parametrize("ending", [".ome.zarr.zip", ".ome.tif"])
def test_a_name_almost_too_long_is_packed_and_its_half_files_are_removed(
    tmp_path: Path, source: Path, dead: int, letter: str, ending: str
) -> None:
    longest = 255 - len(".bigrestore") - len(ending)
    name, twin = (letter * ((longest - 1) // len(letter.encode())) + last + ending for last in "ab")
    go(source, tmp_path / name, Fir())
    half = temporary_name(tmp_path / name).name.replace(f".{os.getpid()}-", f".{dead}-")
    other = temporary_name(tmp_path / twin).name.replace(f".{os.getpid()}-", f".{dead}-")
    (tmp_path / half).write_bytes(b"PK")
    (tmp_path / other).write_bytes(b"PK")  # of another output, whose writer may be at work
    go(source, tmp_path / name, Fir(), overwrite=True)
    assert sorted(path.name for path in tmp_path.glob(f"{letter}*")) == sorted(
        [name, f"{name}.bigrestore", other]
    )


DAMAGE: dict[str, tuple[str, str, Callable[[bytes], bytes]]] = {
    "a key of the array": ("0.5", "0/zarr.json", lambda raw: raw.replace(b'"codecs"', b'"codecw"', 1)),
    "a key in its shards": ("0.5", "0/zarr.json", lambda raw: b'"codecw"'.join(raw.rsplit(b'"codecs"', 1))),
    "a key of the group": ("0.5", "zarr.json", lambda raw: raw.replace(b'"node_type"', b'"node_typd"')),
    "a number for the group": ("0.5", "zarr.json", lambda raw: b"17"),
    "a byte of the attributes": ("0.4", ".zattrs", lambda raw: raw.replace(b"unf", b"\xfcnf")),
    "half of the attributes": ("0.4", ".zattrs", lambda raw: raw[:30]),
    "the version of the group": ("0.4", ".zgroup", lambda raw: raw.replace(b"2", b"7")),
    "a shape of the array": ("0.4", "0/.zarray", lambda raw: raw.replace(b'"shape"', b'"shapf"')),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_metadata_of_an_unfinished_run_are_written_anew(
    tmp_path: Path, source: Path, damage: str
) -> None:
    out = tmp_path / "out.zarr"
    fmt, name, change = DAMAGE[damage]
    go(source, out, Fir(), init_only=True, format=fmt)
    raw = (out / name).read_bytes()
    (out / name).write_bytes(change(raw))
    assert (out / name).read_bytes() != raw
    with pytest.raises(BigrestoreError):
        verify_store(out) and go(source, out, Fir(), format=fmt, shard="1/1")
    go(source, out, Fir(), format=fmt, resume=True)
    assert verify_store(out) == []


def test_a_part_of_a_run_names_the_remedy_for_damaged_metadata(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out.zarr"
    go(source, out, Fir(), init_only=True)
    (out / "zarr.json").write_text('{"zarr_format": 3, "node_typd": "group"}')
    with pytest.raises(OutputError, match="its metadata are damaged; make it again by --init-only"):
        go(source, out, Fir(), shard="1/1")
    go(source, out, Fir(), init_only=True)
    go(source, out, Fir(), shard="1/1")
    go(source, out, Fir(), finalize=True)
    assert verify_store(out) == []


def test_temporary_files_of_dead_writers_go_with_the_next_file_of_the_name(tmp_path: Path, dead: int) -> None:
    old = time.time() - 2 * DEAD_SECONDS
    with whole_file(tmp_path / "p.json", follow=True) as partial:
        partial.write_text("{}")
        mark = partial.name.removesuffix(".partial").split("-")[1][:4]
    gone = {
        f"p.json.{dead}-{mark}0123abcd.partial": True,
        f"p.json.{os.getpid()}-{mark}0123abcd.partial": False,  # it may be at work still
        f"p.json.{dead}-{'0000' if mark != '0000' else 'ffff'}0123abcd.partial": False,  # of another host
        f"p.json.{dead}-0123abcd.partial": False,
        f"q.json.{dead}-{mark}0123abcd.partial": False,
        "p.json.mine.partial": False,
    }
    aged = {f"p.json.{dead}-89ab0123.partial": True, f"summary.json.{dead}-89ab0123.partial": True}
    for name in gone | aged:
        (tmp_path / name).write_text("")
    for name in aged:
        os.utime(tmp_path / name, (old, old))
    with whole_file(tmp_path / "p.json", follow=True) as partial:
        partial.write_text("{}")
    settle_folder(tmp_path, overwrite=False)
    assert {name: not (tmp_path / name).exists() for name in gone | aged} == gone | aged

"""Stores in a zip file read as unpacked ones do, in place, however the file was made."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from bigrestore.errors import InputError
from bigrestore.io.open_section import open_section
from bigrestore.io.store.pack import pack_store
from bigrestore.io.verify.store import verify_store

PIXELS = np.random.default_rng(2).integers(0, 255, (120, 120), dtype=np.uint8)


def store(folder: Path, **options: Any) -> Path:
    zarr.create_array(folder / "a.zarr", data=PIXELS, chunks=(30, 30), **options)
    return folder / "a.zarr"


@pytest.mark.parametrize("shards", [None, (60, 60)])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("inside", ["", "a.zarr/"])
def test_a_zip_file_reads_as_the_folder(tmp_path: Path, shards: Any, method: int, inside: str) -> None:
    folder = store(tmp_path, shards=shards)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                file.write(path, inside + str(path.relative_to(folder)))
    section = open_section(tmp_path / "a.zip")
    np.testing.assert_array_equal(section.read(0, 5, 100, 7, 90), PIXELS[5:100, 7:90])
    assert section.files == (tmp_path / "a.zip",)
    assert not list(tmp_path.glob("*/zarr.json")) or folder.is_dir()


def test_packing_is_the_same_bytes_each_time_and_reads_back(tmp_path: Path) -> None:
    folder = store(tmp_path, shards=(60, 60))
    pack_store(folder, tmp_path / "one.zip")
    shutil.copytree(folder, tmp_path / "later" / "a.zarr")
    pack_store(tmp_path / "later" / "a.zarr", tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as file:
        assert file.namelist()[0] == "zarr.json"
        assert {entry.compress_type for entry in file.infolist()} == {zipfile.ZIP_STORED}
    np.testing.assert_array_equal(open_section(tmp_path / "one.zip").read(0, 0, 120, 0, 120), PIXELS)


def test_a_zip_file_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack_store(store(tmp_path), tmp_path / "one.zip", check=stop)
    assert not [path for path in tmp_path.iterdir() if "zip" in path.name]


def test_verify_looks_into_a_zip_file(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "a.ome.zarr")
    group.create_array("0", data=PIXELS, chunks=(60, 60), dimension_names=["y", "x"])
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    scale = [{"type": "scale", "scale": [2.0, 2.0]}]
    image = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    group.attrs.put({"ome": {"version": "0.5", "multiscales": [image]}})
    pack_store(tmp_path / "a.ome.zarr", tmp_path / "a.ome.zarr.zip")
    assert verify_store(tmp_path / "a.ome.zarr.zip") == []
    raw = bytearray((tmp_path / "a.ome.zarr.zip").read_bytes())
    at = raw.index(b"0/c/0/0") + 200
    raw[at : at + 50] = b"\xff" * 50
    (tmp_path / "a.ome.zarr.zip").write_bytes(raw)
    assert [fault.id for fault in verify_store(tmp_path / "a.ome.zarr.zip")] == ["chunk.undecodable"]


def test_a_zip_file_of_something_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("readme.txt", "hello")
    with pytest.raises(InputError, match="not a readable Zarr store"):
        open_section(tmp_path / "a.zip")


def test_an_entry_without_a_name_is_passed_over(tmp_path: Path) -> None:
    folder = store(tmp_path)
    pack_store(folder, tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip", "a") as file:
        file.writestr("qjqjqj", b"")
    whole = (tmp_path / "a.zip").read_bytes()
    assert whole.count(b"qjqjqj") == 2
    (tmp_path / "a.zip").write_bytes(whole.replace(b"qjqjqj", b"\0jqjqj"))
    np.testing.assert_array_equal(open_section(tmp_path / "a.zip").read(0, 0, 120, 0, 120), PIXELS)


@pytest.mark.parametrize("inside", ["export/data/a.zarr/", "a.zarr\\", "./", "./a.zarr/"])
def test_a_store_is_found_however_deep_and_however_its_names_are_spelled(tmp_path: Path, inside: str) -> None:
    folder = store(tmp_path)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("notes/readme.txt", b"hello")
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                name = str(path.relative_to(folder))
                file.writestr(
                    inside + (name.replace("/", "\\") if "\\" in inside else name), path.read_bytes()
                )
    np.testing.assert_array_equal(open_section(tmp_path / "a.zip").read(0, 0, 120, 0, 120), PIXELS)
    if inside == "./a.zarr/":
        named = open_section(tmp_path / "a.zip" / "a.zarr")
        np.testing.assert_array_equal(named.read(0, 0, 120, 0, 120), PIXELS)


def test_of_several_stores_in_a_zip_file_one_is_named(tmp_path: Path) -> None:
    folder = store(tmp_path)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for name in ("one.zarr", "two.zarr"):
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    file.write(path, f"{name}/{path.relative_to(folder)}")
    with pytest.raises(InputError, match=r"holds 2 stores; name one, such as (.*)\.$") as error:
        open_section(tmp_path / "a.zip")
    named = open_section(str(error.value).split("such as ")[1].rstrip("."))
    np.testing.assert_array_equal(named.read(0, 0, 120, 0, 120), PIXELS)

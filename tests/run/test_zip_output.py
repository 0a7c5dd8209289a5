"""An output in a zip file: packed when it is whole, resumed where it was stopped, replaced only where a run made it."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from engine_toys import Fir, go, save_zarr

from bigrestore.errors import OutputError, UsageError
from bigrestore.io.open_section import open_section
from bigrestore.io.store.pack import pack_store
from bigrestore.io.verify.store import verify_store


def test_a_zip_file_holds_what_the_store_would(tmp_path: Path, tissue: np.ndarray) -> None:
    source = save_zarr(tmp_path / "in.zarr", tissue)
    go(source, tmp_path / "a.ome.zarr", Fir())
    go(source, tmp_path / "a.ome.zarr.zip", Fir())
    with zipfile.ZipFile(tmp_path / "a.ome.zarr.zip") as packed:
        names = {name for name in packed.namelist() if "/c/" in name}
        for name in names:
            assert packed.read(name) == (tmp_path / "a.ome.zarr" / name).read_bytes()
    assert names == {
        path.relative_to(tmp_path / "a.ome.zarr").as_posix()
        for path in (tmp_path / "a.ome.zarr").rglob("*")
        if path.is_file() and path.name != "zarr.json"
    }
    assert verify_store(tmp_path / "a.ome.zarr.zip") == []
    assert open_section(tmp_path / "a.ome.zarr.zip").details["bigrestore"]
    assert not (tmp_path / "a.ome.zarr.zip.bigrestore" / "store.ome.zarr").exists()

    before = (tmp_path / "a.ome.zarr.zip").read_bytes()
    assert go(source, tmp_path / "a.ome.zarr.zip", Fir(), resume=True).blocks_restored == 0
    (tmp_path / "a.ome.zarr.zip").write_bytes(before[:-100])
    go(source, tmp_path / "a.ome.zarr.zip", Fir(), resume=True)
    assert (tmp_path / "a.ome.zarr.zip").read_bytes() == before
    go(source, tmp_path / "a.ome.zarr.zip", Fir(), overwrite=True)
    assert (tmp_path / "a.ome.zarr.zip").read_bytes() == before


def test_a_foreign_zip_file_is_not_replaced(tmp_path: Path, tissue: np.ndarray) -> None:
    source = save_zarr(tmp_path / "in.zarr", tissue)
    pack_store(source, tmp_path / "mine.ome.zarr.zip")
    with pytest.raises(OutputError, match="no zip file that a run"):
        go(source, tmp_path / "mine.ome.zarr.zip", Fir(), overwrite=True)
    assert open_section(tmp_path / "mine.ome.zarr.zip").shape == open_section(source).shape


@pytest.mark.parametrize("name", ["a.ozx", "a.ome.zarr.zip", "A.OZX"])
def test_the_file_is_what_rfc_9_recommends(tmp_path: Path, tissue: np.ndarray, name: str) -> None:
    source = save_zarr(tmp_path / "in.zarr", tissue)
    go(source, tmp_path / name, Fir())
    with zipfile.ZipFile(tmp_path / name) as packed:
        entries, comment = packed.infolist(), json.loads(packed.comment)
    assert comment == {"ome": {"version": "0.5", "zipFile": {"centralDirectory": {"jsonFirst": True}}}}
    names = [entry.filename for entry in entries]
    metadata = [one for one in names if one.endswith("zarr.json")]
    assert names[: len(metadata)] == metadata
    assert names[0] == "zarr.json"
    assert [one.count("/") for one in metadata] == sorted(one.count("/") for one in metadata)
    assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
    assert [entry.header_offset for entry in entries] == sorted(entry.header_offset for entry in entries)
    assert verify_store(tmp_path / name) == []
    go(source, tmp_path / "plain.ome.zarr", Fir())
    window = (0, 0, tissue.shape[0], 0, tissue.shape[1])
    np.testing.assert_array_equal(
        open_section(tmp_path / name).read(*window), open_section(tmp_path / "plain.ome.zarr").read(*window)
    )


def test_ozx_files_are_sections_of_a_volume(tmp_path: Path, tissue: np.ndarray) -> None:
    source = save_zarr(tmp_path / "in.zarr", tissue[:200, :200])
    (tmp_path / "sections").mkdir()
    for index in range(2):
        go(source, tmp_path / "sections" / f"s{index}.ozx", Fir())
    assert open_section(tmp_path / "sections").shape == (2, 200, 200)


def test_a_foreign_ozx_file_is_not_replaced(tmp_path: Path, tissue: np.ndarray) -> None:
    source = save_zarr(tmp_path / "in.zarr", tissue[:200, :200])
    pack_store(source, tmp_path / "mine.ozx")
    with zipfile.ZipFile(tmp_path / "mine.ozx") as packed:
        assert packed.comment == b"", "an array alone is no OME-Zarr"
    with pytest.raises(OutputError, match="no zip file that a run"):
        go(source, tmp_path / "mine.ozx", Fir(), overwrite=True)


def test_ozx_is_never_of_version_0_4(tmp_path: Path, tissue: np.ndarray) -> None:
    source = save_zarr(tmp_path / "in.zarr", tissue[:200, :200])
    with pytest.raises(UsageError, match=r"--format is 0\.4, and a\.ozx is OME-Zarr 0\.5"):
        go(source, tmp_path / "a.ozx", Fir(), format="0.4")
    go(source, tmp_path / "old.ome.zarr", Fir(), format="0.4")
    go(tmp_path / "old.ome.zarr", tmp_path / "new.ozx", Fir())
    assert open_section(tmp_path / "new.ozx").format_version == "0.5"

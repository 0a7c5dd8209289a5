"""An output in a zip file: packed when it is whole, resumed where it was stopped, replaced only where a run made it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from engine_toys import Fir, go, save_zarr

from bigrestore.errors import OutputError
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

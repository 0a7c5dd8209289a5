"""A file behind a URL that is replaced while a run reads it, or between two of its steps, is never mixed with itself."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from bucket_toys import content, empty, names, put
from bucket_toys import run as run_in
from engine_toys import Fir, go
from loopback import Behaviour, serving

from bigrestore.errors import BigrestoreError, OutputExistsError
from bigrestore.io.access import remote_requests
from bigrestore.io.access.versions import recording_reads
from bigrestore.io.open_section import open_section
from bigrestore.model.method import TileBatch

pytest.importorskip("aiohttp")
pytestmark = pytest.mark.filterwarnings("default")  # the libraries behind s3 warn of themselves
Pixels = np.ndarray[Any, Any]
PLACE = 30, 330
CHUNK_PX = 240
CHUNK = f"c/{PLACE[0] // CHUNK_PX}/{PLACE[1] // CHUNK_PX}"


@pytest.fixture
def pixels(tissue: np.ndarray) -> Pixels:
    return np.ascontiguousarray(tissue[:480, :960])


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Any]]:
    monkeypatch.setattr(remote_requests, "REQUEST_WAITS_SECONDS", (0.01, 0.01))
    behaviour = Behaviour(tags=True)
    (tmp_path / "www").mkdir()
    with serving(tmp_path / "www", behaviour) as url:
        yield url, behaviour


def changed(pixels: Pixels) -> Pixels:
    other = pixels.copy()
    other[PLACE] ^= 1
    return other


def write_tiff(path: Path, pixels: Pixels) -> None:
    tifffile.imwrite(path, pixels, tile=(128, 128))


def write_store(path: Path, pixels: Pixels) -> None:
    shutil.rmtree(path, ignore_errors=True)
    zarr.create_array(path, data=pixels, chunks=(CHUNK_PX, CHUNK_PX), compressors=None)


def write_shards(path: Path, pixels: Pixels) -> None:
    shutil.rmtree(path, ignore_errors=True)
    zarr.create_array(path, data=pixels, chunks=(CHUNK_PX, CHUNK_PX), shards=(480, 480), compressors=None)


WRITERS = {"a.tif": write_tiff, "a.zarr": write_store, "b.zarr": write_shards}


def once(at: int, act: Callable[[], None]) -> Fir:
    def hook(call: int, _: TileBatch) -> None:
        if call == at:
            act()

    return Fir(hook=hook)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("tags", [True, False])
def test_a_file_that_is_replaced_while_a_run_reads_it_gives_no_output(
    tmp_path: Path, server: tuple[str, Any], pixels: Pixels, name: str, tags: bool
) -> None:
    """Without tags and times the size of a file is all that a server says; then only another size is seen."""
    url, behaviour = server
    behaviour.tags = tags
    path, write, out = tmp_path / "www" / name, WRITERS[name], tmp_path / "out.ome.zarr"
    write(path, pixels)

    def act() -> None:
        write(path, changed(pixels))
        if not tags:
            file = {"a.tif": path, "a.zarr": path / CHUNK, "b.zarr": path / "c/0/0"}[name]
            file.write_bytes(file.read_bytes() + b" ")

    with pytest.raises(BigrestoreError) as info:
        go(f"{url}/{name}", out, once(9, act), threads=1).raise_if_failed()
    assert info.value.exit_code in (3, 5)
    with pytest.raises(OutputExistsError):
        go(f"{url}/{name}", out, Fir(), resume=True)


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_is_replaced_between_two_steps_is_another_unless_its_pixels_are_the_same(
    tmp_path: Path, server: tuple[str, Any], pixels: Pixels, name: str
) -> None:
    url, _ = server
    path, write, out = tmp_path / "www" / name, WRITERS[name], tmp_path / "out.ome.zarr"
    write(path, pixels)
    go(f"{url}/{name}", out, Fir(), init_only=True)
    go(f"{url}/{name}", out, Fir(), shard="1/2")
    write(path, changed(pixels))
    with pytest.raises(OutputExistsError, match="was changed since"):
        go(f"{url}/{name}", out, Fir(), resume=True)
    write(path, pixels)
    assert go(f"{url}/{name}", out, Fir(), resume=True).blocks_restored == 1


def test_parts_of_two_versions_are_never_put_together(
    tmp_path: Path, server: tuple[str, Any], pixels: Pixels
) -> None:
    url, _ = server
    for name, write in WRITERS.items():
        path = tmp_path / "www" / name
        write(path, pixels)
        section = open_section(f"{url}/{name}")
        with recording_reads() as reads:
            section.read(0, 0, 60, 300, 360)
        assert reads[0].version == section.version(0, 0, 60, 300, 360)
        write(path, changed(pixels))
        again = (
            (0, 400, 460, 800, 860) if name == "a.tif" else (0, 0, 60, 300, 360)
        )  # tiles of a TIFF are kept
        with pytest.raises(BigrestoreError, match="was replaced on its server while it was read"):
            section.read(*again)
        assert section.version(0, 0, 60, 300, 360, fresh=True) != reads[0].version
        assert open_section(f"{url}/{name}").read(0, 0, 60, 300, 360)[30, 30] == pixels[PLACE] ^ 1


def test_an_object_that_is_replaced_while_a_run_reads_it(
    tmp_path: Path, bucket: dict[str, Any], pixels: Pixels
) -> None:
    empty(bucket)
    write_store(tmp_path / "a.zarr", pixels)
    for path in (tmp_path / "a.zarr").rglob("*"):
        if path.is_file():
            put(bucket, f"in/{path.relative_to(tmp_path).as_posix()}", path.read_bytes())
    chunk = f"in/a.zarr/{CHUNK}"
    assert chunk in names(bucket)
    whole, settings = content(bucket, chunk), {"init_only": True}
    out = tmp_path / "out.ome.zarr"
    run_in("s3://brain/in/a.zarr", out, bucket, **settings)
    run_in("s3://brain/in/a.zarr", out, bucket, shard="1/2")
    at = PLACE[0] % CHUNK_PX * CHUNK_PX + PLACE[1] % CHUNK_PX
    put(bucket, chunk, whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    for step in ({"resume": True}, {"finalize": True}):
        with pytest.raises(OutputExistsError, match="was changed since"):
            run_in("s3://brain/in/a.zarr", out, bucket, **step)
    put(bucket, chunk, whole)
    assert run_in("s3://brain/in/a.zarr", out, bucket, resume=True).blocks_done == 2

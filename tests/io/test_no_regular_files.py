"""A pipe, a socket, a device or a circle of links in the place of any file that is read ends in a sentence that names it."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from bigrestore.core.files import read_sealed
from bigrestore.core.stated_blur import read_kernel
from bigrestore.core.urls import parse_options
from bigrestore.degradation.schema import Recipe
from bigrestore.errors import InputError, InputMissingError
from bigrestore.io.open_section import open_section
from bigrestore.io.verify.metadata import read_metadata
from bigrestore.io.verify.store import verify_store
from bigrestore.model.nets.checkpoint import find_model, read_checkpoint
from bigrestore.report.metrics.nss.niqe_model import load_niqe_model
from bigrestore.run.state.checksums import is_unchanged
from bigrestore.settings.reading import load_config
from bigrestore.training.data.images import find_images

KINDS = {"pipe": "a pipe", "socket": "a socket", "device": "a device", "circle": "leads in a circle"}
PIXELS = np.random.default_rng(0).integers(0, 255, (60, 60), dtype=np.uint8)


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """End a test that waits for a pipe."""

    def over(*_: object) -> None:
        raise TimeoutError("a file was opened that never ends")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def put(kind: str, path: Path) -> Path:
    """Put something that is no regular file into a place."""
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        before = Path.cwd()
        os.chdir(path.parent)  # the names of sockets are short
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
        os.chdir(before)
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path)
    return path


def store(path: Path, zarr_format: Any) -> Path:
    zarr.create_array(path, data=PIXELS, chunks=(30, 30), zarr_format=zarr_format)
    return path


def read_all(place: Path | str) -> None:
    section = open_section(place)
    section.read(section.depth - 1, 0, section.height, 0, section.width)


def refused(kind: str, path: Path, read: Callable[[], object], *, in_store: bool = False) -> None:
    """Read, and see that the sentence names the path and what it is."""
    said = "leads out of the store" if kind == "device" and in_store else KINDS[kind]
    with pytest.raises(InputError) as error:
        read()
    assert not isinstance(error.value, InputMissingError), error.value
    assert said in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("zarr_format", "name"), [(3, "c/1/1"), (3, "zarr.json"), (2, "1.1"), (2, ".zarray"), (2, ".zattrs")]
)
def test_in_a_store(tmp_path: Path, kind: str, zarr_format: int, name: str) -> None:
    path = put(kind, store(tmp_path / "a.zarr", zarr_format) / name)
    refused(kind, path, lambda: read_all(tmp_path / "a.zarr"), in_store=True)


def test_in_the_place_of_a_folder_of_chunks(tmp_path: Path, kind: str) -> None:
    place = store(tmp_path / "a.zarr", 3) / "c/1"
    for chunk in place.iterdir():
        chunk.unlink()
    place.rmdir()
    refused(kind, put(kind, place), lambda: read_all(tmp_path / "a.zarr"), in_store=True)


def test_what_a_store_does_not_read_is_no_obstacle(tmp_path: Path, kind: str) -> None:
    put(kind, store(tmp_path / "a.zarr", 3) / "c/stray")
    put(kind, tmp_path / "a.zarr/stray")
    read_all(tmp_path / "a.zarr")


def test_a_chunk_that_links_to_a_missing_file_is_no_missing_chunk(tmp_path: Path) -> None:
    chunk = store(tmp_path / "a.zarr", 3) / "c/1/1"
    chunk.unlink()
    chunk.symlink_to(tmp_path / "a.zarr/gone")
    with pytest.raises(InputError, match="c/1/1 is a link to a file that is not there; fetch"):
        read_all(tmp_path / "a.zarr")
    chunk.unlink()
    read_all(tmp_path / "a.zarr")


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.mnc", "a.nii.gz", "a.zip", "a.zarr"])
def test_as_the_input(tmp_path: Path, kind: str, name: str) -> None:
    path = put(kind, tmp_path / name)
    refused(kind, path, lambda: open_section(path))
    refused(kind, path, lambda: verify_store(path))


@pytest.mark.parametrize("given", ["", "p*.png"])
def test_among_section_files(tmp_path: Path, kind: str, given: str) -> None:
    for number in (1, 3):
        Image.fromarray(PIXELS).save(tmp_path / f"p{number}.png")
    path = put(kind, tmp_path / "p2.png")
    refused(kind, path, lambda: open_section(f"{tmp_path}/{given}"))
    refused(kind, path, lambda: open_section([tmp_path / f"p{number}.png" for number in (1, 2, 3)]))


def test_a_file_that_is_replaced_while_it_is_read(tmp_path: Path, kind: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, tile=(16, 16))
    section = open_section(tmp_path / "a.tif")
    path = put(kind, tmp_path / "a.tif")
    refused(kind, path, lambda: section.read(0, 0, 60, 0, 60))


READERS: dict[str, Callable[[Path], object]] = {
    "k.npy": read_kernel,
    "k.txt": read_kernel,
    "run.toml": load_config,
    "r.toml": lambda path: Recipe.load(str(path)),
    "m.safetensors": lambda path: find_model(path, 1),
    "n.safetensors": read_checkpoint,
    "n.npz": load_niqe_model,
    "o.json": lambda path: parse_options(f"@{path}"),
    "t.png": find_images,
    "in/t.png": lambda path: find_images(path.parent),
    "in/t.npz": lambda path: find_images(path.parent),
}


@pytest.mark.parametrize("name", READERS)
def test_in_the_place_of_what_else_is_read(tmp_path: Path, kind: str, name: str) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(PIXELS).save(tmp_path / "in/other.png")
    path = put(kind, tmp_path / name)
    refused(kind, path, lambda: READERS[name](path))


def test_beside_an_output(tmp_path: Path, kind: str) -> None:
    path = put(kind, tmp_path / "zarr.json")
    assert read_sealed(path) is None
    assert not read_metadata(path)
    assert not is_unchanged(path, [0, 0, ""], thorough=True)

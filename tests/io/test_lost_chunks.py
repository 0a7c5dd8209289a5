"""A store whose chunks lie under other names than its metadata say is no black image."""

from __future__ import annotations

import itertools
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from bigrestore.errors import InputError
from bigrestore.io.open_section import open_section

FORMS = {
    "0.0": (2, {"name": "v2", "separator": "."}),
    "0/0": (2, {"name": "v2", "separator": "/"}),
    "c/0/0": (3, {"name": "default", "separator": "/"}),
    "c.0.0": (3, {"name": "default", "separator": "."}),
    "v3 0.0": (3, {"name": "v2", "separator": "."}),
    "v3 0/0": (3, {"name": "v2", "separator": "/"}),
}
"""Ways to name chunks: the version of Zarr and its metadata."""


def values(*shape: int) -> NDArray[Any]:
    """Return random pixels, none of them 0."""
    return np.random.default_rng(0).integers(1, 255, shape).astype(np.uint8)


def write(path: Path, form: str, pixels: NDArray[Any], **options: Any) -> zarr.Array[Any]:
    version, encoding = FORMS[form]
    array: Any = zarr.create_array(
        path, shape=pixels.shape, dtype=pixels.dtype, chunks=(32,) * pixels.ndim, zarr_format=version,
        chunk_key_encoding=encoding, **options,
    )  # fmt: skip
    array[...] = pixels
    return array


def say(path: Path, form: str) -> None:
    """Change the metadata of an array to name its chunks in another way."""
    version, encoding = FORMS[form]
    file = path / (".zarray" if version == 2 else "zarr.json")
    stated = json.loads(file.read_text())
    if version == 3:
        separator = {"separator": encoding["separator"]}
        stated["chunk_key_encoding"] = {"name": encoding["name"], "configuration": separator}
    elif encoding["separator"] == ".":
        del stated["dimension_separator"]
    else:
        stated["dimension_separator"] = "/"
    file.write_text(json.dumps(stated))


PAIRS = [pair for pair in itertools.permutations(FORMS, 2) if FORMS[pair[0]][0] == FORMS[pair[1]][0]]


@pytest.mark.parametrize(("stored", "said"), PAIRS, ids=lambda form: form.replace("/", "|"))
def test_chunks_under_other_names_are_refused(tmp_path: Path, stored: str, said: str) -> None:
    path, pixels = tmp_path / "a.zarr", values(100, 120)
    write(path, stored, pixels)
    np.testing.assert_array_equal(open_section(path).read(0, 0, 100, 0, 120), pixels)
    say(path, said)
    assert not np.any(zarr.open_array(path, mode="r")[...]), "zarr itself reads zeros"
    with pytest.raises(InputError) as info:
        open_section(path)
    form = stored.removeprefix("v3 ")
    assert f"under names such as {form}, but its metadata say {said.removeprefix('v3 ')}" in str(info.value)
    remedy = (
        f'"dimension_separator": "{FORMS[stored][1]["separator"]}"' if FORMS[said][0] == 2 else "zarr.json"
    )
    assert remedy in str(info.value)


def test_the_remedy_brings_the_image_back(tmp_path: Path, call: Callable[..., int], capfd: Any) -> None:
    path, pixels = tmp_path / "a.zarr", values(100, 120)
    write(path, "0/0", pixels)
    say(path, "0.0")
    words = ("--method", "catmull-rom", "--mask", "none", "--no-report", "--progress", "none")
    assert call("run", path, tmp_path / "out.zarr", *words) == 3
    assert 'write "dimension_separator": "/" into' in capfd.readouterr().err
    assert not (tmp_path / "out.zarr").exists()
    say(path, "0/0")
    assert call("run", path, tmp_path / "out.zarr", *words) == 0
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "out.zarr" / "0", mode="r")[...], pixels)


@pytest.mark.parametrize("where", ["zip", "url", "volume", "level", "sparse"])
def test_they_are_found_wherever_they_lie(tmp_path: Path, where: str, server: str) -> None:
    path = tmp_path / "a.zarr"
    if where == "level":
        group = zarr.open_group(path, mode="w", zarr_format=2)
        sizes = (128, 64)
        for number, size in enumerate(sizes):
            write(path / str(number), "0/0", values(size, size))
        transforms = [[{"type": "scale", "scale": [2.0**n] * 2}] for n in range(2)]
        datasets = [
            {"path": str(n), "coordinateTransformations": steps} for n, steps in enumerate(transforms)
        ]
        axes = [{"name": axis, "type": "space"} for axis in "yx"]
        group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
        assert open_section(path).levels == ((1, 128, 128), (1, 64, 64))
        say(path / "1", "0.0")
    else:
        pixels = values(100, 120, 110) if where == "volume" else values(400, 400)
        if where == "sparse":
            pixels[:] = 0
            pixels[40:60, 200:220] = 9  # one chunk, where nobody looks first
        write(path, "0/0", pixels)
        say(path, "0.0")
    source: Path | str = path
    if where == "zip":
        source = tmp_path / "a.zip"
        with zipfile.ZipFile(source, "w") as packed:
            for file in path.rglob("*"):
                packed.write(file, file.relative_to(path))
    if where == "url":
        source = f"{server}/a.zarr"
    with pytest.raises(InputError, match=r"under names such as 0/0, but its metadata say 0\.0"):
        open_section(source)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fill", [0, 77])
def test_an_image_without_any_chunk_is_said_to_be_its_fill_value(
    tmp_path: Path, form: str, fill: int, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "a.zarr", form, np.full((100, 120), fill, np.uint8), fill_value=fill)
    section = open_section(tmp_path / "a.zarr")
    assert f"has no stored chunk; every pixel is its fill value {fill}" in caplog.text
    assert (section.read(0, 0, 100, 0, 120) == fill).all()


@pytest.mark.parametrize("form", FORMS)
def test_a_sparse_image_meets_no_word(tmp_path: Path, form: str, caplog: pytest.LogCaptureFixture) -> None:
    pixels = np.zeros((400, 400), np.uint8)
    pixels[40:60, 200:220] = 9
    write(tmp_path / "a.zarr", form, pixels)
    np.testing.assert_array_equal(open_section(tmp_path / "a.zarr").read(0, 0, 400, 0, 400), pixels)
    assert not caplog.records


def test_shards_are_looked_for_by_their_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pixels = values(256, 256)
    write(tmp_path / "a.zarr", "c/0/0", pixels, shards=(128, 128))
    np.testing.assert_array_equal(open_section(tmp_path / "a.zarr").read(0, 0, 256, 0, 256), pixels)
    assert not caplog.records
    say(tmp_path / "a.zarr", "c.0.0")
    with pytest.raises(InputError, match="under names such as c/0/0"):
        open_section(tmp_path / "a.zarr")

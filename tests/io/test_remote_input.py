"""Inputs behind a URL read as those on the disk do, in ranges, again after a failure, and without telling a secret."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from loopback import Behaviour, serving
from PIL import Image

from bigrestore.core.urls import parse_options
from bigrestore.errors import InputError, InputMissingError, UsageError
from bigrestore.io.access import places
from bigrestore.io.access.places import OPTIONS_VARIABLE
from bigrestore.io.open_section import open_section

pytest.importorskip("aiohttp")


def pixels(side: int = 200) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).integers(0, 255, (side, side), dtype=np.uint8)


def write_ome(store: Path, **options: Any) -> None:
    group = zarr.create_group(store)
    group.create_array("0", data=pixels(), chunks=(50, 50), **options)
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    scale = [{"type": "scale", "scale": [2.0, 2.0]}]
    image = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    group.attrs.put({"ome": {"version": "0.5", "multiscales": [image]}})


@pytest.mark.parametrize("shards", [None, (100, 100)])
def test_a_remote_store_reads_as_the_local_one(
    tmp_path: Path, server: str, behaviour: Behaviour, shards: Any
) -> None:
    write_ome(tmp_path / "a.ome.zarr", shards=shards)
    section = open_section(f"{server}/a.ome.zarr")
    assert (section.kind, section.voxel_size_um) == ("ome-zarr", (None, 2.0, 2.0))
    behaviour.asked.clear()
    np.testing.assert_array_equal(section.read(0, 30, 48, 60, 90), pixels()[30:48, 60:90])
    touched = {path for path, _ in behaviour.asked if "/c/" in path}
    assert len(touched) == 1, "chunks were fetched that the window does not touch"
    first = section.fingerprint()
    assert first == open_section(f"{server}/a.ome.zarr/").fingerprint()


@pytest.mark.parametrize("layout", [{"tile": (64, 64)}, {"rowsperstrip": 32}])
def test_a_remote_tiff_is_read_in_parts(
    tmp_path: Path, server: str, behaviour: Behaviour, layout: Any
) -> None:
    big = pixels(1600)
    tifffile.imwrite(tmp_path / "a.tif", big, compression="deflate", **layout)
    section = open_section(f"{server}/a.tif")
    np.testing.assert_array_equal(section.read(0, 10, 30, 100, 140), big[10:30, 100:140])
    sent = sum(1 for _, span in behaviour.asked if span)
    assert sent, "no range was asked for"
    assert all(span for path, span in behaviour.asked if path and span is None)


def test_remote_png_and_jpeg(tmp_path: Path, server: str) -> None:
    Image.fromarray(pixels()).save(tmp_path / "a.png")
    np.testing.assert_array_equal(open_section(f"{server}/a.png").read(0, 0, 200, 0, 200), pixels())
    Image.fromarray(pixels()).save(tmp_path / "a.jpg", quality=95)
    assert open_section(f"{server}/a.jpg").shape == (1, 200, 200)


def test_a_remote_stack_of_named_files(tmp_path: Path, server: str) -> None:
    for number in (2, 10):
        Image.fromarray(pixels() // number).save(tmp_path / f"pm{number}.png")
    section = open_section([f"{server}/pm2.png", f"{server}/pm10.png"])
    np.testing.assert_array_equal(section.read(1, 0, 9, 0, 9), pixels()[:9, :9] // 10)


def test_a_request_is_repeated_after_a_failure(tmp_path: Path, server: str, behaviour: Behaviour) -> None:
    write_ome(tmp_path / "a.ome.zarr")
    section = open_section(f"{server}/a.ome.zarr")
    behaviour.failures = 2
    np.testing.assert_array_equal(section.read(0, 0, 40, 0, 40), pixels()[:40, :40])
    behaviour.failures = 100
    with pytest.raises(InputError, match="check the URL, the network"):
        section.read(0, 60, 90, 60, 90)


def test_a_server_without_ranges_sends_each_file_once(
    tmp_path: Path, server: str, behaviour: Behaviour
) -> None:
    """It sends the whole file where a part was asked for, and the whole begins with other pixels."""
    behaviour.ranges = False
    write_ome(tmp_path / "a.ome.zarr", shards=(100, 100))
    section = open_section(f"{server}/a.ome.zarr")
    np.testing.assert_array_equal(section.read(0, 60, 90, 60, 90), pixels()[60:90, 60:90])
    write_ome(tmp_path / "b.ome.zarr")
    np.testing.assert_array_equal(open_section(f"{server}/b.ome.zarr").read(0, 0, 9, 0, 9), pixels()[:9, :9])
    big = pixels(1600)
    assert big.nbytes > places.WINDOW_BYTES
    tifffile.imwrite(tmp_path / "a.tif", big, tile=(64, 64))
    behaviour.asked.clear()
    section = open_section(f"{server}/a.tif")
    np.testing.assert_array_equal(section.read(0, 10, 1590, 100, 140), big[10:1590, 100:140])
    assert len([span for path, span in behaviour.asked if span]) == 1
    tifffile.imwrite(tmp_path / "a.tif", big // 2, tile=(64, 64))
    section = open_section(f"{server}/a.tif")
    np.testing.assert_array_equal(section.read(0, 10, 30, 100, 140), big[10:30, 100:140] // 2)


def test_a_large_file_of_a_server_without_ranges_is_named_with_the_remedy(
    tmp_path: Path, server: str, behaviour: Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    behaviour.ranges = False
    monkeypatch.setattr(places, "WHOLE_BYTES", 1 << 20)
    tifffile.imwrite(tmp_path / "b.tif", pixels(1600), tile=(64, 64))
    with pytest.raises(InputError, match=r"does not send parts of files, and .* 1 MiB; download it"):
        open_section(f"{server}/b.tif")
    assert not [place for place in places._whole if place.name == "b.tif"]


def test_a_server_that_is_down_is_not_taken_for_a_missing_file(
    behaviour: Behaviour, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "bigrestore")
    with serving(Path("/nowhere"), behaviour) as url:
        pass
    for name in ("a.tif", "a.ome.zarr"):
        caplog.clear()
        with pytest.raises(InputError, match=r"cannot be read .*check the URL, the network") as error:
            open_section(f"{url}/{name}")
        assert not isinstance(error.value, InputMissingError)
        assert caplog.text.count("trying again") == 2


def test_what_is_not_there(server: str) -> None:
    with pytest.raises(InputMissingError, match="does not exist"):
        open_section(f"{server}/nothing.ome.zarr")


def test_no_secret_is_told(
    tmp_path: Path,
    server: str,
    behaviour: Behaviour,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG, "bigrestore")
    write_ome(tmp_path / "a.ome.zarr")
    behaviour.password = "Bearer sesame"
    secret = {"headers": {"Authorization": behaviour.password}}
    with pytest.raises(InputError) as error:
        open_section(
            f"{server.replace('//', '//joe:hunter2@')}/a.ome.zarr?X-Amz-Signature=abcdef", storage_options={}
        )
    section = open_section(f"{server}/a.ome.zarr", storage_options=secret)
    monkeypatch.setenv(OPTIONS_VARIABLE, json.dumps(secret))
    assert open_section(f"{server}/a.ome.zarr").shape == section.shape
    told = str(error.value) + caplog.text + repr(section) + json.dumps(section.fingerprint()) + section.source
    for word in ("hunter2", "abcdef", "sesame"):
        assert word not in told


def test_options_that_are_none(tmp_path: Path) -> None:
    for text in ("{", "[1]", '"secret"'):
        with pytest.raises(UsageError, match="no JSON object") as error:
            parse_options(text)
        assert "secret" not in str(error.value)
    (tmp_path / "o.json").write_text('{"anon": true}')
    assert parse_options(f"@{tmp_path / 'o.json'}") == {"anon": True}
    with pytest.raises(UsageError, match="cannot be read"):
        parse_options("@/nowhere/o.json")


@pytest.mark.filterwarnings("default")  # the libraries behind s3 warn of themselves
def test_a_store_in_a_bucket(tmp_path: Path, bucket: dict[str, Any]) -> None:
    write_ome(tmp_path / "a.ome.zarr", shards=(100, 100))
    for path in (tmp_path / "a.ome.zarr").rglob("*"):
        if path.is_file():
            bucket["client"].upload_file(str(path), "brain", f"deep/{path.relative_to(tmp_path)}")
    section = open_section("s3://brain/deep/a.ome.zarr", storage_options=bucket["options"])
    np.testing.assert_array_equal(section.read(0, 0, 200, 0, 200), pixels())
    for number in (2, 10):
        Image.fromarray(pixels() // number).save(tmp_path / "one.png")
        bucket["client"].upload_file(str(tmp_path / "one.png"), "brain", f"sections/pm{number}.png")
    stack = open_section("s3://brain/sections/pm*.png", storage_options=bucket["options"])
    np.testing.assert_array_equal(stack.read(1, 0, 9, 0, 9), pixels()[:9, :9] // 10)
    with pytest.raises(InputMissingError):
        open_section("s3://brain/deep/none.ome.zarr", storage_options=bucket["options"])

"""Servers are not believed: another range than was asked for is refused, and secrets go to no other host and no file."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from loopback import Behaviour, serving

from bigrestore.core.urls import shown_arguments, without_secrets
from bigrestore.errors import InputError
from bigrestore.io.access.web import WrongAnswerError, require_range, s3_range
from bigrestore.io.open_section import open_section

pytest.importorskip("aiohttp")

Pixels = np.ndarray[Any, Any]
SECRETS = {"Authorization": "Bearer sesame", "X-Api-Key": "sesame", "Cookie": "id=sesame"}


def pixels(side: int = 1600) -> Pixels:
    return np.random.default_rng(1).integers(0, 255, (side, side), dtype=np.uint8)


def neighbour(content: bytes, first: int, stop: int) -> tuple[bytes, str]:
    """Answer as a cache does that mixes up two tiles."""
    moved = min(len(content) - stop, 256)
    first, stop = first + moved, stop + moved
    return content[first:stop], f"bytes {first}-{stop - 1}/{len(content)}"


def too_few(content: bytes, first: int, stop: int) -> tuple[bytes, str]:
    return content[first : stop - 9], f"bytes {first}-{stop - 10}/{len(content)}"


def too_many(content: bytes, first: int, stop: int) -> tuple[bytes, str]:
    return content[first : stop + 9], f"bytes {first}-{stop - 1}/{len(content)}"


def unstated(content: bytes, first: int, stop: int) -> tuple[bytes, str]:
    return content[first:stop], ""


def in_other_units(content: bytes, first: int, stop: int) -> tuple[bytes, str]:
    return content[first:stop], f"rows {first}-{stop - 1}/{len(content)}"


def of_another_file(content: bytes, first: int, stop: int) -> tuple[bytes, str]:
    return content[first:stop], f"bytes {first}-{stop - 1}/{len(content) + 1}"


FAULTS = [neighbour, too_few, too_many, unstated, in_other_units, of_another_file]


@pytest.mark.parametrize("garble", FAULTS)
@pytest.mark.parametrize("kind", ["tiff", "store"])
def test_another_range_than_was_asked_for_is_never_taken(
    tmp_path: Path, server: str, behaviour: Behaviour, kind: str, garble: Callable[..., tuple[bytes, str]]
) -> None:
    if kind == "tiff":
        tifffile.imwrite(tmp_path / "a", pixels(), tile=(64, 64))
    else:
        zarr.create_array(
            tmp_path / "a", data=pixels(), chunks=(200, 200), shards=(800, 800), compressors=None
        )
    section = open_section(f"{server}/a")
    behaviour.garble = garble
    with pytest.raises(InputError, match=r"cannot be read|replaced on its server"):
        section.read(0, 700, 900, 1300, 1500)
    behaviour.garble = None
    np.testing.assert_array_equal(section.read(0, 700, 900, 1300, 1500), pixels()[700:900, 1300:1500])


@pytest.mark.parametrize(
    ("stated", "length"),
    [
        ("", 4),
        ("bytes 3-6/10", 4),
        ("bytes 2-5/10", 3),
        ("bytes 2-4/10", 3),
        ("bytes 2-4/*", 3),
        ("bytes a-b/c", 4),
    ],
)
def test_a_range_is_compared_with_what_was_asked_for(stated: str, length: int) -> None:
    assert require_range("bytes 2-5/10", 2, 6, 4) == 10
    assert require_range("Bytes 2-5/*", 2, 6, 4) is None
    assert require_range("bytes 2-4/5", 2, 6, 3) == 5, "a file may end before"
    with pytest.raises(WrongAnswerError):
        require_range(stated, 2, 6, length)


@pytest.mark.parametrize("stated", ["bytes 7-10/20", "bytes 6-10/20", "", "bytes */20"])
def test_an_object_store_is_not_believed_either(stated: str) -> None:
    class Body:
        async def read(self) -> bytes:
            return b"abcd"

        def close(self) -> None:
            pass

    class System:
        def split_path(self, path: str) -> tuple[str, str, None]:
            return "bucket", path, None

        async def _call_s3(self, *_: Any, **__: Any) -> dict[str, Any]:
            return {"Body": Body(), "ContentRange": stated, "ETag": '"x"'}

    with pytest.raises(WrongAnswerError):
        asyncio.run(s3_range(System(), "a", 6, 10))


def leaks(behaviour: Behaviour) -> str:
    return " ".join(f"{name}: {value}" for seen in behaviour.headers for name, value in seen.items())


@pytest.mark.parametrize(
    "options",
    [
        {"headers": SECRETS},
        {"client_kwargs": {"headers": SECRETS}},
        {"client_kwargs": {"cookies": {"id": "sesame"}}},
        {"headers": {"X-Api-Key": "sesame"}, "cookies": {"id": "sesame"}},
    ],
)
def test_what_is_meant_for_a_server_stays_there(
    tmp_path: Path, server: str, behaviour: Behaviour, options: dict[str, Any]
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", pixels(), tile=(64, 64))
    other = Behaviour()
    with serving(tmp_path, other) as elsewhere:
        behaviour.onward = {"/b.tif": f"{elsewhere}/a.tif", "/c.tif": "/a.tif"}
        named = server if "Authorization" in str(options) else server.replace("//", "//joe:sesame@")
        section = open_section(f"{named}/b.tif", storage_options=options)
        np.testing.assert_array_equal(section.read(0, 9, 20, 700, 800), pixels()[9:20, 700:800])
        assert other.headers
        assert "sesame" not in leaks(other)
        assert "Basic" not in leaks(other)
        assert "sesame" in leaks(behaviour)
        behaviour.headers.clear()
        section = open_section(f"{server}/c.tif", storage_options=options)
        np.testing.assert_array_equal(section.read(0, 9, 20, 700, 800), pixels()[9:20, 700:800])
        assert all("sesame" in str(seen) for seen in behaviour.headers), "on the same host they are needed"


@pytest.mark.parametrize(
    ("onward", "said"),
    [
        ("/a.tif", "more than 10 times"),
        ("file:///etc/passwd", "file:, which is not followed"),
        ("s3://a/b", "s3:, which"),
    ],
)
def test_requests_that_are_sent_on_for_ever_or_elsewhere_end(
    server: str, behaviour: Behaviour, onward: str, said: str
) -> None:
    behaviour.onward = {"/a.tif": onward}
    with pytest.raises(InputError, match=said):
        open_section(f"{server}/a.tif")


@pytest.mark.parametrize(
    "password",
    ["hunter2", "hun@ter2", "@hunter2@", "hun/ter2", "hun?ter2", "hun#ter2", "hun'ter2", "hun ter2"],
)
def test_no_part_of_a_password_is_shown_or_stored(password: str) -> None:
    url = f"https://joe:{password}@example.org:8443/a@2x.ome.zarr?signature=hunter2"
    flags = ["--mask", url, f"--realness-map={url}"]
    for argument in shown_arguments(["bigrestore", "run", url, "out.zarr", *flags]):
        assert "ter2" not in argument
        assert "joe" not in argument
    assert "ter2" not in without_secrets(f"{url.replace(' ', '')} failed")
    if not set(password) & set(" '/?#"):
        assert without_secrets(url) == "https://example.org:8443/a@2x.ome.zarr"
        assert without_secrets(f"'{url}' failed") == "'https://example.org:8443/a@2x.ome.zarr' failed"
    plain = "https://example.org:8443/a@2x.ome.zarr and tcp://[::1]:80/x@y"
    assert without_secrets(plain) == plain


def test_a_run_stores_no_part_of_a_password(
    tmp_path: Path, server: str, call: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", pixels(300), tile=(64, 64))
    named = server.replace("//", "//joe:open@sesame@")
    out = tmp_path / "out.ome.zarr"
    assert (
        call("run", f"{named}/a.tif", out, "--method", "rational", "--no-report", "--progress", "none") == 0
    )
    run = json.loads(Path(f"{out}.bigrestore/run.json").read_text())
    assert f"{server}/a.tif" in run["argv"]
    for path in tmp_path.rglob("*.json"):
        assert "sesame" not in path.read_text()

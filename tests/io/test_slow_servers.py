"""A server that sends a byte now and then is ended by a limit for the whole request; one that is slow but steady is read."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from bigrestore.errors import InputError
from bigrestore.io.access import request_time
from bigrestore.io.access.places import RemoteFile
from bigrestore.io.access.request_time import TooSlowError, in_time
from bigrestore.io.open_section import open_section

pytest.importorskip("aiohttp")

SECONDS = 0.6
PIXELS = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)


@contextmanager
def dripping(content: bytes, part: int, pause_s: float, what: str, asked: list[str]) -> Iterator[str]:
    """Serve a file in parts with pauses between them: its ranges, the whole of it, or the headers of any answer."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # the pauses are those of `pause_s` alone

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(b"")

        def do_GET(self) -> None:
            self.answer(content)

        def answer(self, body: bytes) -> None:
            asked.append(self.command)
            span = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            status, stated = "200 OK", ""
            if span is not None and what != "whole":
                first, last = int(span[1]), min(int(span[2]), len(content) - 1)
                body = body[first : last + 1]
                status, stated = (
                    "206 Partial Content",
                    f"Content-Range: bytes {first}-{last}/{len(content)}\r\n",
                )
            length = len(content) if self.command == "HEAD" else len(body)
            head = f"HTTP/1.1 {status}\r\n{stated}Content-Length: {length}\r\n\r\n".encode()
            self.send_slowly(head, len(head) if what != "headers" else part)
            self.send_slowly(body, part)

        def send_slowly(self, data: bytes, part: int) -> None:
            for at in range(0, len(data), part):
                if over.wait(pause_s if at else 0):
                    return
                try:
                    self.wfile.write(data[at : at + part])
                    self.wfile.flush()
                except OSError:
                    return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/a.tif"
    finally:
        over.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def tiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    monkeypatch.setattr(request_time, "REQUEST_SECONDS", SECONDS)
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, tile=(16, 16))
    return (tmp_path / "a.tif").read_bytes()


@pytest.mark.parametrize("what", ["ranges", "whole", "headers"])
def test_a_byte_now_and_then_ends_with_url_and_limit(tiff: bytes, what: str) -> None:
    asked = list[str]()
    with dripping(tiff, 1, 0.05, what, asked) as url:
        started = time.monotonic()
        with pytest.raises(InputError) as error:
            open_section(url)
        seconds = time.monotonic() - started
    assert url in str(error.value)
    assert re.search(r"came within the limit of 1 s\); check the URL", str(error.value))
    assert seconds < 10
    assert asked.count("GET") <= 1, "what is too slow is not asked for again"


def test_what_comes_steadily_has_the_time_it_needs(tiff: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_time, "SLOWEST_BYTES_PER_SECOND", 1000)
    with dripping(tiff, len(tiff) // 9, 0.1, "ranges", []) as url:
        started = time.monotonic()
        section = open_section(url)
        np.testing.assert_array_equal(section.read(0, 0, 9, 0, 9), PIXELS[:9, :9])
    assert time.monotonic() - started > SECONDS


def test_a_library_without_such_a_limit_is_left_alone() -> None:
    with pytest.raises(TooSlowError, match="no whole answer came within the limit of 0 s"):
        in_time(lambda: time.sleep(30), 0.05)
    assert in_time(lambda: 5, 5.0) == 5

    def late() -> None:
        raise TimeoutError("the library's own")

    with pytest.raises(TimeoutError, match="the library's own"):
        in_time(late, 5.0)


@pytest.mark.parametrize(
    "request_it",
    [lambda place: place.children(), lambda place: place.matches(), lambda place: place.stat()],
    ids=["list", "pattern", "facts"],
)
def test_an_object_store_that_never_answers(
    monkeypatch: pytest.MonkeyPatch, request_it: Callable[[RemoteFile], object]
) -> None:
    from bigrestore.io.access import places

    class Silent:
        protocol = ("other",)

        def __getattr__(self, name: str) -> Any:
            return lambda *_, **__: None if name == "invalidate_cache" else time.sleep(30)

    monkeypatch.setattr(places, "REQUEST_SECONDS", 0.1)
    monkeypatch.setattr(places, "LISTING_SECONDS", 0.1)
    with pytest.raises(
        InputError, match=r"other://a/b cannot be read \(no whole answer came within the limit"
    ):
        request_it(RemoteFile("other://a/b", "a/b", Silent()))

"""A web server on this machine for tests: files of a folder, in ranges or without them, with faults on demand."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import attrs


@attrs.define
class Behaviour:
    """What the server does.

    `ranges`: whether it sends parts; `failures`: requests that it answers with 503 before it is well again; `password`:
    the Authorization header that it insists on; `asked`: what it was asked for, path and range; `headers`: with which
    headers; `tags`: whether it states an ETag; `onward`: where it sends requests on to, by path; `garble`: changes a
    range before it is sent, given content, first byte and the byte after the last, to body and Content-Range.
    """

    ranges: bool = True
    failures: int = 0
    password: str = ""
    tags: bool = False
    onward: dict[str, str] = attrs.field(factory=dict)
    garble: Callable[[bytes, int, int], tuple[bytes, str]] | None = None
    asked: list[tuple[str, str]] = attrs.field(factory=list)
    headers: list[dict[str, str]] = attrs.field(factory=list)


@contextmanager
def serving(folder: Path, behaviour: Behaviour) -> Iterator[str]:
    """Serve a folder while the context lasts; yield its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # or a body waits up to 40 ms for its headers to be acknowledged

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, with_body: bool) -> None:
            span = self.headers.get("Range", "")
            behaviour.asked.append((self.path, span))
            behaviour.headers.append(dict(self.headers))
            path = folder / urlsplit(self.path).path.lstrip("/")
            if behaviour.failures:
                behaviour.failures -= 1
                self.send(503, b"", with_body)
            elif behaviour.password and self.headers.get("Authorization") != behaviour.password:
                self.send(401, b"", with_body)
            elif self.path in behaviour.onward:
                self.send(302, b"", with_body, onward=behaviour.onward[self.path])
            elif not path.is_file():
                self.send(404, b"", with_body)
            else:
                self.send_file(path.read_bytes(), span, with_body)

        def send_file(self, content: bytes, span: str, with_body: bool) -> None:
            found = re.fullmatch(r"bytes=(\d+)-(\d*)", span)
            tag = f'"{md5(content, usedforsecurity=False).hexdigest()}"' if behaviour.tags else ""
            if found is None or not behaviour.ranges:
                self.send(200, content, with_body, tag=tag)
                return
            first = int(found[1])
            stop = min(len(content), int(found[2]) + 1 if found[2] else len(content))
            if first >= len(content):
                self.send(416, b"", with_body)
                return
            body, stated = content[first:stop], f"bytes {first}-{stop - 1}/{len(content)}"
            if behaviour.garble is not None:
                body, stated = behaviour.garble(content, first, stop)
            self.send(206, body, with_body, stated, tag)

        def send(
            self, status: int, body: bytes, with_body: bool, span: str = "", tag: str = "", onward: str = ""
        ) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if behaviour.ranges:
                self.send_header("Accept-Ranges", "bytes")
            for name, value in (("Content-Range", span), ("ETag", tag), ("Location", onward)):
                if value:
                    self.send_header(name, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

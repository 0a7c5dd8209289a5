"""The server of the page: Neuroglancer's own files and the shown images, for browsers of this machine only.

It listens on the loopback interface. Its addresses hold a random token, so other users of the machine cannot guess
them, and a request under another host's name is refused, so no web page elsewhere can reach it. Only files of a fixed
list and pixels of the shown images are sent: no path of a request ever reaches the disk.
"""

from __future__ import annotations

import json
import logging
import mimetypes
import os
import re
import secrets
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bigrestore.core.host.installed import install_command
from bigrestore.core.urls import error_line
from bigrestore.errors import UsageError
from bigrestore.io.verify.faults import DECODE_ERRORS
from bigrestore.io.viewer.images import ShownImage
from bigrestore.io.viewer.page import page_state, store_file

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"

OWN_HOST = re.compile(r"(127\.0\.0\.1|localhost)(:\d{1,5})?", re.IGNORECASE)
"""This machine in the address of a page; a forwarded port has any number."""

BEAT_SECONDS = 5.0
"""How often the page is told that the server is still there."""

END_POLL_SECONDS = 0.1
"""How often the server looks whether it ends."""


def client_files() -> dict[str, Path]:
    """Return the files of Neuroglancer's page by their names, without importing it.

    Raises
    ------
    UsageError
        If it is not installed.
    """
    spec = find_spec("neuroglancer")
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        folder = Path(place) / "static" / "client"
        if (folder / "index.html").is_file():
            return {path.name: path for path in folder.iterdir() if path.is_file()}
    raise UsageError(f"view shows images by Neuroglancer, which is not installed; {install_command('view')}.")


@contextmanager
def serving_page(
    images: Sequence[ShownImage], title: str, files: dict[str, Path], port: int = 0
) -> Iterator[str]:
    """Serve the page of images while the context lasts.

    Parameters
    ----------
    images : sequence of ShownImage
        What is shown.
    title : str
        Of the page.
    files : dict
        Neuroglancer's files, from `client_files`.
    port : int
        0: a free one.

    Yields
    ------
    str
        Address of the page.

    Raises
    ------
    UsageError
        If the port cannot be used.
    """
    token = secrets.token_urlsafe(16)
    ended = threading.Event()
    pages = {image.name: image for image in images}

    class Handler(PageHandler):
        shown, page_title, client, page_token, closing = pages, title, files, token, ended

    try:
        server = _Server((LOOPBACK, port), Handler)
    except OSError as error:
        raise UsageError(
            f"--port is {port}, which cannot be used ({error.strerror}); choose another, or leave it out."
        ) from error
    thread = threading.Thread(
        target=server.serve_forever, args=(END_POLL_SECONDS,), name="viewer", daemon=True
    )
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{server.server_address[1]}/{token}/"
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        thread.join()


def open_browser(address: str) -> None:
    """Open an address in a browser of the desktop, if there is one; a browser of the terminal would take it over."""
    if sys.platform == "darwin" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY"))):
        import webbrowser

        webbrowser.open(address)


class _Server(ThreadingHTTPServer):
    """A server that ends without waiting for its connections."""

    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Note an error of a connection, such as one that the browser closed."""
        log.debug("A connection of the page ended.", exc_info=True)


class PageHandler(BaseHTTPRequestHandler):
    """Answers the requests of one page; the attributes of the class are set by `serving_page`.

    Attributes
    ----------
    shown : dict
        Images by name.
    page_title : str
        Title of the page.
    client : dict
        Neuroglancer's files by name.
    page_token : str
        Part of every address.
    closing : threading.Event
        Set when the server ends.
    """

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or a body waits up to 40 ms for its headers to be acknowledged
    server_version = "bigrestore"
    sys_version = ""

    shown: dict[str, ShownImage]
    page_title: str
    client: dict[str, Path]
    page_token: str
    closing: threading.Event

    def log_message(self, format: str, *arguments: Any) -> None:
        """Note a request in the debug log, without the token."""
        log.debug("%s", (format % arguments).replace(self.page_token, "TOKEN"))

    def do_HEAD(self) -> None:
        """Answer a request for the head of a file."""
        self.do_GET()

    def do_GET(self) -> None:
        """Answer a request for a file."""
        host = self.headers.get("Host", "")
        if OWN_HOST.fullmatch(host) is None:
            self._send(403, b"This page is for browsers of this machine.", "text/plain")
            return
        first, _, rest = self.path.partition("?")[0].removeprefix("/").partition("/")
        if secrets.compare_digest(first.encode(), self.page_token.encode()):
            self._send_own(rest, f"http://{host}/{self.page_token}")
        elif first == "v" and rest.startswith(f"{self.page_token}/"):
            self._send_client(rest.removeprefix(f"{self.page_token}/") or "index.html")
        elif first == "events" and rest == self.page_token:
            self._send_events()
        else:
            self._send_missing()

    def _send_own(self, name: str, address: str) -> None:
        """Send the page's state, or a file of an image's store; lead from the empty name to the page."""
        if not name:
            self.send_response(302)
            self.send_header("Location", f"/v/{self.page_token}/#!{address}/state.json")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if name == "state.json":
            state = page_state(list(self.shown.values()), self.page_title, address)
            self._send(200, json.dumps(state).encode(), "application/json")
            return
        image, _, rest = name.partition("/")
        if image not in self.shown:
            self._send_missing()
            return
        try:
            content = store_file(self.shown[image], rest)
        except DECODE_ERRORS as error:
            log.warning("%s cannot be shown at %s (%s).", image, rest, error_line(error))
            self._send(500, b"This part of the image cannot be read.", "text/plain")
            return
        if content is None:
            self._send_missing()
        else:
            kind = "application/json" if rest.endswith(".json") else "application/octet-stream"
            self._send(200, content, kind)

    def _send_client(self, name: str) -> None:
        """Send a file of Neuroglancer."""
        file = self.client.get(name)
        if file is None:
            self._send_missing()
            return
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        self._send(200, file.read_bytes(), "text/javascript" if name.endswith(".js") else kind)

    def _send_events(self) -> None:
        """Hold the connection by which Neuroglancer's page sees that its server is there; nothing else is sent."""
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        while self.command == "GET":
            self.wfile.write(b": here\n\n")
            if self.closing.wait(BEAT_SECONDS):
                break

    def _send_missing(self) -> None:
        self._send(404, b"There is nothing here.", "text/plain")

    def _send(self, status: int, content: bytes, kind: str) -> None:
        """Send an answer that no other page may use."""
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(content))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
        ):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

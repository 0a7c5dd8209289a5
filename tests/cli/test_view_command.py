"""`view` as a user meets it: what it prints, how it ends, and what it refuses; the page itself is drawn elsewhere."""

from __future__ import annotations

import http.client
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from bigrestore.core.host.installed import install_command
from bigrestore.io.store.ome_zarr import create_store, finish_store, open_level, write_block
from bigrestore.io.store.pyramid import build_pyramid
from bigrestore.io.store.store_spec import StoreSpec
from bigrestore.io.viewer import server
from tests.warm_python import WarmPython

ENDING = ("SIGINT", "SIGTERM", "SIGHUP")


@pytest.fixture(autouse=True)
def _a_hangup_ends_a_process() -> Iterator[None]:
    """Start commands as from a terminal, also where the tests run under nohup, which they would inherit."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    spec = StoreSpec((1, 40, 30), np.uint8)
    path = tmp_path / "o.ome.zarr"
    create_store(path, spec)
    write_block(open_level(path, 0), 0, 0, 0, np.arange(1200, dtype=np.uint8).reshape(40, 30))
    build_pyramid(path, spec)
    finish_store(path, spec, (0, 255), {"version": "0"})
    return path


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a process with a package in Neuroglancer's place, which must not be imported."""
    client = tmp_path / "packages/neuroglancer/static/client"
    client.mkdir(parents=True)
    (client / "index.html").write_text("page")
    (tmp_path / "packages/neuroglancer/__init__.py").write_text("raise RuntimeError('imported')")
    paths = [str(tmp_path / "packages"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "bigrestore", "view", *map(str, arguments)]


def status(address: str) -> int:
    place = urlsplit(address)
    assert place.hostname == "127.0.0.1"
    assert place.port is not None
    with closing(http.client.HTTPConnection(place.hostname, place.port, timeout=20)) as connection:
        connection.request("GET", f"/v{place.path}")
        with connection.getresponse() as answer:
            return answer.status


def refused(address: str) -> bool:
    try:
        status(address)
    except ConnectionError:
        return True
    return False


@pytest.mark.parametrize("name", ENDING)
def test_it_prints_its_address_and_ends_by_a_signal(
    store: Path, environment: dict[str, str], warm_python: WarmPython, name: str
) -> None:
    arguments = [warm_python.executable, *command(store, "--no-browser")[1:]]
    with subprocess.Popen(
        arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert status(address) == 200
        # A page that is open does not hold it.
        page = http.client.HTTPConnection("127.0.0.1", urlsplit(address).port or 0, timeout=20)
        page.request("GET", f"/events{urlsplit(address).path.rstrip('/')}")
        with closing(page), page.getresponse() as events:
            assert events.readline() == b": here\n"
            process.send_signal(getattr(signal, name))
            rest = process.communicate(timeout=30)
    assert (process.returncode, *rest) == (0, "", "")
    assert refused(address)


def test_it_ends_with_its_terminal(store: Path, environment: dict[str, str]) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, command(store, "--no-browser"), environment)
    printed = b""
    while b"/\r\n" not in printed:
        printed += os.read(terminal, 1000)
    address = printed.decode().split()[-1]
    assert status(address) == 200
    os.close(terminal)
    end = time.monotonic() + 30
    while (done := os.waitpid(pid, os.WNOHANG)) == (0, 0):
        assert time.monotonic() < end, "it goes on without its terminal"
        time.sleep(0.05)
    assert refused(address)
    assert done == (pid, 0)


def test_nohup_keeps_it(store: Path, environment: dict[str, str]) -> None:
    arguments = ["nohup", *command(store, "--no-browser")]
    with subprocess.Popen(
        arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2)
        assert status(address) == 200
        process.terminate()
        assert process.wait(30) == 0


def test_what_cannot_be_viewed_is_one_sentence_and_a_code(
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "text.txt").write_text("words")
    (tmp_path / "empty").mkdir()
    Image.fromarray(np.zeros((40, 30), np.uint8)).save(tmp_path / "i.png")
    monkeypatch.setattr(server, "find_spec", lambda name: None)
    cases: list[tuple[tuple[object, ...], int, str]] = [
        ((store,), 2, f"which is not installed; {install_command('view')}."),
    ]
    for arguments, code, words in cases:
        assert call("view", *arguments) == code
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.strip().endswith(words)
    monkeypatch.setattr("bigrestore.io.viewer.server.client_files", dict)
    cases = [
        ((tmp_path / "nothing.zarr",), 3, "does not exist; check the path."),
        ((tmp_path / "i.png",), 3, "name other images by --before."),
        ((tmp_path / "empty",), 3, ""),
        ((store, "--before", tmp_path / "nothing.png"), 3, "does not exist; check the path."),
        ((store, "--before", tmp_path / "text.txt"), 3, ""),
        ((store, "--port", "65536"), 2, "--port is 65536; it takes a whole number from 0 to 65535."),
        ((store, "--port", "-1"), 2, "--port is -1; it takes a whole number from 0 to 65535."),
        ((store, "--port", "http"), 2, ""),
    ]
    for arguments, code, words in cases:
        assert call("view", *arguments) == code, arguments
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.strip().endswith(words or ".")
        assert len(said.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("variables", "opened"),
    [
        ({}, False),
        ({"DISPLAY": ":0"}, True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, True),
        ({"DISPLAY": ""}, False),
    ],
)
def test_a_browser_is_opened_on_a_desktop_only(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], opened: bool
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("webbrowser.open", asked.append)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    server.open_browser("http://127.0.0.1:1/x/")
    assert asked == (["http://127.0.0.1:1/x/"] if opened else [])

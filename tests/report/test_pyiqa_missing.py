"""The adapter to pyiqa where pyiqa is not there, and the guard that keeps any library from downloading."""

from __future__ import annotations

import importlib.util
import socket
import sys
import threading
import urllib.request
from pathlib import Path

import pytest
import torch

from bigrestore.errors import UsageError
from bigrestore.report.metrics.engine import create_engine, lower_better
from bigrestore.report.metrics.offline import WouldDownloadError, no_downloads

without_pyiqa = pytest.mark.skipif(importlib.util.find_spec("pyiqa") is not None, reason="pyiqa is installed")


@without_pyiqa
def test_what_is_not_installed_is_named_with_the_command() -> None:
    sentence = r"needs the package pyiqa, which is not installed; install it with: pip install '\S+\[iqa\]'"
    with pytest.raises(UsageError, match=sentence):
        create_engine("pyiqa")
    with pytest.raises(UsageError, match=sentence):
        lower_better("musiq")


def test_the_native_engine_needs_neither_pyiqa_nor_torch() -> None:
    import subprocess

    code = (
        "import sys; sys.modules['torch'] = sys.modules['pyiqa'] = None\n"
        "import numpy as np\n"
        "from bigrestore.report.metrics.engine import create_engine\n"
        "tile = np.random.default_rng(0).random((192, 192), dtype=np.float32)\n"
        "assert all(np.isfinite(list(create_engine().score(tile).values())))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_guard_names_the_file_and_where_it_would_have_gone(tmp_path: Path) -> None:
    with no_downloads(), pytest.raises(WouldDownloadError) as caught:
        torch.hub.load_state_dict_from_url("https://example.org/net.pth", model_dir=str(tmp_path))
    assert caught.value.source == "https://example.org/net.pth"
    assert caught.value.target is not None
    assert caught.value.target.name == "net.pth"
    with no_downloads(), pytest.raises(WouldDownloadError, match=r"https://example\.org/clip\.pt"):
        urllib.request.urlopen(urllib.request.Request("https://example.org/clip.pt"))
    with no_downloads(), pytest.raises(WouldDownloadError, match=r"example\.org"):
        socket.create_connection(("example.org", 443), timeout=1)


def test_the_guard_stops_its_own_thread_only_and_ends() -> None:
    before = socket.getaddrinfo
    found = []
    with no_downloads():
        other = threading.Thread(target=lambda: found.append(socket.getaddrinfo("127.0.0.1", 80)))
        other.start()
        other.join()
    assert found
    assert socket.getaddrinfo is before

"""Keep a library from downloading: every attempt becomes an exception naming the file or host.

Scores are computed on machines without a network, and a score must not change because a server has a newer file.
Libraries fetch weights in many ways (torch.hub, urllib, the Hugging Face hub); all look up a host in the end. The
guard stops the common ways early, while the file's name is known, and every other one at the host's name. It stops
only its own thread.
"""

from __future__ import annotations

import contextlib
import importlib
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock


class WouldDownloadError(Exception):
    """A library was about to fetch something; no OSError, because libraries retry or wrap those.

    Attributes
    ----------
    source : str
        Address of the file, or of the host if no more is known.
    target : Path or None
        Where the library would have put it.
    """

    def __init__(self, source: str, target: Path | None = None) -> None:
        super().__init__(source, target)
        self.source = source
        self.target = target


@contextlib.contextmanager
def no_downloads() -> Iterator[None]:
    """Raise `WouldDownloadError` if this thread would fetch something within the block.

    Yields
    ------
    None
        For the block.
    """
    import torch

    mine = threading.get_ident()

    def guarded(original: Callable[..., Any], refuse: Callable[..., NoReturn]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            return refuse(*args, **options) if threading.get_ident() == mine else original(*args, **options)

        return call

    replaced = [
        (torch.hub, "download_url_to_file", _refuse_file),
        (urllib.request, "urlopen", _refuse_address),
        (socket, "getaddrinfo", _refuse_host),
    ]
    with contextlib.ExitStack() as stack:
        for owner, name, refuse in replaced:
            stack.enter_context(mock.patch.object(owner, name, guarded(getattr(owner, name), refuse)))
        for module in _offline_switches():
            stack.enter_context(mock.patch.object(module, "HF_HUB_OFFLINE", True))
        yield


def _offline_switches() -> list[Any]:
    """Give the modules with the switch of the Hugging Face hub; offline, the hub names the missing file."""
    try:
        return [importlib.import_module("huggingface_hub.constants")]
    except ModuleNotFoundError:
        return []


def _refuse_file(url: str, dst: str, *_: Any, **__: Any) -> NoReturn:
    raise WouldDownloadError(url, Path(dst))


def _refuse_address(url: Any, *_: Any, **__: Any) -> NoReturn:
    raise WouldDownloadError(str(getattr(url, "full_url", url)))


def _refuse_host(host: Any, *_: Any, **__: Any) -> NoReturn:
    raise WouldDownloadError(str(host))

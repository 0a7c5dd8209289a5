"""Requests to servers, with time limits, retries, and errors in plain words.

A library's error may hold the request, and with it a key: only its cause is shown, in one line.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from bigrestore.core.retry import retry_transient
from bigrestore.core.urls import error_line
from bigrestore.errors import InputError, Result
from bigrestore.io.access.request_time import TooSlowError
from bigrestore.io.access.web import WrongAnswerError

LASTING = (FileNotFoundError, PermissionError, WrongAnswerError, TooSlowError, InputError)
"""Errors of a request that are the same a moment later."""

CONNECT_SECONDS, READ_SECONDS = 5.0, 30.0
"""Time limits for a connection, and between two parts of an answer; `request_time` has that of the whole."""

REQUEST_WAITS_SECONDS = (0.5, 2.0)
"""Waits before a request is repeated."""


def ask(place: object, request: Callable[[], Result]) -> Result:
    """Send a request and retry it without an answer; errors become sentences without secrets.

    Parameters
    ----------
    place : object
        The requested file, for messages.
    request : callable
        Asks.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    InputError
        It cannot be read.
    """
    try:
        return retry_transient(request, str(place), waits=REQUEST_WAITS_SECONDS, again=_may_pass)
    except request_errors() as error:
        if isinstance(error, FileNotFoundError | InputError):
            raise
        raise InputError(
            f"{place} cannot be read ({error_line(error)}); check the URL, the network and --storage-options."
        ) from None  # what the libraries say further holds the request, and so the key


def _may_pass(error: Exception) -> bool:
    """Tell whether a server may answer the same request a moment later."""
    lasting = isinstance(error, LASTING)
    refused = 400 <= getattr(error, "status", 0) < 500 or "Credential" in type(error).__name__
    return isinstance(error, request_errors()) and not lasting and not refused


def with_limits(scheme: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return storage options with time limits, unless they have their own."""
    limited = dict(options)
    if scheme in ("http", "https"):
        import aiohttp

        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS)
        limited["client_kwargs"] = {"timeout": limits, **limited.get("client_kwargs", {})}
    elif scheme in ("s3", "s3a"):
        limits_s3 = {
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": READ_SECONDS,
            "retries": {"max_attempts": 2},
        }
        limited["config_kwargs"] = {**limits_s3, **limited.get("config_kwargs", {})}
    return limited


def request_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions of a request: the system's, and those of loaded libraries."""
    kinds: list[type[Exception]] = [OSError, EOFError, ValueError]
    for module, names in (
        ("aiohttp", ("ClientError",)),
        ("botocore.exceptions", ("BotoCoreError", "ClientError")),
    ):
        loaded = sys.modules.get(module)
        kinds += [getattr(loaded, name) for name in names] if loaded else []
    return tuple(kinds)

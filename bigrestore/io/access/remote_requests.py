"""Requests to servers: with a time limit, repeated where nothing came, and their errors in words.

What the libraries say of an error may hold the request, and with it a key: only its cause is said, in one line, and
never more.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from bigrestore.core.retry import retry_transient
from bigrestore.core.urls import without_secrets
from bigrestore.errors import InputError
from bigrestore.io.access.web import WrongAnswerError

T = TypeVar("T")

CONNECT_SECONDS, READ_SECONDS = 5.0, 30.0
"""How long a server is waited for: until it answers, and between two parts of an answer."""

WAITS_SECONDS = (0.5, 2.0)
"""Waits before a request is repeated."""


def ask(place: object, request: Callable[[], T]) -> T:
    """Ask a server, again where it did not answer; its errors become sentences without secrets.

    Parameters
    ----------
    place : object
        What is asked for, as a sentence shows it.
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
        return retry_transient(request, str(place), waits=WAITS_SECONDS, again=_may_pass, words=short)
    except request_errors() as error:
        if isinstance(error, FileNotFoundError | InputError):
            raise
        raise InputError(
            f"{place} cannot be read ({short(error)}); check the URL, the network and --storage-options."
        ) from None  # what the libraries say further holds the request, and so the key


def _may_pass(error: Exception) -> bool:
    """Tell whether a server may answer the same request a moment later."""
    lasting = isinstance(error, FileNotFoundError | PermissionError | WrongAnswerError | InputError)
    refused = 400 <= getattr(error, "status", 0) < 500 or "Credential" in type(error).__name__
    return isinstance(error, request_errors()) and not lasting and not refused


def with_limits(scheme: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return storage options with time limits, unless they have their own."""
    found = dict(options)
    if scheme in ("http", "https"):
        import aiohttp

        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS)
        found["client_kwargs"] = {"timeout": limits, **found.get("client_kwargs", {})}
    elif scheme in ("s3", "s3a"):
        limits_s3 = {
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": READ_SECONDS,
            "retries": {"max_attempts": 2},
        }
        found["config_kwargs"] = {**limits_s3, **found.get("config_kwargs", {})}
    return found


def request_errors() -> tuple[type[Exception], ...]:
    """Return what a request may raise: errors of the system, and those of the libraries that are loaded."""
    found: list[type[Exception]] = [OSError, EOFError, ValueError]
    for module, names in (
        ("aiohttp", ("ClientError",)),
        ("botocore.exceptions", ("BotoCoreError", "ClientError")),
    ):
        loaded = sys.modules.get(module)
        found += [getattr(loaded, name) for name in names] if loaded else []
    return tuple(found)


def short(error: BaseException) -> str:
    """Return an error as one short line without secrets."""
    text = without_secrets(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."

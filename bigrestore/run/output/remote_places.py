"""Whether two URLs name one place, however they are spelled.

An object has many URLs: with a slash too much, with `%20` or a space, by the scheme of the store or by that of the web
server before it. A run must not write over its input, so two URLs are taken for one place as soon as any of their
spellings agree: to refuse a place too many costs nothing.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import unquote, urlsplit

from bigrestore.core.urls import is_remote, without_secrets

BUCKETS = ("s3", "s3a", "s3n")
"""Schemes of buckets."""

_AWS_HOST = re.compile(r"(?:(?P<bucket>.+)\.)?s3(?:[.-][a-z0-9-]+)*\.amazonaws\.com(?:\.cn)?", re.IGNORECASE)


def meeting(
    output: str, inputs: Iterable[tuple[str, object]], options: dict[str, Any]
) -> tuple[str, str] | None:
    """Return an input at, in or around an output behind a URL.

    Parameters
    ----------
    output : str
        The URL.
    inputs : iterable of tuple
        What is read, each with what it is called; paths are passed over.
    options : dict
        Storage options, of which the endpoint tells by which host the buckets are reached.

    Returns
    -------
    tuple of str or None
        What it is called and its URL, without secrets; None where they lie apart.
    """
    endpoint = options.get("endpoint_url") or options.get("client_kwargs", {}).get("endpoint_url") or ""
    own = [name for spelled in _spellings(output, endpoint) for name in (spelled, f"{spelled}.bigrestore")]
    for what, url in inputs:
        if not isinstance(url, str) or not is_remote(url):
            continue
        if any(_meet(one, other) for one in own for other in _spellings(url, endpoint)):
            return what, without_secrets(url)
    return None


def _meet(output: str, other: str) -> bool:
    """Tell whether one of two places is the other, or lies in it; the other one may be a pattern."""
    if "*" in other and (fnmatchcase(output, other) or fnmatchcase(output, f"{other}/*")):
        return True
    fixed = other.split("*", 1)[0] if "*" in other else f"{other}/"
    return output == other or output.startswith(f"{other}/") or fixed.startswith(f"{output}/")


def _spellings(url: str, endpoint: str) -> Iterator[str]:
    """Yield the names of a URL's object: `bucket/key`, else `host/path`; as it is, and as it is meant."""
    parts = urlsplit(without_secrets(url))
    scheme, host, path = parts.scheme.lower(), parts.netloc, parts.path
    if scheme in BUCKETS:
        named = [f"s3:{host}{path}"]
    else:
        named = [f"{host.lower()}{path}", *_objects(host.lower(), path, urlsplit(endpoint).netloc.lower())]
    for name in named:
        yield name.rstrip("/")
        yield posixpath.normpath(unquote(name)).rstrip("/")


def _objects(host: str, path: str, endpoint: str) -> Iterator[str]:
    """Yield the possible objects of a web address: with the bucket in the path, or before the host."""
    aws = _AWS_HOST.fullmatch(host)
    if host == endpoint or (aws is not None and not aws["bucket"]):
        yield f"s3:{path.lstrip('/')}"
    elif aws is not None:
        yield f"s3:{aws['bucket']}{path}"
    elif endpoint and host.endswith(f".{endpoint}"):
        yield f"s3:{host.removesuffix(f'.{endpoint}')}{path}"

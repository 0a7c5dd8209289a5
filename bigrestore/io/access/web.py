"""Requests to web servers and object stores, with every answer checked.

A cache may answer with another range than requested: `Content-Range` must state the requested one. A server may
redirect to another host: headers, cookies and passwords are sent to the first host only. A file may be replaced
between two of its ranges: each answer tells its version (RFC 9110, 8.8 and 14.4) for the caller to compare.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Mapping
from typing import Any

import attrs

from bigrestore.io.access.request_time import limited_time

MOST_REDIRECTS = 10

OF_THE_CONNECTION = ("ssl", "timeout", "proxy", "proxy_auth", "proxy_headers")
"""Request options for any host; all others are meant for the user's host only."""

RANGE = re.compile(r"\s*bytes\s+(\d+)-(\d+)/(\d+|\*)\s*", re.IGNORECASE)

_plain_sessions: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
"""For each file system a session without the user's headers, for other hosts."""


class WrongAnswerError(OSError):
    """A server answered with something else than requested."""


@attrs.frozen
class Version:
    """What a server says of the version of a file.

    Attributes
    ----------
    size : int or None
        In bytes; None if not stated.
    tag : str
        Its ETag, or the time of its modification; empty without either.
    """

    size: int | None
    tag: str

    def agrees(self, other: Version) -> bool:
        """Tell whether both may be one version: no stated value differs."""
        same_size = None in (self.size, other.size) or self.size == other.size
        return same_size and (not self.tag or not other.tag or self.tag == other.tag)


@attrs.frozen
class RangeAnswer:
    """An answer to a request for a range.

    Attributes
    ----------
    body : bytes
        The range, or the whole file.
    partial : bool
        Whether it is the range.
    version : Version
        Of the file.
    """

    body: bytes
    partial: bool
    version: Version


async def web_version(system: Any, path: str) -> Version:
    """Ask a web server for the version of a file.

    Raises
    ------
    FileNotFoundError
        If it has no such file, or does not give it.
    TooSlowError
        If it takes too long.
    aiohttp.ClientError, OSError
        If it cannot be asked.
    """
    async with limited_time():
        answer = await _follow(system, path, "HEAD", {})
        headers, status = answer.headers, answer.status
        answer.release()
    if status >= 400 or _stated_size(headers) is None:  # signed URLs allow nothing but GET
        async with limited_time():
            answer = await _follow(system, path, "GET", {"Range": "bytes=0-0"})
            headers = answer.headers
            answer.close()
        if answer.status in (401, 403, 404, 410):
            raise FileNotFoundError(path)
        if answer.status != 416:  # an empty file has no first byte
            answer.raise_for_status()
    return Version(_stated_size(headers), _version_tag(headers))


async def web_range(system: Any, path: str, first: int, stop: int, most: int) -> RangeAnswer:
    """Get a range of a file from a web server, or as much of the file as is needed.

    Parameters
    ----------
    system : fsspec file system
        Of http.
    path : str
        The URL.
    first, stop : int
        First byte, and the byte after the last.
    most : int
        Most bytes to read from a server without ranges; some more mean that the file is too large.

    Raises
    ------
    FileNotFoundError
        If the file is missing.
    WrongAnswerError
        If something else comes than was asked for.
    aiohttp.ClientError, OSError
        If the server cannot be asked.
    """
    body = bytearray()
    async with (
        limited_time() as received,
        await _follow(system, path, "GET", {"Range": f"bytes={first}-{stop - 1}"}) as answer,
    ):
        if answer.status == 404:
            raise FileNotFoundError(path)
        answer.raise_for_status()
        if answer.status not in (200, 206):
            raise WrongAnswerError(f"the server answered with the status {answer.status}")
        partial = answer.status == 206
        limit = stop - first if partial else most
        async for part in answer.content.iter_chunked(1 << 20):
            body += part
            received.add(len(part))
            if len(body) > limit:
                break
    version = Version(_stated_size(answer.headers), _version_tag(answer.headers))
    if partial:
        require_range(answer.headers.get("Content-Range", ""), first, stop, len(body))
    elif version.size is not None and len(body) < min(version.size, most):
        raise WrongAnswerError(f"the server sent {len(body)} of {version.size} bytes")
    return RangeAnswer(bytes(body), partial, version)


async def s3_range(system: Any, path: str, first: int, stop: int) -> RangeAnswer:
    """Get a range of an object.

    Raises
    ------
    FileNotFoundError
        If there is no such object.
    WrongAnswerError
        If another range comes than was asked for.
    OSError, botocore.exceptions.ClientError
        If it cannot be read.
    """
    bucket, key, version = system.split_path(path)
    asked = {"Bucket": bucket, "Key": key, "Range": f"bytes={first}-{stop - 1}"}
    async with limited_time(stop - first):
        answer = await system._call_s3("get_object", **asked, **({"VersionId": version} if version else {}))
        try:
            body = await answer["Body"].read()
        finally:
            answer["Body"].close()
    stated = answer.get("ContentRange", "")
    size = require_range(stated, first, stop, len(body)) if stated or first else answer.get("ContentLength")
    return RangeAnswer(bytes(body), True, Version(size, str(answer.get("ETag", "")).strip('"')))


def require_range(stated: str, first: int, stop: int, length: int) -> int | None:
    """Refuse an answer with another range than requested; return the size of the whole file.

    Parameters
    ----------
    stated : str
        The header `Content-Range`.
    first, stop : int
        First byte asked for, and the byte after the last one; a file may end before that.
    length : int
        Bytes that came.

    Raises
    ------
    WrongAnswerError
        Stating the answer.
    """
    match = RANGE.fullmatch(stated)
    if match is None:
        raise WrongAnswerError(f"the server does not say which part of the file it sent ({stated[:60]!r})")
    size = None if match[3] == "*" else int(match[3])
    last = stop - 1 if size is None else min(stop, size) - 1
    if (int(match[1]), int(match[2])) != (first, last) or length != last - first + 1:
        raise WrongAnswerError(
            f"the server answered with {length} bytes of the range {match[1]}-{match[2]} where {first}-{last} were asked for"
        )
    return size


async def _follow(system: Any, path: str, method: str, headers: Mapping[str, str]) -> Any:
    """Send a request and follow redirects; the user's headers and passwords go to the first host only."""
    from yarl import URL

    url, session = system.encode_url(path), await system.set_session()
    options = {name: value for name, value in system.kwargs.items() if name != "allow_redirects"}
    asked = {**headers, "Accept-Encoding": "identity"}
    options["headers"] = {**options.get("headers", {}), **asked}
    for _ in range(MOST_REDIRECTS + 1):
        answer = await session.request(method, url, allow_redirects=False, **options)
        place = answer.headers.get("Location")
        if answer.status not in (301, 302, 303, 307, 308) or not place:
            return answer
        answer.release()
        onward = url.join(URL(place, encoded=True))
        if onward.scheme not in ("http", "https"):
            raise WrongAnswerError(f"the server sends requests on to {onward.scheme}:, which is not followed")
        if onward.origin() != url.origin():
            options = {name: options[name] for name in OF_THE_CONNECTION if name in options} | {
                "headers": asked
            }
            session = await _plain_session(system)
        elif url.user and not onward.user:
            onward = onward.with_user(url.user).with_password(url.password)
        url = onward
    raise WrongAnswerError(f"the server sends requests on more than {MOST_REDIRECTS} times")


async def _plain_session(system: Any) -> Any:
    """Return a session for other hosts, without the user's headers, cookies and passwords."""
    session = _plain_sessions.get(system)
    if session is None or session.closed:
        kept = {
            name: system.client_kwargs[name]
            for name in ("timeout", "trust_env")
            if name in system.client_kwargs
        }
        session = _plain_sessions[system] = await system.get_client(loop=system.loop, **kept)
        weakref.finalize(system, system.close_session, system.loop, session)
    return session


def _stated_size(headers: Mapping[str, str]) -> int | None:
    """Return the size of the whole file by the headers of an answer, None if not stated."""
    match = RANGE.fullmatch(headers.get("Content-Range", ""))
    if match is not None:
        return None if match[3] == "*" else int(match[3])
    if headers.get("Content-Range", "").startswith("bytes */"):
        return int(headers["Content-Range"][8:]) if headers["Content-Range"][8:].isdecimal() else None
    packed = headers.get("Content-Encoding", "identity") not in ("", "identity")
    length = headers.get("Content-Length", "")
    return int(length) if length.isdecimal() and not packed else None


def _version_tag(headers: Mapping[str, str]) -> str:
    """Return the version of the file by the headers of an answer; empty if not stated."""
    return headers.get("ETag") or headers.get("Last-Modified") or ""

"""Inputs behind a URL, read in ranges from http(s), s3 and other fsspec servers.

A remote file has the few methods of `pathlib.Path` that the readers use, so a TIFF on a server is read tile by tile,
as on a disk. Four things differ:

- A server may be slow or gone for a moment: every request has a time limit, and is repeated if nothing came.
- A server may ignore ranges and send the whole file. A small one is held in memory, a large one refused.
- A file may be replaced during reading: all ranges must be of the version seen first.
- A URL may hold a password or a signature. It is shown, logged and stored without them; options (keys, tokens) are
  never shown.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import attrs

from bigrestore.core.host.installed import install_command
from bigrestore.core.regular import open_regular
from bigrestore.core.urls import error_line, is_remote, parse_options, without_secrets
from bigrestore.errors import InputError, InputMissingError
from bigrestore.io.access.limits import too_large
from bigrestore.io.access.remote_requests import ask, request_errors, with_limits
from bigrestore.io.access.request_time import LISTING_SECONDS, REQUEST_SECONDS, in_time, seconds_for
from bigrestore.io.access.web import Version, s3_range, web_range, web_version

log = logging.getLogger(__name__)

OPTIONS_VARIABLE = "BIGRESTORE_STORAGE_OPTIONS"
"""Environment variable with the default options of remote inputs, as JSON."""

WINDOW_BYTES = 1 << 20
"""Bytes read ahead."""

WHOLE_BYTES = 256 << 20
"""Most bytes held in memory of files from servers without ranges; each is fetched once."""

ByteRange = tuple[int | None, int | None]
"""First byte and the byte after the last; a negative start counts from the end, None is the end itself."""

_whole: dict[RemoteFile, bytes] = {}
"""The held files, the last fetched at the end."""

_whole_lock = threading.Lock()


class Stat:
    """Size of a file and a number for its content, named as by `os.stat`.

    Parameters
    ----------
    size : int
        In bytes.
    tag : str
        The server's name of this version: its ETag or time of modification.
    """

    def __init__(self, size: int, tag: str) -> None:
        self.st_size = size
        self.st_mtime_ns = int.from_bytes(hashlib.blake2b(tag.encode(), digest_size=6).digest(), "big")


@attrs.define
class _Pin:
    """The version of a file seen first; every further answer must match it."""

    version: Version | None = None


@attrs.frozen(eq=True, hash=True, repr=False)
class RemoteFile:
    """A file, or a folder, behind a URL.

    Attributes
    ----------
    url : str
        Without secrets, for display.
    path : str
        Its name in its file system.
    """

    url: str
    path: str
    _system: Any = attrs.field(eq=False, hash=False)
    _pin: _Pin = attrs.field(factory=_Pin, eq=False, hash=False, init=False)

    @classmethod
    def at(cls, url: str, options: Mapping[str, Any]) -> RemoteFile:
        """Return the file behind a URL, without a request yet.

        Raises
        ------
        InputError
            If the package for such URLs is not installed, or does not understand the URL.
        """
        from fsspec.core import url_to_fs

        scheme = urlsplit(url).scheme.lower()
        if "::" in url or scheme in ("", "file", "local", "memory", "reference", "dir", "zip", "tar"):
            raise InputError(
                f"{without_secrets(url)} is no place that is read; give a path, or a URL of a server."
            )
        try:
            system, path = url_to_fs(url, **with_limits(scheme, options))
        except ImportError as error:
            raise InputError(
                f"{without_secrets(url)} needs {error.name or 'a package'}: {install_command('remote')}."
            ) from error
        except (ValueError, TypeError, OSError) as error:
            raise InputError(
                f"{without_secrets(url)} is not understood ({error_line(error)}); check the URL and --storage-options."
            ) from error
        return cls(without_secrets(url).rstrip("/"), str(path).rstrip("/"), system)

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"RemoteFile({self.url!r})"

    def __truediv__(self, name: str) -> RemoteFile:
        if not name:
            return self
        parts = urlsplit(self.path)
        if parts.scheme and parts.query:  # a signed URL: the name belongs before the signature
            path = urlunsplit(parts._replace(path=f"{parts.path}/{name}"))
        else:
            path = f"{self.path}/{name}"
        return RemoteFile(f"{self.url}/{name}", path, self._system)

    @property
    def name(self) -> str:
        """The last part of the URL's path."""
        return PurePosixPath(urlsplit(self.url).path or self.url).name

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of the URL, for ordering sections."""
        return tuple(self.url.split("/"))

    @property
    def parent(self) -> str:
        """The URL of the folder."""
        return self.url.rsplit("/", 1)[0]

    @property
    def _is_web(self) -> bool:
        """Whether it lies on a web server (these list no files)."""
        return "https" in self._system.protocol

    def relative_to(self, other: object) -> str:
        """Return the name, for messages about section files."""
        return self.name

    def is_dir(self) -> bool:
        """Return False: files in a remote folder are requested by name."""
        return False

    def exists(self) -> bool:
        """Tell whether the file exists."""
        try:
            return ask(self, self._ask_version) is not None
        except FileNotFoundError:
            return False

    def stat(self) -> Stat:
        """Return size and version; every further range must be of that version.

        Raises
        ------
        FileNotFoundError
            If the file is missing.
        InputError
            If the server does not state its size, or it was replaced since it was seen first.
        """
        version = ask(self, self._ask_version)
        if version is None or version.size is None:
            raise InputError(f"{self} has no length that its server states; copy it to a disk first.")
        self._require_version(version)
        return Stat(version.size, version.tag)

    def version(self, *, fresh: bool = False) -> str:
        """Return the version of the file as it was read, or, if `fresh`, as it is now.

        Returns
        -------
        str
            Size and ETag or time; empty if the file is missing.

        Raises
        ------
        InputError
            If the server cannot be asked.
        """
        version = None if fresh else self._pin.version
        if version is None or version.size is None:
            try:
                version = ask(self, self._ask_version)
            except FileNotFoundError:
                version = None
        return "" if version is None else f"{version.size} {version.tag}"

    def _ask_version(self) -> Version | None:
        """Request size and tag; None for a folder."""
        from fsspec.asyn import sync

        if self._is_web:
            version: Version = sync(self._system.loop, web_version, self._system, self.path)
            return version
        self._system.invalidate_cache(self.path)
        facts = in_time(lambda: self._system.info(self.path), REQUEST_SECONDS)
        if facts["type"] != "file":
            return None
        tags = (
            str(facts[name]).strip('"')
            for name in ("ETag", "etag", "LastModified", "mtime")
            if facts.get(name)
        )
        return Version(facts.get("size"), next(tags, ""))

    def _require_version(self, version: Version) -> None:
        """Keep the first version seen, and refuse any other.

        Raises
        ------
        InputError
            If the file was replaced.
        """
        pinned = self._pin.version
        if pinned is None or (pinned.size is None and pinned.agrees(version)):
            self._pin.version = version
        elif not pinned.agrees(version):
            raise InputError(
                f"{self} was replaced on its server while it was read; wait until it is whole there, and start again."
            )

    def children(self) -> list[str] | None:
        """Return the names in the folder; None if the server does not list them."""
        if self._is_web:
            return None
        try:
            paths = ask(self, lambda: in_time(self._names, LISTING_SECONDS))
        except FileNotFoundError:
            return []
        return sorted(name.rstrip("/").rsplit("/", 1)[-1] for name in paths)

    def _names(self) -> list[str]:
        return [str(name) for name in self._system.ls(self.path, detail=False)]

    def matches(self) -> list[RemoteFile]:
        """Return the files that match the URL as a pattern.

        Raises
        ------
        InputError
            If the server does not list its files.
        """
        if self._is_web:
            raise InputError(
                f"{self} is a pattern, and a web server does not list its files; name them one by one."
            )
        paths = ask(self, lambda: in_time(lambda: self._system.glob(self.path), LISTING_SECONDS))
        scheme = urlsplit(self.url).scheme
        return [RemoteFile(f"{scheme}://{path}", path, self._system) for path in sorted(paths)]

    def read_range(self, span: ByteRange, most: int) -> bytes:
        """Return the file, or a range of it.

        Parameters
        ----------
        span : tuple
            First byte and the byte after the last; a negative start counts from the end.
        most : int
            Most bytes it may have.

        Raises
        ------
        FileNotFoundError
            If the file is missing.
        InputError
            If it holds more, or the server is gone or sends something else.
        """
        start, stop = span
        if start is not None and start < 0:
            start = max(0, self.stat().st_size + start)
        first = start or 0
        asked = most + 1 if stop is None else stop - first
        if asked > most + 1 or (stop is not None and asked > most):
            raise too_large(str(self), asked, most)
        if asked <= 0:
            return b""
        held = _whole.get(self)
        if held is None:
            body = bytes(ask(self, lambda: self._request_range(first, first + asked)))
        else:
            body = held[first : first + asked]
        if len(body) > asked:
            raise _no_parts(self)
        if stop is None and len(body) > most:
            raise too_large(str(self), len(body), most)
        return body

    def _request_range(self, first: int, stop: int) -> bytes:
        """Request a range; one beyond the end is empty."""
        from fsspec.asyn import sync

        try:
            if self._is_web:
                return self._request_web_range(first, stop)
            if "s3" in self._system.protocol:
                answer = sync(self._system.loop, s3_range, self._system, self.path, first, stop)
                self._require_version(answer.version)
                return bytes(answer.body)
            body: bytes = in_time(
                lambda: self._system.cat_file(self.path, start=first, end=stop), seconds_for(stop - first)
            )
        except request_errors() as error:
            if getattr(error, "status", 0) == 416 or "not satisfiable" in str(error):
                return b""
            raise
        return body

    def _request_web_range(self, first: int, stop: int) -> bytes:
        """Request a range from a web server; if it sends the whole file, hold a small one in memory."""
        from fsspec.asyn import sync

        answer = sync(self._system.loop, web_range, self._system, self.path, first, stop, WHOLE_BYTES)
        self._require_version(answer.version)
        body = answer.body
        if answer.partial or (first == 0 and len(body) <= stop):
            return bytes(body)
        if len(body) > WHOLE_BYTES:
            raise _no_parts(self)
        log.info("The server of %s does not send parts of files; it is held whole.", self)
        with _whole_lock:
            _whole[self] = body
            while sum(map(len, _whole.values())) > WHOLE_BYTES:
                del _whole[next(iter(_whole))]
        return bytes(body[first:stop])

    def read_bytes(self) -> bytes:
        """Return the whole file."""
        size = self.stat().st_size
        body = self.read_range((0, size), size)
        if len(body) < size:
            raise InputError(f"{self} was cut off on its way ({len(body)} of {size} bytes); start again.")
        return body

    def open(self, mode: str = "rb") -> io.BufferedReader:
        """Return a file object that reads ranges on demand."""
        assert mode == "rb"
        return io.BufferedReader(_Ranges(self), WINDOW_BYTES)


def _no_parts(place: RemoteFile) -> InputError:
    return InputError(
        f"the server of {place} does not send parts of files, and it is larger than {WHOLE_BYTES >> 20} MiB; download it "
        "first, and give the copy."
    )


class _Ranges(io.RawIOBase):
    """A remote file as a raw file object."""

    def __init__(self, file: RemoteFile) -> None:
        super().__init__()
        self._file, self._size, self._at = file, file.stat().st_size, 0
        self.name = str(file)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError(22, "a position before the beginning of a file")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._size - self._at)
        if wanted <= 0:
            return 0
        part = self._file.read_range((self._at, self._at + wanted), wanted)
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)


InputPath = Path | RemoteFile
"""The location of an input."""


def open_bytes(place: InputPath) -> io.BufferedReader:
    """Open a regular file, or one behind a URL; see `bigrestore.core.regular`."""
    return open_regular(place) if isinstance(place, Path) else place.open()


def input_path(
    text: str | os.PathLike[str] | RemoteFile, options: Mapping[str, Any] | None = None
) -> InputPath:
    """Return the file at a path or URL; the environment holds the default options."""
    if isinstance(text, RemoteFile):
        return text
    if isinstance(text, str) and is_remote(text):
        remote = RemoteFile.at(
            text, parse_options(os.environ.get(OPTIONS_VARIABLE)) if options is None else options
        )
        with _whole_lock:  # a reopened file may be another version
            for file in [file for file in _whole if file.url.startswith(remote.url)]:
                del _whole[file]
        return remote
    return Path(text)


def require_there(place: RemoteFile) -> None:
    """Refuse a missing remote file.

    Raises
    ------
    InputMissingError
        Naming it.
    """
    if not place.exists():
        raise InputMissingError(f"{place} does not exist, or may not be read without a key; check the URL.")

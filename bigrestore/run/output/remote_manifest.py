"""The list of a run's objects behind a URL, by which they are told from others.

Names alone do not tell: `zarr.json` and `0/c/0/0` lie in everybody's stores. So before the first object is sent, the
list of all of them goes ahead, with size and checksum of each, and with a former run's objects to be removed. Only
listed objects, still as they were sent, are ever replaced or removed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from bigrestore.core.files import parse_sealed, sealed_text

MANIFEST = "copied.json"
"""Name of the list, in the folder beside the output."""


@attrs.frozen
class Sent:
    """The facts of an object sent, or to be sent.

    Attributes
    ----------
    size : int
        In bytes.
    md5 : str
        Of its bytes.
    etag : str
        What the store called it when all was sent; empty before.
    """

    size: int
    md5: str
    etag: str = ""

    @classmethod
    def of(cls, file: Path) -> Sent:
        """Return the facts of a file to be sent."""
        with file.open("rb") as stream:
            return cls(file.stat().st_size, hashlib.file_digest(stream, "md5").hexdigest())

    def is_at(self, there: Mapping[str, Any]) -> bool:
        """Tell whether an object is this one for certain: by its MD5, or by its former ETag."""
        tag = etag_of(there)
        return self.size == there.get("size") and tag in (self.md5, self.etag or self.md5)

    def may_be_at(self, there: Mapping[str, Any]) -> bool:
        """Tell whether an object can be this one: a new ETag need not be an MD5 (parts, encryption)."""
        return self.is_at(there) or (not self.etag and self.size == there.get("size"))


@attrs.frozen
class Manifest:
    """The objects of a run behind a URL.

    Attributes
    ----------
    run : str
        Name of the run, from its plan.
    files : dict
        What the run sends, by name.
    former : dict
        What was there of a former run, to be replaced or removed.
    """

    run: str
    files: dict[str, Sent]
    former: dict[str, Sent] = attrs.field(factory=dict)

    @classmethod
    def parse(cls, text: bytes) -> Manifest | None:
        """Return the list in `text`; None for an altered one, or none."""
        document = parse_sealed(text)
        try:
            parts = (
                {name: Sent(*note) for name, note in (document or {})[part].items()}
                for part in ("files", "former")
            )
            return cls(str((document or {})["run"]), *parts)
        except (AttributeError, KeyError, TypeError):
            return None

    def text(self) -> bytes:
        """Return the list as it is stored."""
        parts = {"files": self.files, "former": self.former}
        notes = {
            part: {name: list(attrs.astuple(note)) for name, note in known.items()}
            for part, known in parts.items()
        }
        return sealed_text({"run": self.run, **notes}).encode()

    def names(self, name: str) -> bool:
        """Tell whether an object is one of this run, or of the former one, by its name."""
        return name in self.files or name in self.former

    def knows(self, name: str, there: Mapping[str, Any]) -> bool:
        """Tell whether an object is one of them and still as it was sent."""
        known = (part[name] for part in (self.files, self.former) if name in part)
        return any(note.may_be_at(there) for note in known)


def etag_of(there: Mapping[str, Any]) -> str:
    """Return a store's version of an object."""
    return str(there.get("ETag", "")).strip('"')

"""Every row of the table of formats has a reader that can be imported, and no file is of two kinds."""

from __future__ import annotations

import inspect
from importlib import import_module

import pytest

from bigrestore.io.formats.table import HEAD_BYTES, INPUT_FORMATS, SUFFIXES, InputFormat

HEADS = {
    "TIFF": b"II*\0",
    "PNG": b"\x89PNG\r\n\x1a\n",
    "JPEG": b"\xff\xd8\xff\xe0",
    "a zip file of a Zarr store": b"PK\x03\x04",
    "MINC2": b"\x89HDF\r\n\x1a\n",
    "NIfTI": bytes(344) + b"n+1\0",
}


@pytest.mark.parametrize("kind", INPUT_FORMATS, ids=lambda kind: kind.name)
def test_a_row_has_a_reader_and_its_own_first_bytes(kind: InputFormat) -> None:
    module, _, function = kind.reader.partition(":")
    reader = getattr(import_module(f"bigrestore.io.formats.{module}"), function)
    assert list(inspect.signature(reader).parameters)[1:] == ["wanted" if kind.several else "labels"]
    head = HEADS[kind.name].ljust(HEAD_BYTES, b"\0")
    assert [other.name for other in INPUT_FORMATS if other.matches(head)] == [kind.name]


def test_nothing_else_is_of_any_kind() -> None:
    for head in (b"", b"\0" * HEAD_BYTES, b"GIF89a", b"{" * HEAD_BYTES):
        assert not any(kind.matches(head) for kind in INPUT_FORMATS)
    assert len(set(SUFFIXES)) == len(SUFFIXES)

"""The files for machines: one row per tile as Parquet (and CSV), and the summary as JSON.

Parquet keeps the types, NaN and the provenance in one small file; a CSV is for those who open it in a spreadsheet.
Each file is written under a temporary name in its own folder, synced and renamed: a reader sees the old file or the
new one, never half of one. Same tiles and facts, same bytes: no time and no host is in them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from bigrestore.core.files import whole_file
from bigrestore.errors import InputError, output_error

METADATA_KEY = b"bigrestore"
"""Under it the facts lie, as JSON, in the metadata of the Parquet schema."""


def plain(value: Any) -> Any:
    """Return a value in JSON's own types: NaN and infinity as None, arrays as lists, paths as text."""
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value.tolist()]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = sorted(value, key=str) if isinstance(value, (set, frozenset)) else value
        return [plain(item) for item in items]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return str(value)


def write_summary(path: Path, document: Mapping[str, Any]) -> None:
    """Write a document as indented JSON in the order of its keys.

    Raises
    ------
    OutputError
        Where the folder cannot be written.
    """
    write_atomically(path, (json.dumps(plain(document), indent=1, allow_nan=False) + "\n").encode())


def write_tiles(folder: Path, tiles: pa.Table, facts: Mapping[str, Any], *, csv: bool = False) -> None:
    """Write `tiles.parquet` with the facts in its metadata, and `tiles.csv` if asked for.

    Raises
    ------
    OutputError
        Where the folder cannot be written.
    """
    described = tiles.replace_schema_metadata(
        {METADATA_KEY: json.dumps(plain(facts), allow_nan=False).encode()}
    )
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(described, sink, compression="zstd")
    write_atomically(folder / "tiles.parquet", sink.getvalue())
    if csv:
        sink = pa.BufferOutputStream()
        pyarrow.csv.write_csv(tiles, sink)
        write_atomically(folder / "tiles.csv", sink.getvalue())
        return
    try:
        (folder / "tiles.csv").unlink(missing_ok=True)  # of a report that this one replaces
    except OSError as error:
        raise output_error(folder / "tiles.csv", error) from error


def read_tiles(path: Path) -> tuple[pa.Table, dict[str, Any]]:
    """Return the table and the facts of a `tiles.parquet`.

    Raises
    ------
    InputError
        Where the file is missing, damaged, or was not written by `write_tiles`.
    """
    try:
        with path.open("rb") as stream:
            table = pyarrow.parquet.read_table(stream)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path} cannot be read as Parquet ({error}); score the image again.") from error
    stored = (table.schema.metadata or {}).get(METADATA_KEY)
    if stored is None:
        raise InputError(f"{path} is no table of scored tiles; give the tiles.parquet of a report.")
    return table, dict(json.loads(stored))


def write_atomically(path: Path, content: bytes | pa.Buffer) -> None:
    """Write a file whole or not at all; a link in its place is replaced, not followed.

    Raises
    ------
    OutputError
        Where the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(path, error) from error
    with whole_file(path) as partial:
        partial.write_bytes(content)

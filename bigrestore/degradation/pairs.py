"""The table beside the images: one row per pair, with all drawn numbers.

Judging a method, or repeating a training, needs the degradation of each image. `pairs.parquet` has columns for the
numbers to select by, and the column `parameters` with all of them as JSON. The file is written last and renamed into
place, so it marks a complete folder. It holds no time and no path of the machine: the same command writes the same
bytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from bigrestore.core.files import whole_file
from bigrestore.degradation.degradation import Degradation

TABLE_NAME = "pairs.parquet"
PAIRS_METADATA_KEY = "bigrestore"


@attrs.frozen(eq=False)
class Pair:
    """One pair of images and its degradation.

    Attributes
    ----------
    lq, hq : str
        Degraded and clean image: a path relative to the folder, or for a whole section the input's path.
    z, y, x : int
        First pixel of the clean image in the input, in pixels of the level.
    height, width : int
        Size of the clean image in pixels.
    seed : int
        Seed of the command.
    degradation : Degradation
        What was done.
    """

    lq: str
    hq: str
    z: int
    y: int
    x: int
    height: int
    width: int
    seed: int
    degradation: Degradation

    def row(self) -> dict[str, Any]:
        """Return the columns of the table."""
        drawn = self.degradation
        parameters = drawn.to_dict()
        gain, read = drawn.effective_noise
        return {
            **attrs.asdict(self, recurse=False, filter=lambda field, _: field.name != "degradation"),
            "scale": drawn.scale,
            "identity": drawn.identity,
            "kernel": parameters.pop("kernel"),
            "effective_kernel": parameters.pop("effective_kernel"),
            "sigma_px": parameters["sigma_px"],
            "kind": drawn.kind,
            "downsampling": drawn.downsampling,
            "defocus": drawn.defocus,
            "thickness_px": drawn.thickness_px,
            "noise_gain": gain,
            "read_noise": read,
            "correlated_share": drawn.noise.correlated_share,
            "contrast_gain": drawn.effective_contrast_gain,
            "sharpening": drawn.sharpening.amount if drawn.sharpening else 0.0,
            "bit_depth": drawn.storage.bit_depth,
            "jpeg_quality": drawn.worst_jpeg,
            "banding": drawn.banding.amplitude if drawn.banding else 0.0,
            "jitter_px": drawn.lines.jitter_px if drawn.lines else 0.0,
            "illumination": drawn.illumination.amplitude if drawn.illumination else 0.0,
            "damage": len(drawn.damage),
            "second_pass": drawn.second is not None,
            "parameters": json.dumps(parameters, sort_keys=True, allow_nan=False),
        }


def write_pairs(folder: Path, pairs: Sequence[Pair], facts: dict[str, Any]) -> Path:
    """Write the table.

    Parameters
    ----------
    folder : Path
        Existing folder.
    pairs : sequence of Pair
        At least one; all of one scale.
    facts : dict
        JSON-able facts of the command (recipe, versions), kept in the file's metadata under `bigrestore`.

    Returns
    -------
    Path
        The table.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [pair.row() for pair in pairs]
    # Column types come from the first row's values; kernels are float32.
    kinds = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
    kernel = pa.list_(pa.list_(pa.float32()))
    schema = pa.schema([(name, kinds.get(type(value), kernel)) for name, value in rows[0].items()])
    table = pa.Table.from_pylist(rows, schema=schema)
    table = table.replace_schema_metadata({PAIRS_METADATA_KEY: json.dumps(facts, sort_keys=True)})
    path = folder / TABLE_NAME
    with whole_file(path) as partial, partial.open("wb") as stream:
        pq.write_table(table, stream, compression="zstd")
    return path


def read_facts(path: Path) -> dict[str, Any] | None:
    """Read the facts of `write_pairs` from a table.

    Returns
    -------
    dict or None
        The facts, `whole` among them; None without a file, or for a foreign table.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        return None
    try:
        with path.open("rb") as stream:
            table = pq.read_table(stream, columns=["lq"])
        facts = json.loads((table.schema.metadata or {})[PAIRS_METADATA_KEY.encode()])
        first = table.column("lq")[0].as_py()
    except (pa.ArrowException, KeyError, IndexError, ValueError):
        return None
    # The first tables did not say what they are of.
    return {"whole": not str(first).startswith("lq/"), **facts} if isinstance(facts, dict) else None

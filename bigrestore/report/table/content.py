"""The content of a report, for its table and its page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pyarrow as pa

from bigrestore.report.images import Overview, Picture

Pictures = Callable[[int, int, int, int, int], "tuple[Picture | None, Picture, Picture | None]"]
Overviews = Callable[[int, int], Overview]


@attrs.frozen(eq=False)
class Report:
    """The content of a report.

    Attributes
    ----------
    tiles : pyarrow.Table
        One row per tile: place (`z`, `row`, `column`, `y`, `x`, `height`, `width` in output pixels, `tissue` 0..1),
        `reason` (empty where valid), `reason_before` for pairs, and the figures with their twins `NAME_before`.
    facts : dict
        Provenance: `image`, `before`, `reference` (names), `engine` (its own description), `tile_px`, `value_range`,
        `scale`, `voxel_size_um`, `sampling`, `method`, `model`, `versions`. `read` has the profile of each section
        (`bigrestore.run.profile.words.reading`). `lower_better` gives the direction of foreign metrics, `sections`
        the first section and the one after the last, `thumbnail_z` the section shown first (the middle one if it is not
        there), `origin_px` the (y, x) output pixel of the first pixel (0, 0 if it is not there). `opens` says what
        viewers open: `path` from the report's folder or URL, and whether it is an `ome_zarr`.
    pictures : callable
        Gives for (z, y, x, height, width) a part at full size: (before or None, image, reference or None), uint8.
    overviews : callable
        Gives for (z, longest side) a small picture of a whole section.
    """

    tiles: pa.Table
    facts: dict[str, Any]
    pictures: Pictures
    overviews: Overviews

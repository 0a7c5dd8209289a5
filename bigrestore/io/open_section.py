"""Open any input as a section."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bigrestore.core.host.names import printable
from bigrestore.core.urls import without_secrets
from bigrestore.errors import UsageError
from bigrestore.io.formats.table import open_input
from bigrestore.io.section import Section, section_of
from bigrestore.settings.values import ValueRange


def open_section(
    path_or_glob: str | Path | Sequence[str | Path],
    *,
    level: int = 0,
    series: int | None = None,
    channel: int | None = None,
    voxel_size_um: float | Sequence[float | None] | None = None,
    input_range: ValueRange | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Section:
    """Open an image, a store, or a stack of section files, reading nothing but headers.

    Parameters
    ----------
    path_or_glob : str, Path or sequence of them
        A file, a Zarr store (also in a zip file), a directory or glob of section files (a volume in natural
        order), or the files themselves; a URL (http, https, s3, ...) with the extra `remote`.
    level : int
        The level of the pyramid to read, 0 the finest.
    series : int, optional
        The image to read of a file that holds several, by its number in `bigrestore info`; None: the largest.
    channel : int, optional
        The channel to read of several, from 0; None: the only one, or red, green and blue.
    voxel_size_um : float, (y, x) or (z, y, x), optional
        Voxel size in micrometres of the chosen level; overrides the file's. None inside a
        sequence keeps the file's value.
    input_range : (lo, hi) or "full", optional
        Storage values that stand for black and white. None: those that the file states, else those of the dtype,
        0..1 for float32; "full": those of the dtype.
    storage_options : mapping, optional
        Options of fsspec for a URL: keys, endpoints. None: the JSON object in the environment variable
        BIGRESTORE_STORAGE_OPTIONS, if set.

    Returns
    -------
    Section

    Raises
    ------
    InputMissingError, InputError
        If nothing is there, or it is unreadable.
    UsageError
        If an argument is out of its range.
    """
    if isinstance(path_or_glob, os.PathLike):
        path_or_glob = Path(path_or_glob)
    image = open_input(path_or_glob, options=storage_options, series=series, channel=channel)
    source = (
        printable(without_secrets(str(path_or_glob)))
        if isinstance(path_or_glob, str | Path)
        else f"{len(path_or_glob)} section files"
    )
    if not 0 <= level < len(image.levels):
        raise UsageError(
            f"level {level} was asked for, but {source} has {len(image.levels)} level(s); "
            f"choose --level from 0 to {len(image.levels) - 1}."
        )
    return section_of(image, source, level, voxel_size_um, input_range)

"""Fitting a NIQE model to good sections, in tiles, for sections larger than memory."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bigrestore.core.geometry import Box
from bigrestore.core.sizes import SCORE_TILE_PX
from bigrestore.errors import InputError, OutputError, OutputExistsError, UsageError, output_error
from bigrestore.io.conventions.range_check import check_range_used
from bigrestore.io.open_section import open_section
from bigrestore.report.images import ImageToScore
from bigrestore.report.metrics.nss.fit_niqe import fit_niqe
from bigrestore.report.metrics.nss.niqe_model import NiqeModel, load_niqe_model, save_niqe_model
from bigrestore.report.metrics.validity import tissue_share, why_invalid
from bigrestore.report.table.grid import TileGrid
from bigrestore.run.output.place import check_place, require_writable
from bigrestore.run.profile.section_profile import find_background
from bigrestore.settings.values import ValueRange

log = logging.getLogger(__name__)

NamedTile = tuple[tuple[str, int], NDArray[np.float32]]


def fit_niqe_model(
    images: Sequence[str | Path],
    output: str | Path,
    *,
    series: int | None = None,
    input_range: ValueRange | None = None,
    tile_px: int = SCORE_TILE_PX,
    overwrite: bool = False,
) -> NiqeModel:
    """Fit a NIQE model to good sections and write it.

    Parameters
    ----------
    images : sequence of str or Path
        Sections or volumes whose tissue is as good as restored tissue should be.
    output : str or Path
        File to write, `.npz`.
    series : int, optional
        The image to read of files that hold several; None: the largest.
    input_range : tuple of float or "full", optional
        Values of black and white, where the images do not use the range of their type.
    tile_px : int
        Side of the tiles that are read; those that are no tissue are left out.
    overwrite : bool
        Replace a model that is there.

    Returns
    -------
    NiqeModel

    Raises
    ------
    OutputExistsError
        Where the file exists, and replacing was not asked for.
    OutputError
        Where it cannot be written, or what is there is no NIQE model.
    BigrestoreError
        Of the kind of what is wrong with an image, or where there is too little tissue.
    """
    path = Path(output)
    if path.suffix != ".npz":
        raise UsageError(f"the model {path} is not named .npz; give -o a name that ends in .npz.")
    _check_output(path, images, overwrite=overwrite)
    model = fit_niqe(_tissue_tiles(images, series, input_range, tile_px), name=path.stem)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(path, error) from error
    save_niqe_model(path, model)
    return model


def _check_output(path: Path, images: Sequence[str | Path], *, overwrite: bool) -> None:
    """Refuse a place not writable, inside an image or a store, or holding a file not to be replaced."""
    check_place(path, [])
    for image in map(Path, images):
        if image.is_dir():
            check_place(path, [image])
    require_writable(path)
    if not path.exists():
        return
    if not overwrite:
        raise OutputExistsError(f"The model {path} exists; replace it by --overwrite, or name another by -o.")
    try:
        load_niqe_model(path)
    except InputError as error:
        raise OutputError(
            f"{path} is no NIQE model of bigrestore and is not replaced; name another file by -o."
        ) from error


def _tissue_tiles(
    images: Sequence[str | Path], series: int | None, input_range: ValueRange | None, tile_px: int
) -> Iterator[NamedTile]:
    """Yield the tiles of tissue, each with its section; small sections come whole."""
    for name in images:
        section = open_section(name, series=series, input_range=input_range)
        check_range_used(section, input_range)
        source = ImageToScore(section)
        side = min(tile_px, section.height, section.width)
        grid = TileGrid(0, section.depth, Box(0, section.height, 0, section.width), side, anchored=False)
        used = 0
        for z in range(section.depth):
            background = find_background(section, z)
            for place in grid.places(z):
                tile = np.ascontiguousarray(source.pixels(z, place.box).grey())
                if not why_invalid(tile, tissue_share(tile, *background), side):
                    used += 1
                    yield (str(name), z), tile
        log.info("%s: %d of %d tiles of %d px are tissue.", name, used, grid.count, side)

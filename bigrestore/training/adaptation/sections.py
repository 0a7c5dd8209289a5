"""The user's sections: opened, read for blur and noise, and cut into blocks of tissue.

A section of 150 megapixels is not held in memory. Its blur and noise are read off windows, as a run reads them, and
what is learned from comes out of blocks of at most 2048 x 2048 pixels, 12 of all sections together and at least one of
each, read one after the other and kept with 16 bits. They are blocks full of tissue, spread evenly over the section.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import attrs
import numpy as np
from numpy.typing import NDArray

from bigrestore.core.pixels import to_grey
from bigrestore.errors import UsageError
from bigrestore.io.open_section import open_section
from bigrestore.io.section import Section
from bigrestore.model.nets.restorer import Restorer
from bigrestore.run.profile.section_profile import sample_section
from bigrestore.training.adaptation.reading import Reading, noise_after, read_windows, sharpened

log = logging.getLogger(__name__)

MOST_SECTIONS = 24
"""Sections that are looked at, those of volumes counted one by one."""

MOST_BLOCKS = 12
"""Blocks of all sections together; each section gives at least one."""

LARGEST_BLOCK_PX = 2048
"""Largest side of a block, input pixels."""

LEAST_TISSUE = 0.5
"""A block has at least this share of the tissue that the fullest block of its section has."""


@attrs.frozen(eq=False)
class Slice:
    """One section of an input.

    Attributes
    ----------
    name : str
        File name, and the index of the section where the input is a volume.
    section : Section
        The input.
    z : int
        Index of the section in it.
    """

    name: str
    section: Section
    z: int


@attrs.frozen(eq=False)
class Tissue:
    """What is taken from one section.

    Attributes
    ----------
    name : str
        Of the section.
    height, width : int
        Its size in pixels.
    reading : Reading or None
        What the start model read of it; None where there is no tissue.
    blocks : tuple of ndarray, (h, w), uint16
        Blocks of it without the blur that was read; empty where there is no tissue.
    noise_variance : float
        Variance of the noise in the blocks, grey values 0..1.
    """

    name: str
    height: int
    width: int
    reading: Reading | None
    blocks: tuple[NDArray[np.uint16], ...]
    noise_variance: float


def open_slices(
    paths: Sequence[str | Path],
    *,
    level: int = 0,
    series: int | None = None,
    input_range: tuple[float, float] | None = None,
) -> list[Slice]:
    """Open inputs and list their sections, at most `MOST_SECTIONS`, evenly spread over files and volumes.

    Raises
    ------
    UsageError
        No input is named.
    InputError
        One of them is missing or cannot be read.
    """
    if not paths:
        raise UsageError("no section is named; give at least one file, store, folder or pattern")
    opened = [open_section(path, level=level, series=series, input_range=input_range) for path in paths]
    chosen = spread(len(opened), MOST_SECTIONS)
    each = max(1, MOST_SECTIONS // len(chosen))
    slices = []
    for section in (opened[i] for i in chosen):
        name = section.source.rstrip("/").rsplit("/", 1)[-1]
        names = {z: f"{name} z={z}" if section.depth > 1 else name for z in spread(section.depth, each)}
        slices += [Slice(name_of, section, z) for z, name_of in names.items()]
    total = sum(section.depth for section in opened)
    if len(slices) < total:
        log.info("Of %d sections %d are looked at, evenly spread.", total, len(slices))
    return slices


def spread(count: int, most: int) -> list[int]:
    """Return at most `most` of the numbers 0 .. count - 1, evenly spread."""
    kept = min(count, most)
    return [(2 * i + 1) * count // (2 * kept) for i in range(kept)]


def read_tissue(one: Slice, model: Restorer, blocks: int) -> Tissue:
    """Read blur and noise of a section, and blocks without that blur.

    Parameters
    ----------
    one : Slice
        The section.
    model : Restorer
        Reads its windows, as in a run.
    blocks : int
        Most blocks to read.

    Raises
    ------
    InputError
        The section cannot be read, or floating-point values leave the stated range.
    """
    section, z = one.section, one.z
    sample = sample_section(section, z)
    if not len(sample.windows):
        return Tissue(one.name, section.height, section.width, None, (), 0.0)
    reading = read_windows(model, sample.windows)
    places = choose_blocks(sample.tissue, sample.factor, section.height, section.width, blocks)
    blocks_read = (to_grey(section.read(z, *place), section.value_range) for place in places)
    kept = tuple(sharpened(grey, reading) for grey in blocks_read)
    return Tissue(one.name, section.height, section.width, reading, kept, noise_after(reading))


Place = tuple[int, int, int, int]
"""y0, y1, x0, x1 of a block, input pixels."""


def choose_blocks(
    tissue: NDArray[np.bool_], factor: float, height: int, width: int, most: int
) -> list[Place]:
    """Return the places of at most `most` blocks, evenly spread over those that are full of tissue.

    Parameters
    ----------
    tissue : ndarray, (h, w), bool
        Where the thumbnail shows tissue.
    factor : float
        Section pixels per thumbnail pixel.
    height, width : int
        Of the section.
    most : int
        At least 1.
    """
    rows, columns = (_parts(side) for side in (height, width))
    places = [(y0, y1, x0, x1) for y0, y1 in rows for x0, x1 in columns]
    shares = []
    for y0, y1, x0, x1 in places:
        top, left = (min(int(at / factor), n - 1) for at, n in zip((y0, x0), tissue.shape, strict=True))
        seen = tissue[top : math.ceil(y1 / factor), left : math.ceil(x1 / factor)]
        shares.append(float(seen.mean()) * (y1 - y0) * (x1 - x0))
    full = [place for place, share in zip(places, shares, strict=True) if share >= LEAST_TISSUE * max(shares)]
    return [full[i] for i in spread(len(full), most)]


def _parts(side: int) -> list[tuple[int, int]]:
    """Cut a side into equal parts of at most `LARGEST_BLOCK_PX`."""
    count = -(-side // LARGEST_BLOCK_PX)
    edges = [round(i * side / count) for i in range(count + 1)]
    return list(pairwise(edges))

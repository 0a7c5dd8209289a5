"""The names of a run's files, so no other file is ever replaced or removed.

A folder made by a run does not belong to it for good: people put labels beside the levels, notes into the journal, and
folders named by a year into the store. What a run writes follows from its plan, file by file: the metadata of each
image and level, the shards within the level's grid, a record for each block. The plan keeps the outline of all these
names; without a plan, the store's own metadata give it. Only files of such names are replaced or removed, never links
or files behind them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from bigrestore.core.files import PARTIAL
from bigrestore.errors import output_error
from bigrestore.io.store.placement import pyramid_shapes
from bigrestore.io.store.store_spec import (
    ARRAY_FILES,
    COLLECTION_XML,
    GROUP_FILES,
    MAPS_GROUP,
    OME_GROUP,
    StoreSpec,
)
from bigrestore.io.verify.faults import DECODE_ERRORS
from bigrestore.run.state.lock import LOCK_FILES
from bigrestore.settings.values import MAPS

PLAN = "plan.json"
"""Name of the stored plan, by which the folder beside an output is known for a journal."""

TEMPORARY_STORE = "store.ome.zarr"
"""Store in that folder that a TIFF or a zip file is made of."""

REPORT = "report"
"""Folder of the report, in that folder."""

REPORT_NOTE = "report.json"
"""Checksums of the report's files, there too; written last."""

REPORT_FILES = ("report.html", "summary.json", "tiles.parquet", "tiles.csv")
"""The files of a report, a run's in the folder `report`, or one that was asked for elsewhere."""

BLOCK = r"z\d{5,}-y\d{4,}-x\d{4,}"
"""Names of blocks, as a pattern."""

SIDECAR = re.compile(
    rf"""
    ( (plan|run|files|report)\.json
    | journal/{BLOCK}\.json
    | profiles/z\d{{5,}}\.json
    | scores/({BLOCK}|late)\.json
    | report/({"|".join(map(re.escape, REPORT_FILES))})
    | {LOCK_FILES} | journal/{BLOCK}\.inflight
    )({PARTIAL})?
    """,
    re.VERBOSE,
)
"""The files beside an output, by their paths in the folder."""

SIDECAR_FOLDERS = ("journal", "profiles", "scores", "report")

MAPS_LISTING = f"{MAPS_GROUP}/{OME_GROUP}"
"""Group in which the maps of a store are listed."""

_ZARR_PARTIAL = re.compile(r"(.*)\.[0-9a-f]{32}\.partial")
"""What zarr calls a file that it writes, in the place of its suffix."""

Named = Callable[[str], bool]
"""Tells whether a path relative to some folder, with slashes, is one that a run makes."""


@attrs.frozen
class Outline:
    """The outline of a store: the source of all its file names.

    Attributes
    ----------
    fmt : str
        Version of OME-Zarr, and so of the names of metadata and chunks.
    images : dict
        For each image by its path (empty for the root, else `maps/NAME`) its levels, and of each level how many files
        lie along each axis of its array.
    """

    fmt: str
    images: dict[str, list[list[int]]]

    @classmethod
    def of_specs(cls, specs: Mapping[str, StoreSpec]) -> Outline:
        """Return the outline of images to be written, by their paths in the store."""
        return cls(next(iter(specs.values())).fmt, {path: _grids(spec) for path, spec in specs.items()})

    @classmethod
    def of_store(cls, store: Path) -> Outline:
        """Return the outline of a store by its own metadata; unnamed and damaged levels are missing."""
        paths = ["", *(f"{MAPS_GROUP}/{name}" for name in MAPS)]
        fmt = "0.4" if (store / ".zgroup").is_file() else "0.5"
        return cls(
            fmt, {path: _stored_grids(store / path) for path in paths if not path or (store / path).is_dir()}
        )

    @classmethod
    def from_json(cls, document: Any) -> Outline | None:
        """Return the outline from a document of `to_json`; None for any other."""
        try:
            images = {
                str(path): [[int(count) for count in grid] for grid in grids]
                for path, grids in document["images"].items()
            }
            return cls(str(document["fmt"]), images) if document["fmt"] in GROUP_FILES else None
        except (AttributeError, KeyError, TypeError, ValueError):
            return None

    def to_json(self) -> dict[str, Any]:
        """Return the outline as a JSON document."""
        return attrs.asdict(self)

    def is_file(self, name: str) -> bool:
        """Tell whether a run writes a file of this path in its store."""
        folder, _, last = name.rpartition("/")
        return any(self._is_file(folder, whole) for whole in _whole_names(last))

    def is_folder(self, name: str) -> bool:
        """Tell whether a run makes a folder of this path in its store."""
        if name in (MAPS_GROUP, MAPS_LISTING):
            return len(self.images) > 1
        if name in self.images:
            return True
        level, inner = self._split(name)
        return level is not None and len(inner) < len(level) and _within(inner, level)

    def _is_file(self, folder: str, last: str) -> bool:
        if folder in self.images or (folder in (MAPS_GROUP, MAPS_LISTING) and len(self.images) > 1):
            return last in GROUP_FILES[self.fmt] or (folder == MAPS_LISTING and last == COLLECTION_XML)
        level, inner = self._split(folder)
        if level is None:
            return False
        at_top = not inner and not folder.endswith("/c")
        if at_top and last in ARRAY_FILES[self.fmt]:
            return True
        in_grid = not at_top or self.fmt == "0.4"
        return in_grid and len(inner) + 1 == len(level) and _within([*inner, last], level)

    def _split(self, name: str) -> tuple[list[int] | None, list[str]]:
        """Return the grid of a path's level, None outside of all levels, and the rest of the path."""
        image = next((path for path in self.images if path and name.startswith(f"{path}/")), "")
        rest = (name[len(image) + 1 :] if image else name).split("/")
        levels = self.images.get(image, [])
        if not _within(rest[:1], [len(levels)]):
            return None, []
        if self.fmt == "0.5" and len(rest) > 1:
            if rest[1] != "c":
                return None, []
            return levels[int(rest[0])], rest[2:]
        return levels[int(rest[0])], rest[1:]


def _grids(spec: StoreSpec) -> list[list[int]]:
    """Return for each level how many files lie along each axis."""
    grids = []
    for shape in pyramid_shapes(spec):
        unit = spec.array_shards(shape) if spec.fmt == "0.5" else spec.array_chunks()
        grids.append([-(-size // step) for size, step in zip(spec.array_shape(shape), unit, strict=True)])
    return grids


def _stored_grids(image: Path) -> list[list[int]]:
    """Return the same of an existing image, by its metadata; none where there is no folder."""
    import zarr

    from bigrestore.io.access.tree_store import open_node
    from bigrestore.io.access.trees import LocalTree
    from bigrestore.io.formats.ome_metadata import parse_multiscales

    grids: list[list[int]] = []
    if not image.is_dir():
        return grids
    try:
        node = open_node(LocalTree(image))
        multiscale = parse_multiscales(dict(node.attrs), str(image))
    except DECODE_ERRORS:
        multiscale = None
    named = None if multiscale is None else {dataset.path for dataset in multiscale.datasets}
    while named is None or str(len(grids)) in named:
        try:
            array = open_node(LocalTree(image), str(len(grids)))
        except DECODE_ERRORS:
            break
        if not isinstance(array, zarr.Array):
            break
        unit = array.shards or array.chunks
        grids.append([-(-size // step) for size, step in zip(array.shape, unit, strict=True)])
    return grids


def _within(parts: list[str], counts: list[int]) -> bool:
    """Tell whether path parts are numbers, as they are written here, below the counts."""
    return len(parts) <= len(counts) and all(
        part.isdecimal() and str(int(part)) == part and int(part) < count
        for part, count in zip(parts, counts, strict=False)
    )


def _whole_names(last: str) -> list[str]:
    """Return the names of a file: its own, or the final one of a partial file."""
    partial = _ZARR_PARTIAL.fullmatch(last)
    if partial is None:
        return [re.sub(f"{PARTIAL}$", "", last)]
    return [partial[1], f"{partial[1]}.json"]


def beside_names(outline: Outline) -> tuple[Named, Named]:
    """Return the tests for the files and the folders of a run beside its output, by their paths in that folder."""

    def is_file(name: str) -> bool:
        inner = name.removeprefix(f"{TEMPORARY_STORE}/")
        return SIDECAR.fullmatch(name) is not None or (inner != name and outline.is_file(inner))

    def is_folder(name: str) -> bool:
        inner = name.removeprefix(TEMPORARY_STORE).removeprefix("/")
        passing = name == TEMPORARY_STORE or (
            name.startswith(f"{TEMPORARY_STORE}/") and outline.is_folder(inner)
        )
        return name in SIDECAR_FOLDERS or passing

    return is_file, is_folder


def strangers(root: Path, is_file: Named, is_folder: Named) -> Iterator[Path]:
    """Yield the foreign content of a folder: files, folders and links.

    Parameters
    ----------
    root : Path
        The folder.
    is_file, is_folder : callable
        Tell what a run makes.
    """
    for folder, folders, files in os.walk(root):
        base = Path(folder).relative_to(root).as_posix()
        below = "" if base == "." else f"{base}/"
        for name in sorted([*folders, *files]):
            path = Path(folder) / name
            known = is_folder if name in folders else is_file
            if path.is_symlink() or not known(below + name):
                yield path
        folders[:] = sorted(name for name in folders if is_folder(below + name))


def remove_named(root: Path, is_file: Named, is_folder: Named) -> None:
    """Remove a run's files from a folder, the root's own last, and then empty folders.

    Raises
    ------
    OSError
        Where they may not be removed.
    """
    kept: set[Path] = set()
    for folder, folders, files in os.walk(root, topdown=False):
        base = Path(folder).relative_to(root).as_posix()
        below = "" if base == "." else f"{base}/"
        for name in sorted(files):
            path = Path(folder) / name
            if is_file(below + name) and not path.is_symlink():
                path.unlink(missing_ok=True)
            else:
                kept.add(path)
        left = [name for name in folders if Path(folder) / name in kept or (Path(folder) / name).is_symlink()]
        if left or any(Path(folder) / name in kept for name in files) or not (base == "." or is_folder(base)):
            kept.add(Path(folder))
        else:
            Path(folder).rmdir()


def remove_report(sidecar: Path) -> None:
    """Remove the report of a changing output: its note, its files, and its folder if empty.

    Nothing behind a link is removed.

    Raises
    ------
    OutputError
        Where they may not be removed.
    """
    folder = sidecar / REPORT
    try:
        (sidecar / REPORT_NOTE).unlink(missing_ok=True)
        if folder.is_symlink() or not folder.is_dir():
            return
        for name in REPORT_FILES:
            (folder / name).unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()
    except OSError as error:
        raise output_error(sidecar, error) from error

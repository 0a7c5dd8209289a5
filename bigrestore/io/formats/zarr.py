"""Read OME-Zarr 0.4 and 0.5, and bare Zarr arrays of version 2 and 3, sharded or not.

Reading a window brings any axis order to (z, y, x) or (z, y, x, c), and touches only the chunks under the window. t
and c of length 1 are dropped; c of length 3 in uint8 or uint16 is RGB; of other channels one is read, by its number.
Anything else has no meaning for a grey restoration and is refused with a remedy.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import zarr
from numpy.typing import NDArray

from bigrestore.core.urls import error_line
from bigrestore.errors import InputError, UsageError, first_of_group
from bigrestore.io.access.chunk_names import require_chunks
from bigrestore.io.access.places import InputPath
from bigrestore.io.access.tree_store import TreeStore, open_node
from bigrestore.io.access.trees import LocalTree, RemoteTree, Tree, ZipTree
from bigrestore.io.conventions.colour import require_colour
from bigrestore.io.conventions.direction import turned_round
from bigrestore.io.conventions.provenance import PROVENANCE_KEY
from bigrestore.io.conventions.stated_range import StatedRange, bit_limits, limits
from bigrestore.io.formats.ome_metadata import (
    Multiscale,
    display_window,
    omero_channels,
    omero_limits,
    parse_multiscales,
)
from bigrestore.io.formats.zarr_bounded import bounded
from bigrestore.io.levels import UNKNOWN, Level, OpenedImage, Triple, Wanted, accepted_dtype, require_pixels
from bigrestore.io.store.ome_zarr import is_unfinished
from bigrestore.io.verify.faults import DECODE_ERRORS
from bigrestore.settings.values import is_number

log = logging.getLogger(__name__)

METADATA_NAMES = ("zarr.json", ".zarray", ".zgroup", ".zattrs")
"""Metadata files of a store."""


@attrs.frozen(eq=False)
class AxisMap:
    """How the axes of an array become (z, y, x[, c]).

    Attributes
    ----------
    axes : str
        Names of the array's axes, such as "tczyx".
    shape : tuple of int
        The array's shape.
    rgb : bool
        Whether c is kept as colour.
    channel : int
        Index along c of what is read otherwise.
    """

    axes: str
    shape: tuple[int, ...]
    rgb: bool
    channel: int = 0

    @property
    def zyx(self) -> tuple[int, int, int]:
        """(z, y, x) in pixels; z is 1 without such an axis."""
        size = dict(zip(self.axes, self.shape, strict=True))
        return size.get("z", 1), size["y"], size["x"]

    def read(self, array: Any, z: int, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        """Read a window as (h, w) or (h, w, 3)."""
        wanted: dict[str, int | slice] = {
            "z": z,
            "y": slice(y0, y1),
            "x": slice(x0, x1),
            "c": slice(None) if self.rgb else self.channel,
        }
        selection = tuple(wanted.get(axis, 0) for axis in self.axes)
        with first_of_group():
            pixels = np.asarray(array[selection])
        kept = [axis for axis in self.axes if axis in ("yxc" if self.rgb else "yx")]
        return pixels.transpose([kept.index(axis) for axis in ("yxc" if self.rgb else "yx")])

    def chunk_keys(self, array: Any, z: int, y0: int, y1: int, x0: int, x1: int) -> Iterator[str]:
        """Yield the names of the files (chunks, or shards) under a window, below the array."""
        channels = (0, 3) if self.rgb else (self.channel, self.channel + 1)
        spans = {"z": (z, z + 1), "y": (y0, y1), "x": (x0, x1), "c": channels, "t": (0, 1)}
        units = array.shards or array.chunks
        ranges = [
            range(spans[axis][0] // unit, -(-spans[axis][1] // unit))
            for axis, unit in zip(self.axes, units, strict=True)
        ]
        return (array.metadata.encode_chunk_key(place) for place in itertools.product(*ranges))


def map_axes(
    axes: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    source: str,
    wanted: Wanted,
    names: Sequence[str] = (),
) -> AxisMap:
    """Decide the meaning of each axis; `names` are those of the channels, where they are known.

    Raises
    ------
    InputError
        If y or x is missing, an axis is unknown, or t or c has an unsupported length.
    UsageError
        If the channel asked for is not there.
    """
    if len(axes) != len(shape) or len(set(axes)) != len(axes) or not {"y", "x"} <= set(axes) <= set("tczyx"):
        raise InputError(
            f"{source} has the axes {axes!r} and the shape {shape}, which are not understood; "
            "store it as yx, zyx, cyx, czyx or tczyx."
        )
    require_pixels(shape, source)
    size = dict(zip(axes, shape, strict=True))
    if size.get("t", 1) != 1:
        raise InputError(
            f"{source} has {size['t']} time points; store the one to restore as an image of its own."
        )
    channels = size.get("c", 1)
    if wanted.channel is not None:
        return AxisMap(axes, shape, False, wanted.require_channel(channels, source, names))
    rgb = channels == 3 and dtype.kind == "u"
    if channels != 1 and not rgb:
        known = [name for name in names if name]
        named = f" ({', '.join(known[:8])})" if known else ""
        raise InputError(
            f"{source} has {channels} channels of {dtype.name}{named}; one is restored, or three of uint8 or uint16 as "
            f"RGB: choose one by --channel, from 0 to {channels - 1}."
        )
    return AxisMap(axes, shape, rgb)


@attrs.frozen(eq=False)
class Node:
    """A group or an array in a store.

    Attributes
    ----------
    place : Path or RemoteFile
        The store: a folder, a zip file or a URL.
    tree : Tree
        Its files.
    path : str
        Path of the node in the store.
    """

    place: InputPath
    tree: Tree
    path: str = ""

    def __str__(self) -> str:
        return f"{self.place}/{self.path}" if self.path else str(self.place)

    def below(self, name: str) -> Node:
        """Return a node in this one."""
        return Node(self.place, self.tree, f"{self.path}/{name}" if self.path else name)

    def open(self) -> zarr.Array[Any] | zarr.Group:
        """Open it for reading.

        Raises
        ------
        InputError
            If its metadata are missing or damaged.
        """
        try:
            node = open_node(self.tree, self.path)
        except (PermissionError, InputError):
            raise
        except Exception as err:
            folder = f"{self.path}/" if self.path else ""
            there = any(self.tree.exists(folder + name) for name in METADATA_NAMES[:3])
            reason = error_line(err) if there else "it holds no zarr.json, .zarray or .zgroup at its top"
            if isinstance(self.tree, ZipTree) and len(self.tree.stores) > 1 and not self.path:
                raise InputError(
                    f"{self} holds {len(self.tree.stores)} stores; name one, such as {self}/{self.tree.stores[0]}."
                ) from err
            raise InputError(
                f"{self} is not a readable Zarr store ({reason}); write or copy it again."
            ) from err
        if not isinstance(node.metadata.attributes, Mapping):
            raise InputError(f"{self} has attributes that are no object; write or copy the store again.")
        return node

    def files(self) -> tuple[InputPath, ...]:
        """Return the metadata files for the fingerprint; of a zip file, the file itself."""
        if isinstance(self.tree, ZipTree):
            return (self.place,)
        root = self.place / self.path
        return tuple(root / name for name in METADATA_NAMES if (root / name).exists())


def open_zarr(place: InputPath, wanted: Wanted) -> OpenedImage:
    """Open a Zarr store: an OME-Zarr image, a bare array, or a group with exactly one array."""
    return _open_node_as_image(Node(place, tree_of(place)), wanted)


def open_in_zip(place: Path, path: str, wanted: Wanted) -> OpenedImage:
    """Open a node in the store of a zip file, by its path in the store or in the zip file."""
    tree = ZipTree(place)
    inside = f"{path}/".removeprefix(tree.prefix).rstrip("/")
    return _open_node_as_image(Node(place, tree, inside), wanted)


def open_image_in(place: InputPath, path: str) -> OpenedImage:
    """Open an image below the root of a store."""
    return _open_node_as_image(Node(place, tree_of(place), path), Wanted())


def tree_of(place: InputPath) -> Tree:
    """Return the files of a store in a folder, in a zip file, or behind a URL."""
    if isinstance(place, Path):
        return LocalTree(place) if place.is_dir() else ZipTree(place)
    return ZipTree(place) if place.name.lower().endswith((".zip", ".ozx")) else RemoteTree(place)


def _open_node_as_image(place: Node, wanted: Wanted) -> OpenedImage:
    """Open a node as an image."""
    node = place.open()
    if isinstance(node, zarr.Array):
        root = place.place
        local = root if isinstance(root, Path) and root.is_dir() else None
        around = [] if local is None else _parents_attributes(local / place.path)
        if wanted.series:
            raise UsageError(f"--series is {wanted.series}, but {place} is a single array; leave it out.")
        image = _bare(place, node, wanted)
        ours = [stated[PROVENANCE_KEY] for stated in around if PROVENANCE_KEY in stated]
        return attrs.evolve(image, details=image.details | {PROVENANCE_KEY: ours[0]}) if ours else image
    _require_finished(place, dict(node.attrs))
    _refuse_plate(place, node)
    multiscale = parse_multiscales(dict(node.attrs), str(place), wanted.series)
    if multiscale is not None:
        return _ome(place, node, multiscale, wanted)
    return _group(place, node, wanted)


def _refuse_plate(place: Node, group: zarr.Group) -> None:
    """Refuse a plate, or a well of several fields, naming the path of one of its images."""
    attributes = dict(group.attrs)
    ome = attributes.get("ome")
    stated = ome if isinstance(ome, Mapping) else attributes
    plate, well = stated.get("plate"), stated.get("well")
    if isinstance(plate, Mapping):
        paths = _stated_paths(plate.get("wells"))
        wells = "1 well" if len(paths) == 1 else f"{len(paths)} wells"
        raise InputError(
            f"{place} is an OME-Zarr plate of {wells}; choose an image of a well by its path, such as "
            f"{place}/{paths[0] if paths else 'A/1'}/0."
        )
    fields = _stated_paths(well.get("images")) if isinstance(well, Mapping) else []
    if len(fields) > 1:
        raise InputError(
            f"{place} is a well of {len(fields)} images; choose one by its path, such as {place}/{fields[0]}."
        )


def _stated_paths(entries: Any) -> list[str]:
    """Return the paths in a list of the metadata; damaged entries are passed over."""
    listed = entries if isinstance(entries, list) else []
    return [str(item["path"]) for item in listed if isinstance(item, Mapping) and "path" in item]


def _require_finished(store: Node | Path, attributes: Mapping[str, Any]) -> None:
    """Refuse an unfinished store: its missing blocks would be read as fill values."""
    if is_unfinished(attributes):
        raise InputError(
            f"{store} was not finished: blocks of it may still be missing; go on with the run that writes it "
            "by --resume, and read it then."
        )


def _parents_attributes(array: Path) -> list[dict[str, Any]]:
    """Return the attributes of the groups around an array, as when the path names level 0; refuse an unfinished one."""
    around: list[dict[str, Any]] = []
    for parent in array.resolve().parents:
        if not any((parent / name).exists() for name in ("zarr.json", ".zgroup")):
            break
        try:
            attributes = dict(open_node(LocalTree(parent)).attrs)
        except DECODE_ERRORS:  # the folders around a named array need not be readable
            break
        _require_finished(parent, attributes)
        around.append(attributes)
    return around


def _group(path: Node, group: zarr.Group, wanted: Wanted) -> OpenedImage:
    """Open a group without multiscales: its only array, or its only image."""
    images = [name for name, item in group.groups() if parse_multiscales(dict(item.attrs), f"{path}/{name}")]
    arrays = [name for name, _ in group.arrays()]
    if "bigrestore" not in group.attrs and len(images) + len(arrays) == 1:
        name = (images or arrays)[0]
        log.info("%s is a group with one image, %r, which is read", path, name)
        return _open_node_as_image(path.below(name), wanted)
    names = ", ".join(sorted(images + arrays)[:5])
    if names:
        raise InputError(
            f"{path} is a Zarr group of several images ({names}); name one, such as {path}/{names.split(',')[0]}."
        )
    raise InputError(
        f"{path} is a Zarr group without an image in it; give the path of an array or an OME-Zarr image."
    )


def _bare(path: Node, array: zarr.Array[Any], wanted: Wanted) -> OpenedImage:
    """Open a bare array, with axes by its dimension names or their number."""
    dtype = accepted_dtype(array.dtype, str(path), labels=wanted.labels, command=_to_float(str(path)))
    axes = _bare_axes(array, dtype, str(path))
    mapping = map_axes(axes, array.shape, dtype, str(path), wanted)
    stated = None if wanted.labels else _attribute_limits(dict(array.attrs), dtype, str(path))
    guarded = bounded(array, str(path))
    require_chunks(array, str(path), finest=True)
    return OpenedImage(
        kind="zarr",
        levels=(_zarr_level(guarded, mapping, UNKNOWN, UNKNOWN),),
        channels=3 if mapping.rgb else 1,
        dtype=dtype,
        axes=axes,
        is_volume="z" in axes,
        format_version=f"zarr v{array.metadata.zarr_format}",
        files=path.files(),
        details=_array_details(array) | {"voxel_size_from": "not known: a bare array states none"},
        stated_range=stated,
    )


def _to_float(array: str) -> str:
    """Return the command that converts an array to float32."""
    program = f"zarr.create_array('converted.zarr', data=zarr.open_array(r'{array}', mode='r')[:].astype('float32'))"
    return f'python -c "import zarr; {program}"'


def _attribute_limits(attributes: Mapping[str, Any], dtype: np.dtype[Any], source: str) -> StatedRange | None:
    """Return the limits in the attributes of an array, by the CF conventions; refuse values that are scaled."""
    scale, offset = attributes.get("scale_factor", 1), attributes.get("add_offset", 0)
    if is_number(scale) and is_number(offset) and (scale != 1 or offset != 0):
        raise InputError(
            f"{source} rescales its values (scale_factor {scale:g}, add_offset {offset:g}); write it without scaling, as "
            "uint8, uint16 or float32."
        )
    pair = attributes.get("valid_range", [attributes.get("valid_min"), attributes.get("valid_max")])
    if not isinstance(pair, list) or len(pair) != 2 or not all(map(is_number, pair)):
        return None
    return (limits if dtype.kind == "u" else bit_limits)(pair[0], pair[1], "valid_range", dtype, source)


def _bare_axes(array: zarr.Array[Any], dtype: np.dtype[Any], source: str) -> str:
    """Return the axes of a bare array by its dimension names, else by their number and lengths."""
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    if isinstance(names, list | tuple) and all(isinstance(name, str) and len(name) == 1 for name in names):
        return "".join(str(name) for name in names).lower()
    shape = array.shape
    colour = len(shape) >= 3 and shape[-1] == 3 and dtype.kind == "u" and min(shape[-3:-1]) > 3
    axes = {2: "yx", 3: "yxc" if colour else "zyx", 4: "zyxc" if colour else "czyx", 5: "tczyx"}.get(
        len(shape)
    )
    if axes is None:
        raise InputError(f"{source} has the shape {shape}; an image has two (yx) to five axes (tczyx).")
    return axes


def _ome(path: Node, group: zarr.Group, multiscale: Multiscale, wanted: Wanted) -> OpenedImage:
    """Open an OME-Zarr image with all its levels."""
    attributes = dict(group.attrs)
    channels, labels = omero_channels(attributes), wanted.labels
    names = [channel.name for channel in channels]
    levels, places, first = [], [path], None
    for dataset in multiscale.datasets:
        try:
            array = group[dataset.path]
        except KeyError as err:
            raise InputError(
                f"{path} names the level {dataset.path!r}, which is not there; write the store again."
            ) from err
        except InputError:
            raise
        except Exception as err:
            raise InputError(
                f"the level {dataset.path!r} of {path} is damaged ({error_line(err)}); write the store again."
            ) from err
        if not isinstance(array, zarr.Array):
            raise InputError(f"{path}/{dataset.path} is not an array; write the store again.")
        if not isinstance(array.metadata.attributes, Mapping):
            raise InputError(
                f"{path}/{dataset.path} has attributes that are no object; write the store again."
            )
        name = f"{path}/{dataset.path}"
        dtype = accepted_dtype(array.dtype, name, labels=labels, command=_to_float(name))
        mapping = map_axes(multiscale.axes, array.shape, dtype, str(path), wanted, names)
        guarded = bounded(array, f"{path}/{dataset.path}")
        require_chunks(array, f"{path}/{dataset.path}", finest=first is None)
        levels.append(_zarr_level(guarded, mapping, *multiscale.place(dataset)))
        places.append(path.below(dataset.path))
        first = first or (array, dtype, mapping)
    assert first is not None  # parse_multiscales refuses an empty list
    array, dtype, mapping = first
    if mapping.rgb:
        require_colour(channels, str(path))
    stated = None if labels else omero_limits(attributes, dtype, str(path))
    if not labels:
        stated = _attribute_limits(dict(array.attrs), dtype, str(path)) or stated
    ours = group.attrs.get(PROVENANCE_KEY)
    image = OpenedImage(
        kind="ome-zarr",
        levels=tuple(levels),
        channels=3 if mapping.rgb else 1,
        dtype=dtype,
        axes=multiscale.axes,
        is_volume="z" in multiscale.axes,
        format_version=multiscale.version,
        files=tuple(dict.fromkeys(file for place in places for file in place.files())),
        details=_array_details(array)
        | {
            "voxel_size_from": _size_origin(multiscale),
            "display_window": display_window(attributes, mapping.channel),
        }
        | ({"channel_names": names} if any(names) else {})
        | ({} if ours is None else {PROVENANCE_KEY: ours}),
        stated_range=stated,
    )
    return turned_round(image, [multiscale.backwards(item) for item in multiscale.datasets], str(path))


def _size_origin(multiscale: Multiscale) -> str:
    """Return where the voxel size came from, for `info`."""
    if not multiscale.datasets[0].scaled:
        return "not known: the metadata have no scale"
    lengths = [unit for axis, unit in zip(multiscale.axes, multiscale.units, strict=True) if axis in "zyx"]
    if all(unit is None for unit in lengths):
        return "not known: the axes have no unit of length"
    return "scale and units of the metadata"


def _zarr_level(
    array: zarr.Array[Any], mapping: AxisMap, voxel_size_um: Triple, translation_um: Triple
) -> Level:
    """Wrap one array as a level."""
    chunk = dict(zip(mapping.axes, array.chunks, strict=True))

    store = array.store
    assert isinstance(store, TreeStore)
    folder = f"{array.path}/" if array.path else ""
    metadata = folder + ("zarr.json" if array.metadata.zarr_format == 3 else ".zarray")

    def read(z: int, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        return mapping.read(array, z, y0, y1, x0, x1)

    def version(z: int, y0: int, y1: int, x0: int, x1: int, *, fresh: bool = False) -> list[str]:
        keys = [f"{folder}{key}" for key in mapping.chunk_keys(array, z, y0, y1, x0, x1)]
        return store.tree.versions([metadata, *keys], fresh=fresh)

    return Level(mapping.zyx, (chunk["y"], chunk["x"]), read, voxel_size_um, translation_um, version)


def _array_details(array: zarr.Array[Any]) -> dict[str, Any]:
    """Return the storage facts of an array, for `info`."""
    codecs = array.compressors or ()
    return {
        "zarr_format": array.metadata.zarr_format,
        "chunks": list(array.chunks),
        "shards": list(array.shards) if array.shards else None,
        "compressors": [type(codec).__name__ for codec in codecs],
    }

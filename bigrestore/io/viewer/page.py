"""What Neuroglancer is given: each image as an OME-Zarr store without compression, and the state of the page.

The stores exist only in the answers of the server. Their arrays are those of the images, in chunks that hold all
channels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from bigrestore.core.geometry import CHUNK_PX
from bigrestore.io.viewer.images import AFTER, BEFORE, ShownImage, ShownLevel

PANEL_PX, PAGE_PX = 640, 800
"""About the side of a panel on the screen, and the height of all of them; at first a panel shows the whole section."""

ACROSS = 3
"""Panels of maps side by side."""

GREY_SHADER = """#uicontrol invlerp window
void main() {
  emitGrayscale(window());
}
"""
COLOUR_SHADER = """#uicontrol invlerp window(clamp=true)
void main() {
  emitRGB(vec3(window(getDataValue(0)), window(getDataValue(1)), window(getDataValue(2))));
}
"""


def store_file(image: ShownImage, name: str) -> bytes | None:
    """Return a file of the store of an image; None if it has no such file.

    Parameters
    ----------
    image : ShownImage
        The image.
    name : str
        Path in the store, such as "zarr.json" or "0/c/3/5".
    """
    if name == "zarr.json":
        return json.dumps(_shown_group(image)).encode()
    number, _, rest = name.partition("/")
    if not _is_number(number) or int(number) >= len(image.levels):
        return None
    shown = image.levels[int(number)]
    if rest == "zarr.json":
        return json.dumps(_array(image, shown)).encode()
    kind, *place = rest.split("/")
    if kind != "c" or not all(map(_is_number, place)):
        return None
    return _chunk(image, shown, [int(part) for part in place])


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 12


def _shown_axes(image: ShownImage) -> list[str]:
    """Return the axes of the arrays; `c^` tells Neuroglancer that all channels are shown at once."""
    return [*(["c^"] if image.channels == 3 else []), *image.axes]


def _of_axes(image: ShownImage, values: Sequence[Any], channel: Any) -> list[Any]:
    """Return values per (z, y, x) in the order of the axes."""
    named = dict(zip("zyx", values, strict=True)) | {"c^": channel}
    return [named[axis] for axis in _shown_axes(image)]


def _shown_group(image: ShownImage) -> dict[str, Any]:
    """Return the metadata of the store."""
    axes = [
        {"name": axis} | ({"type": "space", "unit": "micrometer"} if axis in image.known else {})
        for axis in _shown_axes(image)
    ]
    datasets = []
    for index, shown in enumerate(image.levels):
        scale = {"type": "scale", "scale": _of_axes(image, shown.scale, 1.0)}
        start = {"type": "translation", "translation": _of_axes(image, shown.start, 0.0)}
        datasets.append({"path": str(index), "coordinateTransformations": [scale, start]})
    multiscale = {"name": image.name, "axes": axes, "datasets": datasets}
    return {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": {"ome": {"version": "0.5", "multiscales": [multiscale]}},
    }


def _array(image: ShownImage, shown: ShownLevel) -> dict[str, Any]:
    """Return the metadata of a level."""
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": _of_axes(image, shown.level.shape, 3),
        "data_type": image.dtype.name,
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": _of_axes(image, (1, CHUNK_PX, CHUNK_PX), 3)},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        "fill_value": 0,
        "dimension_names": _shown_axes(image),
        "attributes": {},
    }


def _chunk(image: ShownImage, shown: ShownLevel, place: list[int]) -> bytes | None:
    """Return the pixels of a chunk, filled up with 0 beyond the image; None if there is none at this place."""
    axes = _shown_axes(image)
    if len(place) != len(axes):
        return None
    at = {"z": 0, "c^": 0} | dict(zip(axes, place, strict=True))
    depth, height, width = shown.level.shape
    y0, x0 = at["y"] * CHUNK_PX, at["x"] * CHUNK_PX
    if at["c^"] or at["z"] >= depth or y0 >= height or x0 >= width:
        return None
    pixels = shown.level.read(at["z"], y0, min(y0 + CHUNK_PX, height), x0, min(x0 + CHUNK_PX, width))
    rest = [(0, CHUNK_PX - pixels.shape[0]), (0, CHUNK_PX - pixels.shape[1]), (0, 0)][: pixels.ndim]
    pixels = np.pad(pixels, rest)
    if pixels.ndim == 3:
        pixels = np.moveaxis(pixels, -1, 0)
    return np.ascontiguousarray(pixels, image.dtype.newbyteorder("<")).tobytes()


def page_state(images: Sequence[ShownImage], title: str, address: str) -> dict[str, Any]:
    """Return the state of the page: a panel for each image, the maps below, all moved together.

    Parameters
    ----------
    images : sequence of ShownImage
        The images, the output among them.
    title : str
        Of the page.
    address : str
        URL of the folder in which the stores are, by their names.
    """
    output = next(image for image in images if image.name == AFTER)
    first = output.levels[0]
    axes = output.axes[::-1]
    size, start, pixels = (
        dict(zip("zyx", values, strict=True)) for values in (first.scale, first.start, first.level.shape)
    )
    dimensions = {
        axis: [size[axis] / 1e6, "m"] if axis in output.known else [size[axis], ""] for axis in axes
    }
    # Neuroglancer counts from the corner of a voxel, OME-Zarr from its centre.
    middle = [
        start[axis] / size[axis] + (pixels[axis] // 2 if axis == "z" else pixels[axis] / 2 - 0.5)
        for axis in axes
    ]
    pair = [_shown_panel(image) for image in images if image.name in (BEFORE, AFTER)]
    maps = [_shown_panel(image) for image in images if image.name not in (BEFORE, AFTER)]
    rows = [pair, *(maps[at : at + ACROSS] for at in range(0, len(maps), ACROSS))]
    extent = max(size[axis] * pixels[axis] for axis in "yx") / min(size[axis] for axis in axes)
    return {
        "title": title,
        "dimensions": dimensions,
        "position": middle,
        "crossSectionScale": max(1.0, extent / min(PANEL_PX, PAGE_PX / len(rows))),
        "layers": [_layer(image, address) for image in images],
        "layout": {"type": "column", "children": [{"type": "row", "children": row} for row in rows]},
        "showAxisLines": False,
        "showSlices": False,
        "showDefaultAnnotations": False,
    }


def _shown_panel(image: ShownImage) -> dict[str, Any]:
    return {"type": "viewer", "layers": [image.name], "layout": "xy"}


def _layer(image: ShownImage, address: str) -> dict[str, Any]:
    """Return the layer of an image, opaque, from its black to its white."""
    low, high = image.window
    return {
        "type": "image",
        "name": image.name,
        "source": f"{address}/{image.name}/|zarr3:",
        "shader": COLOUR_SHADER if image.channels == 3 else GREY_SHADER,
        "shaderControls": {"window": {"range": [low, high]}},
        "opacity": 1,
        "blend": "default",
    }

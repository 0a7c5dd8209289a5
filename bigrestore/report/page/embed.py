"""Data and pictures as text inside the page.

The page has a budget, because it is sent by mail. Pictures are PNG for exact colours, WebP for photographs; tiles at
full size are stored without loss if they fit, else at the best fitting quality, stated on the page.

The script reads the tiles as a few bytes per tile and figure, in base64. As JSON text 30,000 tiles with 30 figures are
seven megabytes, so each figure is stored in 16 bits between its smallest and largest value, finer than any number on
the page. NaN and infinity have codes of their own. Names are JSON, escaped: no name can end its element.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bigrestore.report.page.data import ReportData
from bigrestore.report.page.tables import MOST_TILES, tile_columns

LOSSLESS = 101
"""A quality of WebP beyond 100: every pixel as it was."""

QUALITIES = (LOSSLESS, 95, 88, 78, 60, 35)

NAN_CODE, INFINITY_CODE, LARGEST_CODE = 65535, 65534, 65533


def embedded(data: ReportData) -> str:
    """Return the JSON text for the script's element; safe inside HTML."""
    table = data.table
    document: dict[str, Any] = {
        "n": int(table["z"].size),
        "z": _packed(table["z"], "<i4"),
        "row": _packed(table["row"], "<i4"),
        "column": _packed(table["column"], "<i4"),
        "y": _packed(table["y"], "<i4"),
        "x": _packed(table["x"], "<i4"),
        "tissue": quantised(table["tissue"]),
        "shownZ": data.thumbnail_z,
        "volume": data.sections.size > 1,
        "pair": data.pair,
        "mostTiles": MOST_TILES,
        "reasons": {"image": _packed_reasons(table["reason"])},
        "metrics": [_packed_figure(data, index) for index in range(len(data.columns))],
    }
    if data.pair:
        document["reasons"]["before"] = _packed_reasons(table["reason_before"])
    return safe_json(document)


def safe_json(document: Any) -> str:
    """Return JSON with `<`, `>` and `&` as escapes: it cannot end its element."""
    text = json.dumps(document, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def quantised(values: NDArray[np.float64]) -> dict[str, Any]:
    """Return values in 16 bits between their smallest and largest.

    Returns
    -------
    dict
        `low`, `high` and `codes` in base64 of little-endian 16-bit numbers: code / 65533 of the way from low to
        high; 65534 is infinity, 65535 is NaN.
    """
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    codes = np.full(values.shape, NAN_CODE, np.uint16)
    there = np.isfinite(values)
    # A constant column has no span: every code is 0.
    codes[there] = np.rint((values[there] - low) / ((high - low) or 1.0) * LARGEST_CODE).astype(np.uint16)
    codes[np.isposinf(values)] = INFINITY_CODE
    return {"low": low, "high": high, "codes": _packed(codes, "<u2")}


def _packed(values: NDArray[Any], kind: str) -> str:
    """Return numbers as base64."""
    return base64.b64encode(np.ascontiguousarray(values.astype(kind)).tobytes()).decode()


def _packed_reasons(reasons: NDArray[Any]) -> dict[str, Any]:
    """Return the reasons as a list of names and one code per tile; 0 is valid."""
    names = ["", *sorted({str(reason) for reason in reasons} - {""})]
    place = {name: index for index, name in enumerate(names)}
    codes = np.array([place[str(reason)] for reason in reasons], np.uint8)
    return {"names": names, "codes": _packed(codes, "u1")}


def _packed_figure(data: ReportData, index: int) -> dict[str, Any]:
    """Return one figure: its name, how it is written, and its values."""
    column = data.columns[index]
    shown = {each.name for each in tile_columns(data)}
    packed: dict[str, Any] = {
        "label": column.label,
        "direction": column.direction,
        "decimals": data.decimals[column.name],
        "inTable": column.name in shown,
        "image": quantised(data.own_image(column)),
    }
    if data.twin(column):
        packed["before"] = quantised(data.own_before(column))
    return packed


def data_uri(content: bytes, kind: str) -> str:
    """Return a picture as a URI; `kind` is `png` or `webp`."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Return a picture as PNG."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def encode_webp(pixels: NDArray[np.uint8], quality: int) -> bytes:
    """Return a picture as WebP, without loss for `LOSSLESS`."""
    stream = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if quality == LOSSLESS:
        picture.convert("RGB").save(stream, "WEBP", lossless=True, quality=60, method=3)
    else:
        picture.convert("RGB").save(stream, "WEBP", quality=quality, method=4)
    return stream.getvalue()


def encode_within(pictures: Sequence[NDArray[np.uint8]], budget: int) -> tuple[list[bytes], int]:
    """Encode pictures at the best quality to fit all of them into a budget of bytes.

    Returns
    -------
    encoded : list of bytes
        WebP; the lowest quality if none fits.
    quality : int
        Of all of them.
    """
    encoded: list[bytes] = []
    quality = QUALITIES[0]
    for quality in QUALITIES:
        encoded = []
        held = 0
        for picture in pictures:
            encoded.append(encode_webp(picture, quality))
            held += len(encoded[-1])
            if held > budget:
                break  # the rest cannot help this quality
        if held <= budget:
            break
    missing = pictures[len(encoded) :]  # only if the lowest quality exceeded the budget
    return encoded + [encode_webp(picture, quality) for picture in missing], quality

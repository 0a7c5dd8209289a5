"""Pictures as text inside the page: PNG for exact colours, WebP for photographs.

The page has a budget, because it is sent by mail: tiles at full size are stored without loss if they fit, else at the
best fitting quality, stated on the page.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LOSSLESS = 101
"""A quality of WebP beyond 100: every pixel as it was."""

QUALITIES = (LOSSLESS, 95, 88, 78, 60, 35)


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

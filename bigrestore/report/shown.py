"""How a page and a notebook write numbers and hold pictures.

Numbers have a true minus sign, commas between thousands and as many decimals as asked for. Pictures are WebP in the
text itself: no file lies beside it.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

NOTHING = "–"
"""Where there is no number."""

MINUS = "\N{MINUS SIGN}"

LOSSLESS = 101
"""A quality of WebP beyond 100: every pixel as it was."""


def number(value: float | None, decimals: int) -> str:
    """Return a number with a true minus sign and commas between thousands; a dash for None."""
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else MINUS + "∞"
    text = f"{abs(value):,.{decimals}f}"
    return (MINUS if value < 0 and float(text.replace(",", "")) else "") + text


def signed(value: float | None, decimals: int) -> str:
    """Return a change: a number with its plus or minus, neither at zero."""
    text = number(value, decimals)
    rises = value is not None and value > 0 and any(digit in "123456789∞" for digit in text)
    return "+" + text if rises else text


def percent(share: float | None) -> str:
    """Return a share as whole percents; 0 and 100 only if exact."""
    if share is None or math.isnan(share):
        return NOTHING
    if 0 < share < 0.005:
        return "<1 %"
    return ">99 %" if 0.995 <= share < 1 else f"{100 * share:.0f} %"


def plural(value: int, one: str) -> str:
    """Return a number with its noun."""
    return f"{value:,} {one if value == 1 else one + 's'}"


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence lists them: a, b and c."""
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def short_name(path: object) -> str:
    """Return the last part of a path: the file's name."""
    return str(path).rstrip("/").rsplit("/", 1)[-1] or str(path)


def data_uri(webp: bytes) -> str:
    """Return a picture as a URI."""
    return f"data:image/webp;base64,{base64.b64encode(webp).decode()}"


def encode_webp(pixels: NDArray[np.uint8], quality: int) -> bytes:
    """Return a picture, grey, RGB or RGBA, as WebP, without loss for `LOSSLESS`."""
    stream = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture = picture if picture.mode == "RGBA" else picture.convert("RGB")
    if quality == LOSSLESS:
        picture.save(stream, "WEBP", lossless=True, quality=20, method=1)
    else:
        picture.save(stream, "WEBP", quality=quality, alpha_quality=quality, method=2)
    return stream.getvalue()

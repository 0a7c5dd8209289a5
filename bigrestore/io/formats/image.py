"""Read PNG and JPEG, decoded whole at the first window.

BigBrain's own sections are PNG of 37 to 150 Mpx, far beyond Pillow's limit against attacks; the limit is lifted for
the header only. The resolution in these files is nearly always the default of some program: only one of a
microscope or a slide scanner counts as a voxel size. The orientation in EXIF is applied.
"""

from __future__ import annotations

import logging
import struct
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from bigrestore.errors import BigrestoreError, InputError
from bigrestore.io.access.limits import BOMB_BYTES, DEFLATE_RATIO, require_unpacked
from bigrestore.io.access.places import InputPath, open_bytes
from bigrestore.io.conventions.orientation import ORIENTATION_TAG, oriented
from bigrestore.io.decoded import Decoded
from bigrestore.io.formats.resolution import resolution_size
from bigrestore.io.levels import UNKNOWN, Level, OpenedImage, Triple, require_pixels

log = logging.getLogger(__name__)

_PILLOW_LIMIT = threading.Lock()
_STRIP_ROWS = 1024

_GREY_ALPHA = 4
"""Colour type of grey with alpha in the header of PNG."""

_MODES: dict[str, tuple[str, int, type[np.generic]]] = {
    "L": ("L", 1, np.uint8),
    "LA": ("L", 1, np.uint8),
    "RGB": ("RGB", 3, np.uint8),
    "RGBA": ("RGB", 3, np.uint8),
    "RGBX": ("RGB", 3, np.uint8),
    "I;16": ("I;16", 1, np.uint16),
    "I;16B": ("I;16B", 1, np.uint16),
    "I": ("I", 1, np.uint16),
    "1": ("1", 1, np.bool_),
    "CMYK": ("RGB", 3, np.uint8),
}
"""What each Pillow mode is read as: mode, channels, dtype."""


def open_png_or_jpeg(path: InputPath, *, labels: bool = False) -> OpenedImage:
    """Open a PNG or JPEG file by its header.

    `labels` marks a mask, with possibly one bit per pixel.

    Raises
    ------
    InputError
        If it is damaged, or holds neither grey nor RGB values.
    """
    with _open_image(path) as image:
        mode, (width, height) = image.mode, image.size
        palette = image.getpalette("RGB") if mode == "P" else None
        colours = np.asarray(palette or [], dtype=np.uint8).reshape(-1, 3)
        coloured = bool((colours != colours[:, :1]).any())
        dpi = image.info.get("dpi")
        size, size_from = _voxel_size(dpi)
        details: dict[str, Any] = {"format": image.format, "mode": mode, "voxel_size_from": size_from}
        orientation = _exif_orientation(image, path)
    deep = False
    if details["format"] == "PNG" and mode in ("RGB", "RGBA", "LA"):
        # Pillow reduces 16 bits of colour or alpha to 8, and calls grey with alpha RGBA.
        with open_bytes(path) as file:
            depth, colour_type = file.read(26)[24:]
        deep = depth == 16
        mode = "LA" if deep and colour_type == _GREY_ALPHA else mode
    if mode == "1" and not labels:
        raise InputError(
            f"{path} has one bit per pixel: a mask cannot be restored; convert it to 8 bits if it is an image."
        )
    dtype: np.dtype[Any]
    if mode == "P":
        target, channels, dtype = ("RGB", 3, np.dtype(np.uint8)) if coloured else ("L", 1, np.dtype(np.uint8))
    elif mode in _MODES:
        target, channels, dtype = _MODES[mode][0], _MODES[mode][1], np.dtype(_MODES[mode][2])
    else:
        raise InputError(f"{path} has the colour mode {mode}, which is not read; convert it to grey or RGB.")
    if deep:
        dtype = np.dtype(np.uint16)
    if mode == "CMYK":
        log.warning("%s holds CMYK colours, which are converted to RGB without a colour profile", path)
    if mode in ("LA", "RGBA", "RGBX"):
        log.info("%s has an alpha channel, which is dropped", path)
    require_pixels((height, width), str(path))
    nbytes = height * width * channels * dtype.itemsize
    _require_possible_size(path, str(details["format"]), nbytes, labels)
    held: Decoded[NDArray[Any]] = Decoded(nbytes)

    def read(z: int, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        whole = held.get(
            z,
            lambda: (
                _decode_deep(path, channels, orientation)
                if deep
                else _decode(path, target, dtype, orientation)
            ),
            nbytes,
        )
        return whole[y0:y1, x0:x1]

    opened = OpenedImage(
        kind="image",
        levels=(Level((1, height, width), (height, width), read, size),),
        channels=channels,
        dtype=dtype,
        axes="yxc" if channels == 3 else "yx",
        is_volume=False,
        resident_bytes=nbytes,
        files=(path,),
        details=details,
    )
    return oriented(opened, orientation, str(path))


def _exif_orientation(image: Image.Image, path: InputPath) -> int:
    """Return the orientation in EXIF or XMP, 1 without; of an image that is not loaded, of its header.

    Pillow's own method for PNG decodes the image, to look for EXIF behind the pixels.
    """
    value, faults = None, list[object]()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            value = Image.Image.getexif(image).get(ORIENTATION_TAG)
        except (ValueError, TypeError, KeyError, IndexError, OSError, SyntaxError, struct.error) as err:
            faults.append(err)
    faults += [item.message for item in said]
    if faults:
        log.warning("the EXIF of %s is damaged (%s); its orientation may be missing.", path, faults[0])
    return value if isinstance(value, int) else 1


def _load(image: Image.Image, orientation: int, path: InputPath) -> None:
    """Decode an image; refuse a PNG with an orientation behind its pixels, where opening does not look."""
    header = image.info.get("exif")
    image.load()
    if image.info.get("exif") == header:
        return
    late = _exif_orientation(image, path)
    if late not in (1, orientation):
        raise InputError(
            f"{path} states the orientation {late} behind its pixels, where it is read too late; apply it first, by "
            "`mogrify -auto-orient`."
        )


def _require_possible_size(path: InputPath, kind: str, nbytes: int, labels: bool) -> None:
    """Refuse a size beyond the file's capacity or the memory."""
    size = path.stat().st_size
    if kind == "PNG" and nbytes // 8 > max(BOMB_BYTES, size * DEFLATE_RATIO):  # one bit per pixel at least
        raise InputError(
            f"{path} claims {nbytes} bytes of pixels in {size}, more than PNG can pack; it is damaged, copy it again."
        )
    require_unpacked(size, nbytes, str(path), labels=labels)


def _open_image(path: InputPath) -> Image.Image:
    """Open an image without Pillow's size limit, made for web servers."""
    with _PILLOW_LIMIT:
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            return Image.open(path if isinstance(path, Path) else path.open(), formats=("PNG", "JPEG"))
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError, struct.error) as err:
            if isinstance(err, PermissionError | BigrestoreError):
                raise
            raise InputError(f"{path} is a damaged image ({err}); copy or write it again.") from err
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _decode(path: InputPath, target: str, dtype: np.dtype[Any], orientation: int) -> NDArray[Any]:
    """Decode a whole image as stored, converting strip by strip so it is held twice at most."""
    with _open_image(path) as image:
        try:
            _load(image, orientation, path)
        except BigrestoreError:
            raise
        except (OSError, SyntaxError, ValueError) as err:
            raise InputError(f"{path} is damaged or cut off ({err}); copy or write it again.") from err
        width, height = image.size
        shape = (height, width, 3) if target == "RGB" else (height, width)
        pixels = np.empty(shape, dtype)
        for y0 in range(0, height, _STRIP_ROWS):
            strip = image.crop((0, y0, width, min(y0 + _STRIP_ROWS, height)))
            pixels[y0 : y0 + _STRIP_ROWS] = np.asarray(
                strip if strip.mode == target else strip.convert(target)
            )
    pixels.flags.writeable = False
    return pixels


def _decode_deep(path: InputPath, channels: int, orientation: int) -> NDArray[Any]:
    """Decode a PNG of 16 bits per colour without alpha; Pillow would cut it down to 8 bits."""
    import imagecodecs

    encoded = path.read_bytes()
    try:
        pixels = np.asarray(imagecodecs.png_decode(encoded))
    except (imagecodecs.PngError, ValueError) as err:
        raise InputError(f"{path} is damaged or cut off ({err}); copy or write it again.") from err
    if encoded.rfind(b"eXIf") > encoded.find(b"IDAT"):
        with _open_image(path) as image:
            _load(image, orientation, path)
    pixels = pixels[..., :channels] if channels == 3 else pixels[..., 0]
    pixels.flags.writeable = False
    return pixels


def _voxel_size(dpi: Any) -> tuple[Triple, str]:
    """Return the voxel size of a plausible resolution in dots per inch, and where it came from."""
    try:
        across, down = (float(value) for value in dpi)
    except (TypeError, ValueError):
        return UNKNOWN, "not stated"
    return resolution_size(down, across, 25400.0, "the header")

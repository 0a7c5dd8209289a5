"""Reading training images, and splitting them by section.

Training machines have little more than torch, numpy, pillow and tifffile, so this module avoids the lazy section
reader. Training images fit into memory whole, as uint8 or uint16 grey; colour becomes luma for the grey network.
Validation holds out whole files: two windows of one section look alike, and a figure on them would flatter the
network.
"""

from __future__ import annotations

import logging
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from bigrestore.core.files import whole_file
from bigrestore.core.host.names import name_bytes
from bigrestore.core.regular import is_regular
from bigrestore.errors import InputError, InputMissingError

log = logging.getLogger(__name__)

TIFF_SUFFIXES = frozenset({".tif", ".tiff"})
IMAGE_SUFFIXES = TIFF_SUFFIXES | {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
VALIDATION_FOLDER = "val"
TRAINING_SUFFIX = ".safetensors.train"
"""End of the names of training folders. Their sheets show held-out images and are never trained on."""

HOLD_OUT_EVERY = 12

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@attrs.frozen(eq=False)
class GreyImage:
    """One grey training image.

    Attributes
    ----------
    name : str
        File name without folder; the part before `__` is its group.
    pixels : ndarray, (h, w), uint8 or uint16
        Grey values over the whole storage range.
    noise_variance : float
        Variance of its white noise, grey values 0..1, as far as it is known.
    """

    name: str
    pixels: NDArray[Any]
    noise_variance: float = 0.0

    @property
    def group(self) -> str:
        """Return the group of the image: its name before the first `__`, or the empty string."""
        return group_of(self.name)


def group_of(name: str) -> str:
    """Return the group of a file name: the part before the first `__`, else ''."""
    head, mark, _ = name.partition("__")
    return head if mark else ""


def find_images(source: Path | str | Sequence[Path | str]) -> list[Path]:
    """List the training files below a folder, or of a list of files and folders, in a stable order.

    Files in a folder named `val` are left out, unless this folder or a file in it was asked for: a data folder with
    `train` and `val` side by side gives `train`.

    Raises
    ------
    InputMissingError
        A path does not exist.
    InputError
        There is no image (PNG, JPEG, TIFF, BMP, WebP) and no packed `.npz` file.
    """
    given = [source] if isinstance(source, str | Path) else list(source)
    files: list[Path] = []
    for entry in map(Path, given):
        if not entry.is_dir() and not is_regular(entry):
            raise InputMissingError(
                f"The training data {entry} does not exist; give a folder of images or files."
            )
        files.extend(_below(entry) if entry.is_dir() else [entry])
    files = sorted(dict.fromkeys(files), key=lambda path: (path.name, str(path)))
    if not files:
        where = ", ".join(map(str, given)) or "an empty list"
        raise InputError(
            f"There is no image in {where}; training takes PNG, JPEG, TIFF, BMP, WebP or a packed .npz file."
        )
    return files


def _below(folder: Path) -> Iterator[Path]:
    """Yield the image files below a folder, without validation folders and training folders under it."""
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith(".") for part in parts)
        if path.suffix.lower() not in IMAGE_SUFFIXES | {".npz"} or hidden:
            continue
        ours = any(part.endswith(TRAINING_SUFFIX) for part in parts[:-1])
        if VALIDATION_FOLDER not in parts[:-1] and not ours and is_regular(path):
            yield path


def split_by_section(images: Sequence[GreyImage]) -> tuple[list[GreyImage], list[GreyImage]]:
    """Split images into those to train on and those held out for the running validation figure.

    Pages of one file stay together. In each group of at least twelve files every twelfth, by name, is held
    out; of smaller groups a file goes when a checksum of its name says so (one in twelve), as long as two of
    its group remain. When nothing was chosen, the last file of the largest group is held out. With fewer than
    three files there is nothing to spare: both lists are then all images, and the log says so.

    Returns
    -------
    training, validation : list of GreyImage
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted({image.name for image in images}):
        groups[group_of(name)].append(name)
    held: set[str] = set()
    for names in groups.values():
        if len(names) >= HOLD_OUT_EVERY:
            held.update(names[HOLD_OUT_EVERY // 2 :: HOLD_OUT_EVERY])
        elif len(names) >= 3:
            held.update([name for name in names if zlib.crc32(name_bytes(name)) % HOLD_OUT_EVERY == 0][:1])
    count = sum(map(len, groups.values()))
    if not held and count >= 3:
        held.add(max(groups.values(), key=len)[-1])
    if not held:
        log.warning(
            "With %d training file(s) none can be held out: validation is measured on training data.",
            count,
        )
        return list(images), list(images)
    training = [image for image in images if image.name not in held]
    return training, [image for image in images if image.name in held]


def load_images(source: Path | str | Sequence[Path | str]) -> list[GreyImage]:
    """Read every image listed by `find_images` into memory, as grey arrays.

    Raises
    ------
    InputError
        A file cannot be decoded, or its kind of pixels is unknown.
    """
    images: list[GreyImage] = []
    for path in find_images(source):
        if path.suffix.lower() == ".npz":
            images.extend(_unpack(path))
        else:
            images.extend(GreyImage(path.name, page) for page in read_grey(path))
    return images


def read_grey(path: Path) -> list[NDArray[Any]]:
    """Read one file as grey pages.

    Parameters
    ----------
    path : Path
        PNG, JPEG, BMP, WebP (one page), or TIFF (every page of its first series).

    Returns
    -------
    list of ndarray, (h, w), uint8 or uint16
        Colour is reduced to luma (0.299 R + 0.587 G + 0.114 B); transparent pixels are laid on white; float
        pixels in 0..1 become uint16.

    Raises
    ------
    InputError
        The file cannot be decoded, or its pixels are of another kind.
    """
    try:
        raw = tifffile.imread(path) if path.suffix.lower() in TIFF_SUFFIXES else _read_pillow(path)
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, tifffile.TiffFileError) as error:
        raise InputError(
            f"The training image {path} cannot be read ({error}); repair or remove it."
        ) from error
    return [_to_storage(page, path) for page in _grey_pages(np.asarray(raw), path)]


def _read_pillow(path: Path) -> NDArray[Any]:
    """Decode one file with pillow, as (h, w) or (h, w, 3 or 4)."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # whole sections exceed pillow's limit
    try:
        with Image.open(path) as image:
            if image.mode in {"L", "RGB", "RGBA", "I;16", "I;16B", "F", "I"}:
                return np.asarray(image)
            if image.mode in {"1", "CMYK", "YCbCr", "LAB", "HSV"}:
                return np.asarray(image.convert("L" if image.mode == "1" else "RGB"))
            return np.asarray(image.convert("RGBA"))
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _grey_pages(raw: NDArray[Any], path: Path) -> list[NDArray[Any]]:
    """Return the 2-D grey pages of a decoded array, colour reduced to luma."""
    raw = raw.squeeze()
    if raw.ndim >= 3 and raw.shape[-1] in {3, 4}:
        raw = _luma(raw)
    if raw.ndim == 2 and min(raw.shape) > 0:
        return [raw]
    if raw.ndim == 3 and min(raw.shape) > 0:
        return list(raw)
    raise InputError(
        f"The training image {path} has the shape {raw.shape}; give images of two dimensions, grey or RGB."
    )


def _luma(colour: NDArray[Any]) -> NDArray[Any]:
    """Reduce (..., 3 or 4) to grey of the same dtype; transparent pixels are laid on white."""
    white = float(np.iinfo(colour.dtype).max) if colour.dtype.kind == "u" else 1.0
    grey = colour[..., :3].astype(np.float32) @ _LUMA
    if colour.shape[-1] == 4:
        alpha = colour[..., 3].astype(np.float32) / white
        grey = grey * alpha + white * (1 - alpha)
    if colour.dtype.kind == "u":
        grey = np.clip(np.rint(grey), 0, white)
    result: NDArray[Any] = grey.astype(colour.dtype if colour.dtype.kind == "u" else np.float32)
    return result


def _to_storage(page: NDArray[Any], path: Path) -> NDArray[Any]:
    """Return a page as uint8 or uint16, contiguous."""
    if page.dtype == np.uint8 or page.dtype == np.uint16:
        return np.ascontiguousarray(page)
    if page.dtype.kind == "u" and page.dtype.itemsize == 2:
        return np.ascontiguousarray(page.astype(np.uint16))
    low, high = float(page.min()), float(page.max())
    if page.dtype.kind == "f" and 0 <= low and high <= 1:
        return np.asarray(np.rint(page * 65535), dtype=np.uint16)
    if page.dtype.kind == "i" and page.dtype.itemsize > 1 and 0 <= low and high <= 65535:
        return page.astype(np.uint16)
    if page.dtype == np.bool_:
        return np.asarray(page * 255, dtype=np.uint8)
    raise InputError(
        f"The training image {path} holds {page.dtype} from {low:g} to {high:g}; give uint8, uint16, or "
        "float within 0..1."
    )


def pack(source: Path | str | Sequence[Path | str], output: Path | str) -> int:
    """Write all training images into one `.npz` file, for a machine without the folder.

    Parameters
    ----------
    source : path or list of paths
        As for `find_images`.
    output : path
        File to write; the packed file is read back by `load_images` and `PatchSource`.

    Returns
    -------
    int
        Number of images packed.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    images = load_images(source)
    target = Path(output)
    arrays: dict[str, Any] = {f"pixels_{i:05d}": image.pixels for i, image in enumerate(images)}
    arrays["names"] = np.array([image.name for image in images])
    with whole_file(target) as partial, partial.open("wb") as stream:
        np.savez_compressed(stream, **arrays)
    return len(images)


def _unpack(path: Path) -> Iterable[GreyImage]:
    """Read the images of a file written by `pack`."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            names = [str(name) for name in archive["names"]]
            return [GreyImage(name, archive[f"pixels_{i:05d}"]) for i, name in enumerate(names)]
    except (OSError, ValueError, KeyError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path} is no packed training data ({error}); write it with bigrestore.training.data.images.pack."
        ) from error

"""A first check of the input files, before a run is resumed.

The sampled pixels of a fingerprint cannot show a change elsewhere. A modification time cannot tell a change from a
copy: a section moved to another disk has new times. So the sizes of the files are stored, since nearly every change of
compressed pixels changes them. Small files have a checksum of their contents too. The name of a section's file says
nothing of its pixels, and may change; the names within a store are the places of its chunks.

A chunked store may have millions of files. Some thousands are looked at, spread evenly over its folders. The pixels of
each block are compared later (`input_check`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bigrestore.io.access.places import InputPath, open_bytes
from bigrestore.io.section import Section
from bigrestore.io.verify.metadata import STORE_FILES

SAMPLED_FILES = 4096
"""Files that are looked at."""

READ_BYTES = 256 << 20
"""Files of this size together are read whole."""


def input_file_facts(section: Section) -> dict[str, Any]:
    """Return sizes, times and a checksum of the files of a section, JSON-able.

    Returns
    -------
    dict
        `files`: [size in bytes, modification time in ns] by the number of the root and the path in it, which is empty
        for a root that is a file; `names`: of such roots, by the same; `blake2b`: of all contents, or None.
    """
    files: dict[str, list[int]] = {}
    names: dict[str, str] = {}
    places: dict[str, InputPath] = {}
    for number, root in enumerate(_roots(section)):
        for path in _sample_files(root):
            try:
                seen = path.stat()
            except OSError:  # a chunk that was removed meanwhile is missed when it is read
                continue
            inside = isinstance(path, Path) and isinstance(root, Path) and path != root
            key = f"{number}/{Path(str(path)).relative_to(str(root)).as_posix() if inside else ''}"
            files[key], places[key] = [seen.st_size, seen.st_mtime_ns], path
            if not inside:
                names[key] = path.name
    return {"files": files, "names": names, "blake2b": _contents(files, places)}


def what_changed(then: dict[str, Any], now: dict[str, Any]) -> str:
    """Compare two results of `input_file_facts`; a file of another name and the same contents is the same.

    Returns
    -------
    str
        The first sign of a change, for a message; empty: none.
    """
    before, after = then.get("files", {}), now.get("files", {})
    if not before:
        return ""
    names = then.get("names")
    if names is None:  # the first plans keep the name of a file in its key
        names = {f"{key.split('/')[0]}/": key.split("/", 1)[1] for key in before}
        if names.keys() == now["names"].keys():
            before = {f"{key.split('/')[0]}/": facts for key, facts in before.items()}
    if before.keys() != after.keys():
        if names and now["names"]:
            return f"it has {len(after)} file(s), and had {len(before)}"
        other = min(before.keys() ^ after.keys())
        return f"{other.split('/', 1)[1]} was {'removed' if other in before else 'added'}"
    other = [key for key in before if before[key][0] != after[key][0]]
    if other:
        key = other[0]
        name, former = now["names"].get(key), names.get(key)
        renamed = "" if name == former else f" ({former} then)"
        return f"{name or key.split('/', 1)[1]}{renamed} has another size"
    if then.get("blake2b") is not None:
        return "" if then["blake2b"] == now.get("blake2b") else "its files hold something else"
    return ""


def _roots(section: Section) -> Sequence[InputPath]:
    """Return the files of a section, or the folder of the chunks of its level.

    A packed store is one file. A remote one is checked by its metadata: asking for each chunk would take hours.
    """
    files = [file for file in section.files if isinstance(file, Path)]
    packed = files and files[0].name not in STORE_FILES
    if section.kind not in ("ome-zarr", "zarr") or len(files) < len(section.files) or packed:
        return section.files
    folders = list(dict.fromkeys(path.parent for path in files))
    level = 1 + section.level if section.kind == "ome-zarr" else 0
    return folders[level : level + 1]


def _sample_files(root: InputPath) -> list[InputPath]:
    """Return the files under a root: all, or `SAMPLED_FILES` at most, evenly spread at every depth."""
    if not isinstance(root, Path) or not root.is_dir():
        return [root]
    files: list[Path] = []
    folders = [root]
    while folders:
        below: list[Path] = []
        for folder in folders:
            with os.scandir(folder) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    if entry.is_dir(follow_symlinks=False):  # a link may lead in a circle
                        below.append(Path(entry.path))
                    elif _is_file(entry):
                        files.append(Path(entry.path))
        folders = _some(below)
    return list(_some(files))


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Tell a file, or a link to one, from pipes, devices and dangling links."""
    try:
        return entry.is_file()
    except OSError:
        return False


def _some(paths: list[Path]) -> list[Path]:
    """Return `SAMPLED_FILES` paths at most, evenly spread."""
    count = min(len(paths), SAMPLED_FILES)
    return [paths[i * len(paths) // count] for i in range(count)]


def _contents(files: dict[str, list[int]], places: dict[str, InputPath]) -> str | None:
    """Return a checksum of everything in the files, None if that is too much to read."""
    if sum(size for size, _ in files.values()) > READ_BYTES or len(files) >= SAMPLED_FILES:
        return None
    total = hashlib.blake2b(digest_size=16)
    for name in sorted(files):
        try:
            with open_bytes(places[name]) as file:
                total.update(hashlib.file_digest(file, "blake2b").digest())
        except OSError:
            return None
    return total.hexdigest()

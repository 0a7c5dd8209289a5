"""Change bytes of good files at random and read them: each must be read, or refused by an error that is foreseen.

Hypothesis draws where and how; what it finds it makes small. The memory of the process is bounded meanwhile, so that a
claim that is believed shows as an error and not as a machine that swaps.
"""

from __future__ import annotations

import copy
import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import tifffile
import zarr
from bad_inputs import tissue
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from bigrestore.errors import BigrestoreError
from bigrestore.io.open_section import open_section

EXAMPLES = 200

Damage = list[tuple[float, int, int]]
"""Where (as a share of the file), what is put there, and how often."""


def good_files(folder: Path) -> list[Path]:
    """Write one good input of each kind."""
    Image.fromarray(tissue()).save(folder / "a.png")
    Image.fromarray(tissue()).save(folder / "a.jpg")
    tifffile.imwrite(folder / "strips.tif", tissue(), compression="lzw", rowsperstrip=16)
    tifffile.imwrite(folder / "tiles.tif", tissue(), compression="deflate", tile=(32, 32))
    tifffile.imwrite(folder / "plain.ome.tif", np.stack([tissue()] * 3), metadata={"axes": "ZYX"})
    _write_statements(folder)
    for version, name in ((2, "two"), (3, "three")):
        zarr.create_array(folder / f"{name}.zarr", data=tissue(), chunks=(48, 48), zarr_format=version)
    zarr.create_array(folder / "shards.zarr", data=tissue(), chunks=(24, 24), shards=(48, 48))
    shutil.make_archive(str(folder / "packed.zarr"), "zip", folder / "three.zarr")
    return sorted(folder.iterdir())


def _write_statements(folder: Path) -> None:
    """Write files that say something of their own pixels: orientation, limits, colour."""
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(tissue()).save(folder / "turned.png", exif=exif.tobytes())
    tags = [(274, 3, 1, 6, True), (281, 3, 1, 1023, True)]
    dark = tissue().astype(np.uint16)
    tifffile.imwrite(folder / "turned.tif", dark, photometric="miniswhite", metadata=None, extratags=tags)
    image: Any = nibabel.Nifti1Image(dark[:, np.newaxis], np.eye(4))
    image.header["cal_max"] = 1023
    nibabel.save(image, folder / "limits.nii")
    with h5py.File(folder / "colour.mnc", "w") as file:
        stored = file.create_dataset("minc-2.0/image/0/image", data=np.stack([tissue()] * 3, axis=-1))
        stored.attrs["dimorder"] = np.bytes_("zspace,xspace,vector_dimension")
        stored.attrs["valid_range"] = np.array([0.0, 200.0])


def read_all(path: Path) -> None:
    """Open and read an input; errors that are foreseen are what it may answer with."""
    try:
        section = open_section(path)
        for z in range(min(3, section.depth)):
            section.read(z, 0, min(200, section.height), 0, min(200, section.width))
    except BigrestoreError as error:
        text = str(error)
        assert text.endswith((".", "!")), text
        assert "\n" not in text, text


def _damaged(content: bytes, damage: Damage) -> bytes:
    raw = bytearray(content)
    for place, value, count in damage:
        at = int(place * len(raw))
        raw[at : at + count] = bytes([value]) * min(count, max(0, len(raw) - at))
    return bytes(raw)


def _damaged_json(text: str, damage: Damage) -> str:
    """Change a value of a document for another of a hostile list."""
    hostile: list[Any] = [
        None,
        -1,
        0,
        2**63,
        1e300,
        "",
        "a" * 1000,
        [],
        {},
        [[]],
        True,
        [10**9, 10**9],
        {"name": "x"},
    ]
    document = json.loads(text)
    for place, value, _ in damage:
        node: Any = document
        for _ in range(6):
            keys: list[Any] = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = keys[int(place * len(keys))]
            place = place * len(keys) % 1
            if not isinstance(node[key], dict | list) or value % 3 == 0:
                node[key] = copy.deepcopy(hostile[value % len(hostile)])
                break
            node = node[key]
    return json.dumps(document)


def one_file(path: Path, folder: Path) -> Callable[[Damage], None]:
    """Return a function that damages an input and reads it."""

    def attempt(damage: Damage) -> None:
        copy = folder / path.name
        if path.is_file():
            copy.write_bytes(_damaged(path.read_bytes(), damage))
            read_all(copy)
            return
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(path, copy)
        files = sorted(item for item in copy.rglob("*") if item.is_file())
        victim = files[int(damage[0][0] * len(files))]
        if victim.suffix == ".json" or victim.name.startswith("."):
            victim.write_text(_damaged_json(victim.read_text(), damage))
        else:
            victim.write_bytes(_damaged(victim.read_bytes(), damage))
        read_all(copy)

    return attempt


def damages() -> st.SearchStrategy[Damage]:
    """Return what is drawn: a few places, values and lengths."""
    place = st.floats(0, 1, exclude_max=True, width=32)
    return st.lists(
        st.tuples(place, st.integers(0, 255), st.sampled_from([1, 2, 4, 8, 100])), min_size=1, max_size=5
    )


def _draw(attempt: Callable[[Damage], None], until: float, examples: int) -> int:
    """Try some damages that are drawn, until a time; return how many."""
    tried = 0

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(damages())
    def run(damage: Damage) -> None:
        nonlocal tried
        if time.monotonic() < until:
            attempt(damage)
            tried += 1

    run()
    return tried


def fuzz(seconds: float, examples: int = EXAMPLES) -> list[str]:
    """Fuzz the readers for some time; return what escaped, one line each."""
    escaped: list[str] = []
    logging.disable(logging.CRITICAL)  # the libraries say a lot of damaged files
    until, tried = time.monotonic() + seconds, 0
    with tempfile.TemporaryDirectory() as name:
        good, work = Path(name) / "good", Path(name) / "work"
        good.mkdir()
        work.mkdir()
        files, turn = good_files(good), 0
        while time.monotonic() < until:
            path = files[turn % len(files)]
            attempt = one_file(path, work)
            turn += 1

            try:
                tried += _draw(attempt, until, examples)
            except Exception as error:  # noqa: BLE001 - any error that is not foreseen is what is looked for
                escaped.append(f"{path.name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
    print(f"{tried} damaged files read in {seconds:.0f} s, {len(escaped)} errors that are not foreseen")
    return sorted(set(escaped))

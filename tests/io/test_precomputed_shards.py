"""Sharded precomputed volumes: written here by hand, as Neuroglancer's documentation lays them out."""

from __future__ import annotations

import gzip
import itertools
import json
import struct
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bigrestore.errors import InputError
from bigrestore.io.formats.shards import morton_code, murmur3_low
from bigrestore.io.open_section import open_section

CHUNK = (16, 20, 4)
SHAPE = (10, 50, 70)


def sharding(**stated: Any) -> dict[str, Any]:
    usual = {
        "@type": "neuroglancer_uint64_sharded_v1",
        "preshift_bits": 1,
        "minishard_bits": 1,
        "shard_bits": 2,
    }
    return usual | {"hash": "identity"} | stated


def write_sharded(path: Path, pixels: NDArray[Any], stated: dict[str, Any], lacks: int | None = None) -> Path:
    """Write a volume, (z, y, x), without the chunk of a number where one is left out."""
    pack = {"gzip": lambda content: gzip.compress(content, mtime=0), "raw": bytes, None: bytes}
    size = pixels.shape[::-1]
    grid = tuple(-(-extent // side) for extent, side in zip(size, CHUNK, strict=True))
    shards: dict[int, dict[int, dict[int, bytes]]] = defaultdict(lambda: defaultdict(dict))
    for place in itertools.product(*map(range, grid)):
        cut = tuple(slice(at * side, at * side + side) for at, side in zip(place, CHUNK, strict=True))
        number = morton_code(place, grid)
        key = number >> stated["preshift_bits"]
        key = key if stated["hash"] == "identity" else murmur3_low(key)
        minishard = key & ((1 << stated["minishard_bits"]) - 1)
        shard = key >> stated["minishard_bits"] & ((1 << stated["shard_bits"]) - 1)
        if number != lacks:
            content = np.ascontiguousarray(pixels[cut[::-1]]).tobytes()
            shards[shard][minishard][number] = pack[stated.get("data_encoding")](content)
    (path / "s0").mkdir(parents=True)
    for shard, minishards in shards.items():
        body, head = b"", b""
        for minishard in range(1 << stated["minishard_bits"]):
            chunks = sorted(minishards.get(minishard, {}).items())
            steps, last = [], 0
            for index, (number, content) in enumerate(chunks):
                steps.append((number - last, len(body) if index == 0 else 0, len(content)))
                last = number
                body += content
            listed = np.array(steps, "<u8").T.tobytes() if chunks else b""
            listed = pack[stated.get("minishard_index_encoding")](listed) if chunks else b""
            head += struct.pack("<QQ", len(body), len(body) + len(listed))
            body += listed
        digits = -(-stated["shard_bits"] // 4)
        (path / "s0" / f"{shard:0{digits}x}.shard").write_bytes(head + body)
    scale = {"key": "s0", "size": list(size), "chunk_sizes": [list(CHUNK)], "encoding": "raw"}
    scale |= {"resolution": [1000, 1000, 20000], "voxel_offset": [5, 0, 9], "sharding": stated}
    info = {"type": "image", "data_type": pixels.dtype.name, "num_channels": 1, "scales": [scale]}
    (path / "info").write_text(json.dumps(info))
    return path


@pytest.fixture
def pixels() -> NDArray[np.uint16]:
    return np.random.default_rng(0).integers(1, 60000, SHAPE).astype(np.uint16)


@pytest.mark.parametrize(
    "stated",
    [
        {},
        {"hash": "murmurhash3_x86_128"},
        {"data_encoding": "gzip", "minishard_index_encoding": "gzip"},
        {"hash": "murmurhash3_x86_128", "minishard_index_encoding": "gzip", "shard_bits": 5},
        {"minishard_bits": 0, "shard_bits": 0, "preshift_bits": 0, "data_encoding": "gzip"},
        {"preshift_bits": 64},
    ],
)
def test_windows_are_those_of_the_volume(
    tmp_path: Path, pixels: NDArray[np.uint16], stated: dict[str, Any]
) -> None:
    section = open_section(write_sharded(tmp_path / "v", pixels, sharding(**stated)))
    assert (section.kind, section.shape) == ("precomputed", SHAPE)
    for z, y0, y1, x0, x1 in ((0, 0, 50, 0, 70), (9, 13, 49, 15, 17), (5, 20, 21, 69, 70)):
        np.testing.assert_array_equal(section.read(z, y0, y1, x0, x1), pixels[z, y0:y1, x0:x1])


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        (0, 0x4772B084E028AE41),
        (1, 0xE8BD67D616D4CE9A),
        (1234567890123456789, 0xA9C9107564FFFCBB),
        (2**64 - 1, 0x574F66BD212B5D1A),
    ],
)
def test_the_hash_is_that_of_mmh3(key: int, wanted: int) -> None:
    assert murmur3_low(key) == wanted


@pytest.mark.parametrize(
    ("place", "grid", "wanted"),
    [
        ((1, 0, 0), (4, 4, 4), 1),
        ((0, 0, 1), (4, 4, 4), 4),
        ((3, 1, 0), (4, 2, 1), 7),
        ((0, 0, 5), (1, 1, 8), 5),
    ],
)
def test_the_code_of_a_place_takes_bits_in_turn(place: Any, grid: Any, wanted: int) -> None:
    assert morton_code(place, grid) == wanted


@pytest.mark.parametrize("lost", ["chunk", "shard"])
def test_what_is_missing_is_black(
    tmp_path: Path, pixels: NDArray[np.uint16], lost: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_sharded(tmp_path / "v", pixels, sharding(), lacks=0 if lost == "chunk" else None)
    if lost == "shard":
        (path / "s0" / "0.shard").unlink()
    window = open_section(path).read(0, 0, 50, 0, 70)
    assert not window[:20, :16].any()
    np.testing.assert_array_equal(window[window > 0], pixels[0][window > 0])
    assert window.any()
    assert "lacks chunks" in caplog.text


@pytest.mark.parametrize("length", [0, 7, 20, 40, 300])
def test_a_shard_that_is_cut_off_is_a_sentence(
    tmp_path: Path, pixels: NDArray[np.uint16], length: int
) -> None:
    path = write_sharded(tmp_path / "v", pixels, sharding(shard_bits=0))
    file = path / "s0" / "0.shard"
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(InputError, match=r"0\.shard is a damaged shard \(.*\); copy it again"):
        open_section(path).read(0, 0, 50, 0, 70)


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        (0, 2**63, "bytes, where"),
        (5, 1, "bytes, where"),
        (0, 25, "an index is cut off"),
        (2**62, 2**62 + 24, "ends"),
    ],
)
def test_a_head_that_lies_is_a_sentence(
    tmp_path: Path, pixels: NDArray[np.uint16], start: int, end: int, words: str
) -> None:
    path = write_sharded(tmp_path / "v", pixels, sharding(shard_bits=0, minishard_bits=0))
    file = path / "s0" / "0.shard"
    file.write_bytes(struct.pack("<QQ", start, end) + file.read_bytes()[16:])
    with pytest.raises(InputError, match=words):
        open_section(path).read(0, 0, 50, 0, 70)


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ({"@type": "other"}, "its sharding is"),
        ({"hash": "sha1"}, "its hash is 'sha1'"),
        ({"minishard_bits": -1}, "its minishard_bits is -1"),
        ({"minishard_bits": 60}, "its minishard_bits is 60"),
        ({"shard_bits": None}, "its shard_bits is None"),
        ({"preshift_bits": 1.5}, "its preshift_bits is 1.5"),
        ({"data_encoding": "zstd"}, "its data_encoding is 'zstd'"),
    ],
)
def test_a_sharding_that_is_not_understood_is_a_sentence(
    tmp_path: Path, pixels: NDArray[np.uint16], stated: dict[str, Any], words: str
) -> None:
    path = write_sharded(tmp_path / "v", pixels, sharding())
    info = json.loads((path / "info").read_text())
    info["scales"][0]["sharding"] |= stated
    (path / "info").write_text(json.dumps(info))
    with pytest.raises(InputError, match=words):
        open_section(path)


def test_raw_values_may_begin_like_gzip(tmp_path: Path, pixels: NDArray[np.uint16]) -> None:
    pixels[0, 0, 0] = 0x8B1F
    path = write_sharded(tmp_path / "v", pixels, sharding())
    np.testing.assert_array_equal(open_section(path).read(0, 0, 50, 0, 70), pixels[0])

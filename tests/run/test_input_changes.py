"""An input that changes while a run is at work, or between two of its steps, is never mixed with what it was."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from engine_toys import Fir, go, level0
from PIL import Image

from bigrestore.errors import BigrestoreError, InputError, OutputExistsError
from bigrestore.io import section as section_module
from bigrestore.io.access.versions import Read, recording_reads
from bigrestore.io.open_section import open_section
from bigrestore.model.method import TileBatch
from bigrestore.run.state import input_files
from bigrestore.run.state.journal import Journal

Pixels = np.ndarray[Any, Any]
PLACE = 30, 330
"""A pixel in the first block that no sampled window shows."""
CHUNK = 240, 50
"""As wide as fits between two sampled windows."""


@pytest.fixture
def pixels(tissue: np.ndarray) -> Pixels:
    return np.ascontiguousarray(tissue[:480, :960])


@pytest.fixture(autouse=True)
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every input count as too large to be read whole, and as one of too many files."""
    monkeypatch.setattr(input_files, "READ_BYTES", 0)
    monkeypatch.setattr(input_files, "SAMPLED_FILES", 3)


def changed(pixels: Pixels) -> Pixels:
    other = pixels.copy()
    other[PLACE] ^= 1
    return other


def chunks(path: Path, pixels: Pixels) -> None:
    """Write the chunks whose pixels changed."""
    array = zarr.open_array(path, mode="a", shape=pixels.shape, chunks=CHUNK, dtype=pixels.dtype)
    for y in range(0, pixels.shape[0], CHUNK[0]):
        for x in range(0, pixels.shape[1], CHUNK[1]):
            part = pixels[y : y + CHUNK[0], x : x + CHUNK[1]]
            if not (np.asarray(array[y : y + CHUNK[0], x : x + CHUNK[1]]) == part).all():
                array[y : y + CHUNK[0], x : x + CHUNK[1]] = part


def shards(path: Path, pixels: Pixels) -> None:
    shutil.rmtree(path, ignore_errors=True)
    zarr.create_array(path, data=pixels, chunks=(175, 50), shards=(350, 350))


def tiled(path: Path, pixels: Pixels) -> None:
    tifffile.imwrite(path, pixels, tile=(64, 64), compression="deflate")


def plain(path: Path, pixels: Pixels) -> None:
    tifffile.imwrite(path, pixels)


def strips(path: Path, pixels: Pixels) -> None:
    tifffile.imwrite(path, pixels, rowsperstrip=16, compression="lzw")


def png(path: Path, pixels: Pixels) -> None:
    Image.fromarray(pixels).save(path)


def packed(path: Path, pixels: Pixels) -> None:
    path.unlink(missing_ok=True)
    store = zarr.storage.ZipStore(path, mode="w")
    zarr.create_array(store, data=pixels, chunks=(100, 100))
    store.close()


def nifti(path: Path, pixels: Pixels) -> None:
    nibabel = pytest.importorskip("nibabel")
    nibabel.save(nibabel.Nifti1Image(pixels.T, np.eye(4)), path)


def minc(path: Path, pixels: Pixels) -> None:
    h5py = pytest.importorskip("h5py")
    path.unlink(missing_ok=True)
    with h5py.File(path, "w") as file:
        image = file.create_group("minc-2.0/image/0").create_dataset(
            "image", data=pixels[None], chunks=(1, 70, 70)
        )
        image.attrs["dimorder"] = np.bytes_("yspace,zspace,xspace")


FORMATS: dict[str, Callable[[Path, Pixels], None]] = {
    "a.zarr": chunks,
    "b.zarr": shards,
    "tiled.tif": tiled,
    "plain.tif": plain,
    "strips.tif": strips,
    "a.png": png,
    "a.zarr.zip": packed,
    "a.nii": nifti,
    "a.nii.gz": nifti,
    "a.mnc": minc,
}


@pytest.fixture(params=FORMATS)
def source(
    request: pytest.FixtureRequest, tmp_path: Path, pixels: Pixels
) -> tuple[Path, Callable[[Pixels], None]]:
    """An input of each format, and what writes it anew."""
    path, write = tmp_path / request.param, FORMATS[request.param]
    write(path, pixels)
    return path, lambda other: write(path, other)


@pytest.fixture(scope="module")
def calm(tissue: Pixels, tmp_path_factory: pytest.TempPathFactory) -> Pixels:
    """The output of a run during which nothing changed."""
    folder = tmp_path_factory.mktemp("calm")
    png(folder / "a.png", np.ascontiguousarray(tissue[:480, :960]))
    go(folder / "a.png", folder / "out.ome.zarr", Fir())
    return level0(folder / "out.ome.zarr").squeeze()


def once(at: int, act: Callable[[], None]) -> Fir:
    """Do something when the method is called for the n-th time."""

    def hook(call: int, _: TileBatch) -> None:
        if call == at:
            act()

    return Fir(hook=hook)


def looks_whole(out: Path) -> bool:
    return (out / "zarr.json").exists() and "ome" in zarr.open_group(out, mode="r").attrs


Source = tuple[Path, Callable[[Pixels], None]]


def test_an_input_that_is_written_to_while_a_run_is_at_work_does_not_give_an_output(
    tmp_path: Path, source: Source, pixels: Pixels, calm: Pixels
) -> None:
    path, write = source
    out = tmp_path / "out.ome.zarr"
    method = once(10, lambda: write(changed(pixels)))
    with pytest.raises(BigrestoreError) as info:
        go(path, out, method, threads=1).raise_if_failed()
    assert info.value.exit_code in (3, 5)
    assert not looks_whole(out) or info.value.exit_code == 5
    with pytest.raises(OutputExistsError) as refused:
        go(path, out, Fir(), resume=True)
    assert refused.value.exit_code == 4
    write(pixels)
    go(path, out, Fir(), resume=True, check_all=True).raise_if_failed()
    assert looks_whole(out)
    np.testing.assert_array_equal(level0(out).squeeze(), calm)


def test_an_input_that_is_written_anew_with_the_same_pixels_is_the_same(
    tmp_path: Path, source: Source, pixels: Pixels
) -> None:
    path, write = source
    out = tmp_path / "out.ome.zarr"
    go(path, out, once(10, lambda: write(pixels)), threads=1).raise_if_failed()
    method = Fir()
    write(pixels)
    for file in [path, *path.rglob("*")]:
        os.utime(file, ns=(10**18, 10**18))
    assert go(path, out, method, resume=True).blocks_restored == 0
    moved = tmp_path / "moved" / path.name
    moved.parent.mkdir()
    shutil.copytree(path, moved) if path.is_dir() else shutil.copy(path, moved)
    assert go(moved, out, method, resume=True).blocks_restored == 0
    assert method.calls == 0


@pytest.mark.parametrize("edit", ["pixels", "chunk gone", "chunk of another store", "put back"])
def test_a_change_between_two_steps_is_seen_among_any_number_of_files(
    tmp_path: Path, pixels: Pixels, edit: str
) -> None:
    path, out = tmp_path / "in.zarr", tmp_path / "out.zarr"
    chunks(path, pixels)
    go(path, out, Fir(), init_only=True)
    go(path, out, Fir(), shard="1/2")
    chunk = path / f"c/{PLACE[0] // CHUNK[0]}/{PLACE[1] // CHUNK[1]}"
    kept, time = chunk.read_bytes(), chunk.stat().st_mtime_ns
    if edit == "pixels":
        chunks(path, changed(pixels))
    elif edit == "chunk gone":
        chunk.unlink()
    else:
        chunks(path, changed(pixels))
        other = chunk.with_name("other")
        other.write_bytes(kept if edit == "put back" else chunk.read_bytes())
        other.replace(chunk)
        os.utime(chunk, ns=(time, time))
    for settings in ({"resume": True}, {"finalize": True}, {"shard": "1/2"}):
        if edit == "put back" and "finalize" not in settings:
            assert go(path, out, Fir(), **settings).blocks_done
        elif edit != "put back":
            with pytest.raises(OutputExistsError, match=r"The input was changed since"):
                go(path, out, Fir(), **settings)


def test_the_other_part_of_an_array_job_does_not_mind_what_it_has_not_read(
    tmp_path: Path, pixels: Pixels
) -> None:
    path, out = tmp_path / "in.zarr", tmp_path / "out.zarr"
    chunks(path, pixels)
    go(path, out, Fir(), init_only=True)
    go(path, out, Fir(), shard="1/2")
    chunks(path, changed(pixels))
    go(path, out, Fir(), shard="2/2")
    with pytest.raises(OutputExistsError, match="block z00000-y0000-x0000 was made of other pixels"):
        go(path, out, Fir(), finalize=True)
    assert not looks_whole(out)


def test_a_repair_of_one_chunk_is_no_leave_to_change_another(tmp_path: Path, pixels: Pixels) -> None:
    path, out = tmp_path / "in.zarr", tmp_path / "out.zarr"
    chunks(path, pixels)
    broken = path / "c/0/18"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:20])
    assert len(go(path, out, Fir()).failed) == 1
    broken.write_bytes(whole)
    chunks(path, changed(pixels))
    with pytest.raises(OutputExistsError, match="was made of other pixels"):
        go(path, out, Fir(), resume=True)
    chunks(path, pixels)
    assert not go(path, out, Fir(), resume=True).failed


class Bright(Fir):
    """Its profile shows each pixel of the sampled windows; with `other`, as if another processor rounded otherwise."""

    other = 0.0

    def analyse(self, windows: np.ndarray) -> Any:
        statistics = super().analyse(windows)
        statistics.details["mean"] = float(windows.mean()) + self.other
        return statistics


def test_a_section_whose_profile_would_be_another_is_another(tmp_path: Path, pixels: Pixels) -> None:
    """What no block has read yet shows in the profile, by which the blocks that are done were restored."""

    path, out = tmp_path / "in.zarr", tmp_path / "out.zarr"
    chunks(path, pixels)
    go(path, out, Bright(), init_only=True)
    go(path, out, Bright(), shard="1/2")
    other = pixels.copy()
    other[0:240, 680:702] = 255 - other[0:240, 680:702]
    chunks(path, other)
    with pytest.raises(OutputExistsError, match="section 0 would have another profile"):
        go(path, out, Bright(), resume=True)


def brighter(pixels: Pixels) -> Pixels:
    """Change what is sampled for a profile."""
    other = pixels.copy()
    other[0:480, 400:702] = 255 - other[0:480, 400:702]
    return other


def test_a_run_does_not_finish_by_the_profile_of_what_is_no_longer_there(
    source: Source, tmp_path: Path, pixels: Pixels
) -> None:
    """All blocks are of the new pixels, and the profile by which they were restored is not."""
    path, write = source

    class Between(Bright):
        def analyse(self, windows: np.ndarray) -> Any:
            statistics = super().analyse(windows)
            if not written:
                written.append(write(brighter(pixels)))
            return statistics

    written: list[None] = []
    with pytest.raises(InputError, match=r"while .* was made of it: section 0 would have another profile"):
        go(path, tmp_path / "out.ome.zarr", Between(), threads=1)
    assert not looks_whole(tmp_path / "out.ome.zarr")
    with pytest.raises(OutputExistsError):
        go(path, tmp_path / "out.ome.zarr", Bright(), resume=True)


def test_a_copy_is_the_same_though_another_processor_would_round_its_profile_otherwise(
    source: Source, tmp_path: Path
) -> None:
    path, _ = source
    out, moved, elsewhere = tmp_path / "out.zarr", tmp_path / "moved" / path.name, Bright()
    go(path, out, Bright(), init_only=True)
    go(path, out, Bright(), shard="1/2")
    moved.parent.mkdir()
    shutil.copytree(path, moved) if path.is_dir() else shutil.copy(path, moved)
    elsewhere.other = 1e-7
    assert go(moved, out, elsewhere, resume=True).blocks_restored == 1


def test_masks_and_maps_count_as_the_input_does(tmp_path: Path, pixels: Pixels) -> None:
    path, mask, out = tmp_path / "in.zarr", tmp_path / "mask.png", tmp_path / "out.zarr"
    chunks(path, pixels)
    drawn = np.ones(pixels.shape, np.uint8)
    png(mask, drawn)
    go(path, out, Fir(), mask=str(mask))
    record = next(Journal(out).records())
    assert sorted(record.reads) == ["input", "mask"]
    drawn[PLACE] = 2
    png(mask, drawn)
    with pytest.raises(OutputExistsError, match="mask"):
        go(path, out, Fir(), mask=str(mask), resume=True)

    def draw() -> None:
        drawn[PLACE] = 0
        png(mask, drawn)

    with pytest.raises(InputError, match="The mask was changed while"):
        go(path, tmp_path / "b.zarr", once(10, draw), mask=str(mask), threads=1)


@pytest.mark.parametrize("harm", ["cut off", "empty", "another shape", "gone", "no image"])
@pytest.mark.parametrize("name", ["plain.tif", "tiled.tif", "a.png"])
def test_a_file_that_becomes_unreadable_while_it_is_read_is_a_sentence(
    tmp_path: Path, pixels: Pixels, name: str, harm: str
) -> None:
    path = tmp_path / name
    FORMATS[name](path, pixels)

    def act() -> None:
        if harm == "cut off":
            os.truncate(path, path.stat().st_size // 3)
        elif harm == "gone":
            path.unlink()
        elif harm == "another shape":
            FORMATS[name](path, pixels[:400])
        else:
            path.write_bytes(b"" if harm == "empty" else b"years of work" * 500)

    with pytest.raises(BigrestoreError) as info:
        go(path, tmp_path / "out.zarr", once(2, act), threads=1).raise_if_failed()
    assert info.value.exit_code in (3, 5)
    assert "\n" not in str(info.value)


def test_what_was_decoded_of_a_file_is_forgotten_when_the_file_changes(
    source: Source, pixels: Pixels
) -> None:
    path, write = source
    section = open_section(path)
    assert section.read(0, 0, 100, 300, 400)[PLACE[0], PLACE[1] - 300] == pixels[PLACE]
    before = section.version(0, 0, 100, 300, 400)
    write(changed(pixels))
    assert section.read(0, 0, 100, 300, 400)[PLACE[0], PLACE[1] - 300] == pixels[PLACE] ^ 1
    assert section.version(0, 0, 100, 300, 400) != before


def test_a_window_that_changes_again_and_again_is_refused(
    tmp_path: Path, pixels: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    png(tmp_path / "a.png", pixels)
    section = open_section(tmp_path / "a.png")
    with recording_reads() as reads:
        section.read(0, 0, 9, 0, 9)
    assert [Read.from_json(read.to_json()) for read in reads] == reads
    assert reads[0].window == (0, 0, 9, 0, 9)
    counter: Iterator[str] = map(str, range(99))
    monkeypatch.setattr(section_module, "joined", lambda _: next(counter))
    monkeypatch.setattr(section_module, "STEADY_WAITS_SECONDS", (0.0, 0.0))
    with recording_reads(), pytest.raises(InputError, match="was written to while it was read"):
        section.read(0, 0, 9, 0, 9)


def test_only_the_files_under_a_window_count(tmp_path: Path, pixels: Pixels) -> None:
    for name, write in (("a.zarr", chunks), ("b.zarr", shards)):
        write(tmp_path / name, pixels)
        section = open_section(tmp_path / name)
        near, far = section.version(0, 0, 100, 300, 350), section.version(0, 400, 480, 800, 960)
        height, width = CHUNK if name == "a.zarr" else (350, 350)
        os.utime(tmp_path / name / f"c/{PLACE[0] // height}/{PLACE[1] // width}", (1, 1))
        assert section.version(0, 0, 100, 300, 350) != near
        assert section.version(0, 400, 480, 800, 960) == far


def test_pipes_devices_and_links_in_a_circle_beside_the_chunks_are_passed_over(
    tmp_path: Path, pixels: Pixels
) -> None:
    path = tmp_path / "in.zarr"
    chunks(path, pixels[:200, :300])
    os.mkfifo(path / "pipe")
    (path / "zero").symlink_to("/dev/zero")
    (path / "loop").symlink_to(path)
    (path / "up").symlink_to(tmp_path)
    (path / "nowhere").symlink_to(path / "nowhere")
    assert go(path, tmp_path / "out.zarr", Fir()).blocks_done == 1

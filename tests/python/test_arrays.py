"""An array is restored to the pixels of the same run on a file, and nothing of it stays on the disk."""

from __future__ import annotations

import errno
import gc
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr

import bigrestore
from bigrestore import arrays
from bigrestore.errors import (
    BigrestoreError,
    BlocksFailedError,
    DiskFullError,
    InputError,
    OutputError,
    StoppedError,
)
from bigrestore.io.open_section import open_section
from bigrestore.model.method import PSI_SIZE, SectionStatistics
from bigrestore.run.sinks import Sink

QUICK: dict[str, Any] = {"method": "rational", "progress": "none"}


def kinds(rgb: np.ndarray, grey: np.ndarray) -> dict[str, tuple[np.ndarray, dict[str, Any]]]:
    """Return arrays with the settings that they need."""
    small = grey[:200, :170]
    return {
        "yx uint8": (small, {}),
        "zyx uint16": (np.stack([small, small[::-1]]).astype(np.uint16) * 257, {}),
        "yxc uint8": (rgb[:120, :150], {}),
        "yx float32": (small.astype(np.float32) / 255, {}),
        "yx 12 bits": (small.astype(np.uint16) * 16, {"input_range": (0, 4095)}),
    }


KINDS = ("yx uint8", "zyx uint16", "yxc uint8", "yx float32", "yx 12 bits")


def through_files(folder: Path, array: np.ndarray, **settings: Any) -> np.ndarray:
    """Restore an array as a user of files does."""
    source, output = folder / "in.zarr", folder / "out.ome.zarr"
    axes = "yx" if array.ndim == 2 else "yxc" if array.shape[-1] == 3 else "zyx"
    zarr.create_array(
        source, data=array, chunks=(128,) * array.ndim, dimension_names=list(axes), overwrite=True
    )
    bigrestore.restore(source, output, report=False, overwrite=True, **settings)
    pixels = open_section(output).data.compute()
    return np.asarray(pixels if axes == "zyx" else pixels[0])


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_the_pixels_are_those_of_a_run_on_files(
    tmp_path: Path, temporary: Path, rgb: np.ndarray, grey: np.ndarray, kind: str, scale: int
) -> None:
    array, settings = kinds(rgb, grey)[kind]
    before = array.copy()
    restored = bigrestore.restore(array, scale=scale, **settings, **QUICK)
    assert type(restored) is np.ndarray
    assert restored.dtype == array.dtype
    np.testing.assert_array_equal(restored, through_files(tmp_path, array, scale=scale, **settings, **QUICK))
    np.testing.assert_array_equal(array, before)
    assert list(temporary.iterdir()) == []


def test_the_network_gives_the_bytes_of_files_and_its_maps(tmp_path: Path, grey: np.ndarray) -> None:
    array = grey[:256, :200]
    asked: dict[str, Any] = {"maps": "residual,uncertainty", "progress": "none", "roi": ((8, 200), (0, 190))}
    result = bigrestore.restore(array, report=False, **asked)
    np.testing.assert_array_equal(result.image, through_files(tmp_path, array, **asked))
    assert list(result.maps) == ["residual", "uncertainty"]
    for name, values in result.maps.items():
        assert (values.shape, values.dtype) == ((192, 190), np.float32)
        stored = zarr.open_array(tmp_path / "out.ome.zarr" / "maps" / name / "0", mode="r")[...]
        np.testing.assert_array_equal(values, stored)
    assert "noise" in result.read
    assert result.scores == {}


@pytest.mark.parametrize("dtype", ["float64", "float16", ">f4", ">u2"])
def test_other_precisions_and_byte_orders_come_back_as_they_came(grey: np.ndarray, dtype: str) -> None:
    unit = grey[:90, :80].astype(np.float32) / 255
    array = (unit * 65535 if "u" in dtype else unit).astype(dtype)
    restored = bigrestore.restore(array, **QUICK)
    assert restored.dtype == np.dtype(dtype)
    plain = bigrestore.restore(array.astype(np.uint16 if "u" in dtype else np.float32), **QUICK)
    np.testing.assert_array_equal(restored, plain.astype(dtype))


def test_views_of_any_layout_are_taken(grey: np.ndarray) -> None:
    part = grey[::2, ::3]
    for view in (part, np.asfortranarray(part), np.broadcast_to(part, (2, *part.shape))):
        plain = np.ascontiguousarray(view)
        np.testing.assert_array_equal(bigrestore.restore(view, **QUICK), bigrestore.restore(plain, **QUICK))


@pytest.mark.parametrize("kind", KINDS[:4])
def test_a_dask_array_gives_a_lazy_one_with_the_same_pixels(
    temporary: Path, rgb: np.ndarray, grey: np.ndarray, kind: str
) -> None:
    array, settings = kinds(rgb, grey)[kind]
    lazy = da.from_array(array, chunks=70)  # type: ignore[no-untyped-call]
    restored = bigrestore.restore(lazy, scale=2, **settings, **QUICK)
    assert isinstance(restored, da.Array)
    expected = bigrestore.restore(array, scale=2, **settings, **QUICK)
    assert (restored.shape, restored.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(restored.compute(), expected)


def test_a_dask_array_is_read_once_block_by_block(grey: np.ndarray) -> None:
    seen: list[tuple[int, ...]] = []

    def note(block: np.ndarray) -> np.ndarray:
        seen.append(block.shape)
        return block

    lazy = da.from_array(grey, chunks=(100, 300)).map_blocks(note, meta=grey[:0, :0])  # type: ignore[no-untyped-call]
    with np.errstate(all="raise"):
        bigrestore.restore(lazy, **QUICK)
    assert len(seen) == 6 * 2
    assert sum(h * w for h, w in seen) == grey.size


def test_the_store_of_a_lazy_result_goes_with_the_last_array_of_it(temporary: Path, grey: np.ndarray) -> None:
    restored: Any = bigrestore.restore(da.from_array(grey[:99], chunks=50), **QUICK)  # type: ignore[no-untyped-call]
    assert len(list(temporary.iterdir())) == 1
    mean = restored[:50].mean()
    del restored
    gc.collect()
    assert float(mean.compute()) > 0
    del mean
    gc.collect()
    assert list(temporary.iterdir()) == []


def test_a_forked_process_leaves_the_store_to_its_maker(temporary: Path) -> None:
    folder = arrays.TemporaryFolder()
    arrays._remove(folder.path, os.getpid() + 1)
    assert folder.path.is_dir()
    folder.remove()
    assert not folder.path.exists()


class Raises(Sink):
    """Does something when the first block is written."""

    def __init__(self, action: Callable[[], Any]) -> None:
        self._action = action

    def take(self, work: Any, stopping: Any) -> None:
        self._action()


class Broken:
    """A method that cannot restore."""

    name, scale, exact, alignment_px, halo_px = "broken", 1, True, 1, 0

    def describe(self) -> dict[str, Any]:
        return {"name": self.name}

    def analyse(self, windows: np.ndarray) -> SectionStatistics:
        return SectionStatistics(np.ones((1, 1), np.float32), np.zeros(PSI_SIZE, np.float32), 0.0, 0.0)

    def restore(self, batch: Any, statistics: Any) -> Any:
        raise ValueError("the toy is broken")


def stopped_by(number: int) -> Callable[[np.ndarray], Any]:
    return lambda array: bigrestore.restore(
        array, sinks=[Raises(lambda: os.kill(os.getpid(), number))], **QUICK
    )


def oops() -> None:
    raise ZeroDivisionError("oops")


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    ("call", "kind", "says"),
    [
        (stopped_by(signal.SIGINT), KeyboardInterrupt, "^nothing of the array is restored$"),
        (stopped_by(signal.SIGTERM), StoppedError, "by SIGTERM; nothing of the array is restored.$"),
        (
            lambda array: bigrestore.restore(array, method=Broken(), progress="none"),
            BlocksFailedError,
            r"^1 block\(s\) of the array failed, first .* \(ValueError: the toy is broken\); correct",
        ),
        (lambda array: bigrestore.restore(array / np.float32(np.nan), **QUICK), InputError, "holds nan at"),
        (lambda array: bigrestore.restore(array, sinks=[Raises(oops)], **QUICK), ZeroDivisionError, "oops"),
        (lambda array: bigrestore.restore(array, mask="no.png", **QUICK), FileNotFoundError, "no.png"),
    ],
    ids=["Ctrl-C", "SIGTERM", "method", "nan", "sink", "mask"],
)
def test_nothing_is_left_after_an_error(
    temporary: Path,
    grey: np.ndarray,
    call: Callable[[Any], Any],
    kind: type[BaseException],
    says: str,
    lazy: bool,
) -> None:
    array: Any = grey[:64, :64]
    with pytest.raises(kind, match=says) as info:
        call(da.from_array(array, chunks=40) if lazy else array)  # type: ignore[no-untyped-call]
    assert list(temporary.iterdir()) == [], "its traceback may be kept"
    assert info.value.__suppress_context__ or kind is ZeroDivisionError


def test_a_signal_while_the_array_is_copied_leaves_nothing(temporary: Path, grey: np.ndarray) -> None:
    def interrupt(block: np.ndarray) -> np.ndarray:
        os.kill(os.getpid(), signal.SIGTERM)
        return block

    lazy = da.from_array(grey, chunks=256).map_blocks(interrupt, meta=grey[:0, :0])  # type: ignore[no-untyped-call]
    with pytest.raises(StoppedError, match="SIGTERM"):
        bigrestore.restore(lazy, **QUICK)
    assert list(temporary.iterdir()) == []


def test_a_full_temporary_disk_names_the_variable_that_moves_it(
    temporary: Path, grey: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zarr.Array, "__setitem__", full)
    with pytest.raises(DiskFullError, match=r"no space left; name a folder on a larger one by .* TMPDIR"):
        bigrestore.restore(grey[:64, :64], **QUICK)
    assert list(temporary.iterdir()) == []


def test_no_temporary_folder_is_one_sentence(grey: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(prefix: str) -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "mkdtemp", nowhere)
    with pytest.raises(
        OutputError, match=r"No usable temporary directory found\); name another place by .* TMPDIR"
    ):
        bigrestore.restore(grey[:64, :64], **QUICK)


@pytest.mark.parametrize(
    ("place", "array"),
    [
        (r"\[3, 4\] \(y, x\)", np.full((9, 9), 0.5)),
        (r"\[1, 3, 4\] \(z, y, x\)", np.full((2, 9, 9), 0.5, np.float32)),
        (r"\[2000, 4\] \(y, x\)", np.full((2001, 9), 0.5, np.float16)),
    ],
)
def test_a_pixel_that_is_no_number_is_named_by_its_index(place: str, array: np.ndarray) -> None:
    index = tuple(int(number) for number in place.split(r"\[")[1].split(r"\]")[0].split(","))
    array[index] = np.inf
    with pytest.raises(InputError, match=f"^The array holds inf at {place}; replace it"):
        bigrestore.restore(array, **QUICK)
    chunks = tuple(max(1, n // 2) for n in array.shape)
    with pytest.raises(InputError, match=f"^The array holds inf at {place}; replace it"):
        bigrestore.restore(da.from_array(array, chunks=chunks), **QUICK)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.full((64, 64), 200, np.float32), r"values from 200 to 200.*say with input_range=\(LO, HI\)"),
        (np.full((64, 64), 4000, np.uint16), r'give input_range=\(0, 4095\), or input_range="full" where'),
        (np.full((64, 64), 0.02, np.float64), r'by input_range=\(LO, HI\), or that .* by input_range="full"'),
    ],
)
def test_an_unlikely_range_is_refused_in_words_of_python(array: np.ndarray, says: str) -> None:
    with pytest.raises(BigrestoreError, match=says) as info:
        bigrestore.restore(array, **QUICK)
    assert str(info.value).startswith("The array ")
    assert "--" not in str(info.value)


@pytest.mark.usefixtures("warm_children")
def test_workers_restore_an_array_too(grey: np.ndarray) -> None:
    one = bigrestore.restore(grey[:500, :100], block_size=480, mask="none", **QUICK)
    two = bigrestore.restore(grey[:500, :100], block_size=480, mask="none", workers=2, **QUICK)
    np.testing.assert_array_equal(one, two)

"""A run removes nothing that no run made, touches nothing that it reads, and leaves nothing where it is refused."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from engine_toys import Fir, go, level0, save_zarr

from bigrestore.api import restore
from bigrestore.degradation.api import degrade
from bigrestore.errors import InputError, OutputError, OutputExistsError, UsageError
from bigrestore.report.fit import fit_niqe_model
from bigrestore.report.of_images import score
from bigrestore.run.state import lock
from bigrestore.run.view.dry_run import estimate
from bigrestore.settings import RunSettings
from bigrestore.training.loop.options import check_model_place

SMALL = {"block_size": 480, "tile_size": 160, "threads": 1, "mask": "none", "progress": "none"}


@pytest.fixture
def source(tmp_path: Path, tissue: np.ndarray) -> Path:
    return save_zarr(tmp_path / "in.zarr", np.ascontiguousarray(tissue[:200, :300]))


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def foreign_group(path: Path) -> None:
    group = zarr.create_group(path)
    group.create_array("first", data=np.ones((4, 4)))
    (path / "notes.txt").write_text("two years of work")


def foreign_array(path: Path) -> None:
    save_zarr(path, np.ones((5, 5), np.uint8))


def foreign_folder(path: Path) -> None:
    path.mkdir()
    (path / "page.txt").write_text("dear diary")


def foreign_file(path: Path) -> None:
    path.write_text("not a store")


@pytest.mark.parametrize("make", [foreign_group, foreign_array, foreign_folder, foreign_file])
def test_overwrite_spares_what_no_run_made(tmp_path: Path, source: Path, make: Any) -> None:
    out = tmp_path / "out.zarr"
    make(out)
    before = everything(tmp_path)
    for settings in ({"overwrite": True}, {"resume": True}, {}):
        with pytest.raises(OutputError, match=r"no run of this program|no TIFF that a run") as info:
            go(source, out, Fir(), **settings)
        assert "--overwrite" not in str(info.value), "no way out is named that would be refused"
        assert "--resume" not in str(info.value)
        assert everything(tmp_path) == before


def test_what_took_the_place_of_an_output_is_spared(tmp_path: Path, source: Path) -> None:
    import shutil

    out = tmp_path / "out.zarr"
    for make in (foreign_array, foreign_file, foreign_group):
        go(source, out, Fir())
        shutil.rmtree(out)
        make(out)
        before = everything(tmp_path)
        for settings in ({"overwrite": True}, {"resume": True}, {}):
            with pytest.raises(OutputError, match="move it away"):
                go(source, out, Fir(), **settings)
        assert everything(tmp_path) == before
        shutil.rmtree(out) if out.is_dir() else out.unlink()
        shutil.rmtree(f"{out}.bigrestore")


def test_overwrite_spares_a_tiff_of_somebody_else(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out.ome.tif"
    tifffile.imwrite(out, np.ones((20, 20), np.uint8))
    before = out.read_bytes()
    with pytest.raises(OutputError, match="no TIFF that a run"):
        go(source, out, Fir(), overwrite=True)
    assert out.read_bytes() == before
    out.unlink()
    for settings in ({}, {"overwrite": True}):
        assert go(source, out, Fir(), **settings).blocks_restored == 1
    assert out.read_bytes() != before


def test_overwrite_spares_what_was_added_to_a_store(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out.zarr"
    go(source, out, Fir())
    (out / "labels").mkdir()
    (out / "labels/mine.txt").write_text("drawn by hand")
    with pytest.raises(OutputError, match="labels"):
        go(source, out, Fir(), overwrite=True)
    assert (out / "labels/mine.txt").exists()


def test_a_neighbour_folder_that_is_no_journal_is_left_alone(tmp_path: Path, source: Path) -> None:
    out, beside = tmp_path / "out.zarr", tmp_path / "out.zarr.bigrestore"
    beside.mkdir()
    (beside / "thesis.txt").write_text("chapter one")
    for settings in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(OutputError, match="no journal"):
            go(source, out, Fir(), **settings)
    assert (beside / "thesis.txt").exists()
    assert not out.exists()


def test_overwrite_takes_a_store_without_its_journal_and_a_journal_without_its_store(
    tmp_path: Path, source: Path
) -> None:
    import shutil

    out = tmp_path / "out.zarr"
    go(source, out, Fir())
    shutil.rmtree(f"{out}.bigrestore")
    assert go(source, out, Fir(), overwrite=True).blocks_restored == 1
    shutil.rmtree(out)
    assert go(source, out, Fir(), overwrite=True).blocks_restored == 1
    assert level0(out).shape == (200, 300)


@pytest.mark.parametrize("what", ["mask", "kernel", "model", "configuration"])
@pytest.mark.parametrize("link", [False, True])
def test_the_output_is_nothing_that_the_run_reads(
    tmp_path: Path, source: Path, what: str, link: bool
) -> None:
    read = tmp_path / "read.ome.tif"
    tifffile.imwrite(read, np.ones((200, 300), np.uint8))
    out = read
    if link:
        out = tmp_path / "other.ome.tif"
        out.hardlink_to(read)
    before = read.read_bytes()
    settings = RunSettings(
        **({**SMALL, "overwrite": True} | ({} if what == "configuration" else {what: str(read)}))
    )
    from bigrestore.run.execute import execute

    guarded = {"configuration": read} if what == "configuration" else {}
    with pytest.raises(OutputError, match=f"{what}.*itself"):
        execute(source, out, settings, method=Fir(), guarded=guarded)
    assert read.read_bytes() == before


@pytest.mark.parametrize(
    "inside",
    [
        "done.ome.zarr/new.ome.zarr",
        "done.ome.zarr/maps/new.ome.tif",
        "done.ome.zarr/0/c/new.zarr",
        "array/a.zarr",
    ],
)
def test_an_output_inside_a_finished_store_is_refused(tmp_path: Path, source: Path, inside: str) -> None:
    restore(source, tmp_path / "done.ome.zarr", method="rational", report=False, **SMALL)
    foreign_array(tmp_path / "array")
    before = everything(tmp_path)
    with pytest.raises(
        OutputError, match=r"lies inside the Zarr store .*; choose a place outside\.$"
    ) as error:
        restore(source, tmp_path / inside, method="rational", report=False, **SMALL)
    assert error.value.exit_code == 4
    assert everything(tmp_path) == before


def test_no_report_pairs_or_model_goes_into_a_store(tmp_path: Path, source: Path) -> None:
    foreign_group(tmp_path / "store.zarr")
    inside, before = tmp_path / "store.zarr" / "new", everything(tmp_path)
    for make in (
        lambda: score(source, inside, tile_size=96, progress="none"),
        lambda: degrade(source, inside, count=1, patch_px=32, progress="none"),
        lambda: check_model_place("fidelity", inside.with_suffix(".safetensors"), resume=False),
        lambda: fit_niqe_model([source], inside.with_suffix(".npz")),
    ):
        with pytest.raises(OutputError, match="lies inside the Zarr store"):
            make()
    assert everything(tmp_path) == before


@pytest.mark.parametrize("place", ["out.zarr/mask.zarr", "out.zarr.bigrestore/mask.zarr"])
def test_a_mask_inside_the_output_is_not_lost(tmp_path: Path, source: Path, place: str) -> None:
    (tmp_path / place).parent.mkdir()
    mask = save_zarr(tmp_path / place, np.ones((200, 300), np.uint8))
    with pytest.raises(OutputError, match=r"mask .* lies inside the output"):
        go(source, tmp_path / "out.zarr", Fir(), mask=str(mask), overwrite=True)
    assert mask.exists()


@pytest.mark.parametrize("name", [".", "/", ".."])
def test_a_folder_is_no_output(
    tmp_path: Path, source: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(OutputError, match="names a folder") as info:
        go(source, name, Fir())  # type: ignore[arg-type]
    assert info.value.exit_code == 4


def test_a_link_is_followed_dangling_or_not(tmp_path: Path, source: Path) -> None:
    (tmp_path / "scratch").mkdir()
    link, target = tmp_path / "out.zarr", tmp_path / "scratch/real.zarr"
    link.symlink_to(target)
    for settings in ({}, {"overwrite": True}, {"resume": True}):
        assert go(source, link, Fir(), **settings).blocks_done == 1
        assert link.is_symlink()
        assert level0(target).shape == (200, 300)
        assert (tmp_path / "scratch/real.zarr.bigrestore/plan.json").is_file()
    loop = tmp_path / "loop.zarr"
    loop.symlink_to(loop)
    with pytest.raises(OutputError, match="loop"):
        go(source, loop, Fir())


def test_ways_out_are_named_only_where_they_would_work(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out.zarr"
    go(source, out, Fir())
    with pytest.raises(OutputExistsError, match=r"--resume.*--overwrite"):
        go(source, out, Fir())
    with pytest.raises(OutputExistsError, match="--overwrite") as info:
        go(source, out, Fir(2))
    assert "--resume" not in str(info.value)


def test_an_input_that_is_refused_leaves_nothing_behind(tmp_path: Path, tissue: np.ndarray) -> None:
    source = save_zarr(tmp_path / "in.zarr", tissue[:200, :300].astype(np.float32))
    out = tmp_path / "out.zarr"
    with pytest.raises(InputError, match="--input-range"):
        go(source, out, Fir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.zarr"]
    go(source, out, Fir(), input_range=(0, 255))
    kept = everything(out)
    with pytest.raises(InputError, match="--input-range"):
        go(source, out, Fir(), overwrite=True)
    assert everything(out) == kept, "the former output stays until its successor has begun"


def test_profiles_of_a_former_run_are_not_taken_over(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out.zarr"
    go(source, out, Fir())
    stored = Path(f"{out}.bigrestore/profiles/z00000.json")
    document = json.loads(stored.read_text())
    stored.write_text(json.dumps(document | {"windows": 999}))
    go(source, out, Fir(), overwrite=True)
    assert json.loads(stored.read_text()) == document


def test_dry_run_refuses_what_the_run_would_refuse(tmp_path: Path, source: Path) -> None:
    settings = RunSettings(method="rational", **SMALL)
    out = tmp_path / "out.zarr"
    with pytest.raises(OutputError, match="itself"):
        estimate(source, source, settings)
    foreign_folder(out)
    with pytest.raises(OutputExistsError, match="move it away"):
        estimate(source, out, settings)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is no folder"):
        estimate(source, tmp_path / "file/out.zarr", settings)


def test_python_takes_any_sequence_of_paths_and_refuses_the_rest(tmp_path: Path, tissue: np.ndarray) -> None:
    from PIL import Image

    for name in ("a", "b"):
        Image.fromarray(tissue[:100, :120]).save(tmp_path / f"{name}.png")
    both = (tmp_path / "a.png", str(tmp_path / "b.png"))
    assert restore(both, tmp_path / "out.zarr", method="rational", **SMALL).blocks_done == 2
    for inputs, output in ((5, tmp_path / "x.zarr"), ((), tmp_path / "x.zarr"), (both, 7), (both, b"x")):
        with pytest.raises(UsageError, match=r"(input|output) is (of the type|empty)"):
            restore(inputs, output, method="rational", **SMALL)  # type: ignore[arg-type]


def test_a_place_that_cannot_be_written_is_refused_before_the_input_is_looked_at(
    tmp_path: Path, source: Path
) -> None:
    method = Fir()
    for place in (Path("/proc/bigrestore/out.zarr"), Path("/sys/out.zarr")):
        with pytest.raises(OutputError, match=f"{place}.bigrestore (cannot|may not) be written"):
            go(source, place, method)
    assert method.windows == [], "the profile was made in vain"


def test_a_refused_input_takes_the_folders_with_it_that_were_made_for_the_output(
    tmp_path: Path, tissue: np.ndarray
) -> None:
    source = save_zarr(tmp_path / "in.zarr", tissue[:200, :300].astype(np.float32))
    (tmp_path / "there").mkdir()
    with pytest.raises(InputError, match="--input-range"):
        go(source, tmp_path / "there/new/deep/out.zarr", Fir())
    assert list((tmp_path / "there").iterdir()) == []


@pytest.mark.parametrize("length", [300, 250])
def test_a_name_that_is_too_long_is_called_that(tmp_path: Path, source: Path, length: int) -> None:
    with pytest.raises(OutputError, match="File name too long"):
        go(source, tmp_path / f"{'a' * (length - 5)}.zarr", Fir())


def test_a_finished_output_on_a_disk_that_is_read_only_is_finished(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.zarr"
    go(source, out, Fir())

    def read_only(path: Path, **_: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(lock, "acquire", read_only)
    assert go(source, out, Fir(), resume=True).blocks_done == 1


@pytest.mark.parametrize("inside", ["out.ome.zarr", "deeper/out.ome.tif", "out.ozx"])
def test_an_output_behind_a_loop_of_links_is_refused(tmp_path: Path, inside: str) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    source = save_zarr(tmp_path / "in.zarr", np.full((64, 64), 200, np.uint8))
    with pytest.raises(OutputError, match="loop"):
        go(source, tmp_path / "loop" / inside, Fir())

"""What others put into an output, beside it, or behind a link that they left there, is neither replaced nor removed."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_toys import Fir, go, level0, save_zarr
from PIL import Image
from prior_toys import model_file

from bigrestore.errors import OutputError, OutputExistsError
from bigrestore.run.output.owned import Outline, beside_names, strangers
from bigrestore.run.state.journal import Journal

BLOCK = "z00000-y0000-x0000"
ADDED = [
    "out.zarr/2024/photos.txt",
    "out.zarr/7/zarr.json",
    "out.zarr/labels/cells/zarr.json",
    "out.zarr/.zattrs",
    "out.zarr/maps/mine.txt",
    "out.zarr/notes.partial",
    "out.zarr/0/annotations.geojson",
    "out.zarr/0/1/photos.txt",
    "out.zarr/0/c/0/99",
    "out.zarr/0/c/0/00",
    "out.zarr/0/c/0/0.txt",
    "out.zarr/0/c/5/0",
    "out.zarr/1/c/mine.tif",
    "out.zarr.bigrestore/notes.txt",
    "out.zarr.bigrestore/2024/photos.txt",
    "out.zarr.bigrestore/journal/notes.txt",
    "out.zarr.bigrestore/journal/mine.json",
    "out.zarr.bigrestore/journal/mine.inflight",
    "out.zarr.bigrestore/profiles/mine.json",
    "out.zarr.bigrestore/profiles/mine/a",
    "out.zarr.bigrestore/scores/mine.json",
    "out.zarr.bigrestore/report/figure.png",
    "out.zarr.bigrestore/store.ome.zarr/mine.txt",
    "out.zarr.bigrestore/thesis.partial",
]


@pytest.fixture
def source(tmp_path: Path, tissue: np.ndarray) -> Path:
    return save_zarr(tmp_path / "in.zarr", np.ascontiguousarray(tissue[:490, :600]))


@pytest.fixture(autouse=True)
def page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a stand-in in the place of the page of a report: what it shows is not looked at here."""
    monkeypatch.setattr("bigrestore.report.table.write.build_page", lambda *_: "<html></html>")


@pytest.fixture(scope="module")
def finished(tissue: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an input and its output, for tests that change a copy."""
    folder = tmp_path_factory.mktemp("finished")
    source = save_zarr(folder / "in.zarr", np.ascontiguousarray(tissue[:490, :600]))
    go(source, folder / "out.zarr", Fir())
    return folder


@pytest.fixture
def copied(tmp_path: Path, finished: Path) -> tuple[Path, Path]:
    """A copy of the input and of the output."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return tmp_path / "in.zarr", tmp_path / "out.zarr"


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def put(path: Path, content: str = "years of work") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


@pytest.mark.parametrize("added", ADDED)
def test_overwrite_is_refused_where_something_was_added(
    tmp_path: Path, copied: tuple[Path, Path], added: str
) -> None:
    source, out = copied
    put(tmp_path / added)
    before = everything(tmp_path)
    with pytest.raises(OutputError, match="besides what a run wrote and is not removed") as info:
        go(source, out, Fir(), overwrite=True)
    assert info.value.exit_code == 4
    assert not isinstance(info.value, OutputExistsError)
    assert everything(tmp_path) == before


@pytest.mark.parametrize("added", ADDED)
def test_resume_mends_a_run_and_keeps_what_was_added(
    tmp_path: Path, copied: tuple[Path, Path], added: str
) -> None:
    source, out = copied
    wanted = everything(out)
    (out / "0/c/0/1").unlink()
    (out / "1/zarr.json").unlink()
    mine = put(tmp_path / added)
    assert go(source, out, Fir(), resume=True).blocks_done == 4
    assert mine.read_text() == "years of work"
    assert {name: content for name, content in everything(out).items() if out / name != mine} == wanted
    assert go(source, out, Fir(), resume=True).blocks_restored == 0


def test_what_was_added_to_an_output_without_its_journal_is_kept(copied: tuple[Path, Path]) -> None:
    source, out = copied
    shutil.rmtree(f"{out}.bigrestore")
    for added in ("0/annotations.geojson", "2/zarr.json", "0/c/1/7", "5/photos.txt"):
        mine = put(out / added)
        with pytest.raises(OutputError, match="besides what a run wrote"):
            go(source, out, Fir(), overwrite=True)
        assert mine.read_text() == "years of work"
        mine.unlink()
        if not any(mine.parent.iterdir()):
            mine.parent.rmdir()
    assert go(source, out, Fir(), overwrite=True).blocks_restored == 4


@pytest.mark.parametrize("name", ["out.ome.tif", "out.ome.zarr.zip"])
def test_what_was_added_to_the_store_that_a_file_is_made_of_is_kept(
    tmp_path: Path, source: Path, name: str
) -> None:
    out = tmp_path / name
    go(source, out, Fir(), init_only=True)
    mine = put(Path(f"{out}.bigrestore/store.ome.zarr/0/notes.txt"))
    go(source, out, Fir(), resume=True)
    assert mine.read_text() == "years of work"
    assert not (mine.parents[1] / "zarr.json").exists()
    assert out.is_file()
    with pytest.raises(OutputError, match="besides what a run wrote"):
        go(source, out, Fir(), overwrite=True)
    assert mine.read_text() == "years of work"


@pytest.mark.parametrize(
    ("name", "content"),
    [("out.ome.tif", b"not a TIFF"), ("out.ome.zarr.zip", b"my letters"), ("out.ome.tif", b"II*\0 a scan")],
)
def test_a_file_that_took_the_place_of_an_output_is_not_taken_for_a_damaged_one(
    tmp_path: Path, source: Path, name: str, content: bytes
) -> None:
    out = tmp_path / name
    go(source, out, Fir())
    out.write_bytes(content)
    for settings in ({"overwrite": True}, {"resume": True}, {}):
        with pytest.raises(OutputError, match="that a run of this program made"):
            go(source, out, Fir(), **settings)
    assert out.read_bytes() == content


def cases(folder: Path, tissue: np.ndarray, rgb: np.ndarray) -> dict[str, tuple[Path, dict[str, Any]]]:
    volume = np.stack([tissue[:200, :520], tissue[100:300, :520], tissue[200:400, :520]])
    Image.fromarray(rgb[:120, :500]).save(folder / "colour.png")
    grey = save_zarr(folder / "grey.zarr", np.ascontiguousarray(tissue[:490, :600]))
    solid = save_zarr(folder / "solid.zarr", volume)
    return {
        "grey": (grey, {"report": True}),
        "grey 0.4": (grey, {"format": "0.4"}),
        "by workers": (grey, {"workers": 2, "report": True}),
        "volume": (solid, {"voxel_size": (10.0, 20.0, 20.0)}),
        "volume 0.4": (solid, {"format": "0.4"}),
        "colour": (folder / "colour.png", {"scale": 2}),
        "colour 0.4": (folder / "colour.png", {"format": "0.4"}),
        "region": (grey, {"roi": "100:490,480:600"}),
    }


@pytest.fixture(scope="module")
def made(
    tissue: np.ndarray, rgb: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Give a function that returns a folder with the input and the output of a case."""

    @functools.cache
    def of_case(case: str) -> Path:
        folder = tmp_path_factory.mktemp("case")
        source, settings = cases(folder, tissue, rgb)[case]
        go(source, folder / "out.ome.zarr", "catmull-rom", **settings)
        return folder

    return of_case


@pytest.mark.usefixtures("warm_children")
@pytest.mark.parametrize(
    "case",
    ["grey", "grey 0.4", "by workers", "volume", "volume 0.4", "colour", "colour 0.4", "region"],
)
@pytest.mark.parametrize("journal", [True, False])
def test_all_that_a_run_writes_has_a_name_by_which_it_is_removed(
    tmp_path: Path, made: Callable[[str], Path], case: str, journal: bool
) -> None:
    if case == "by workers" and not journal:
        pytest.skip("the store is the same")
    shutil.copytree(made(case), tmp_path, dirs_exist_ok=True)
    out = tmp_path / "out.ome.zarr"
    book = Journal(out)
    outline = book.outline if journal else Outline.of_store(out)
    assert list(strangers(out, outline.is_file, outline.is_folder)) == []
    assert list(strangers(book.root, *beside_names(outline))) == []
    if not journal:
        shutil.rmtree(book.root)
    go(tmp_path / "grey.zarr", out, "catmull-rom", overwrite=True, roi="0:100,0:100")
    names = set(everything(out))
    assert names == {"zarr.json", "0/zarr.json", "0/c/0/0", "1/zarr.json", "1/c/0/0"}


def test_maps_have_names_too(tmp_path: Path, tissue: np.ndarray) -> None:
    source, out = save_zarr(tmp_path / "in.zarr", np.ascontiguousarray(tissue[:96, :96])), tmp_path / "o.zarr"
    model = str(model_file(tmp_path, with_prior=False))
    asked = {"model": model, "precision": "fp32", "maps": "residual,uncertainty", "tile_size": 96}
    go(source, out, "network", **asked)
    for outline in (Journal(out).outline, Outline.of_store(out)):
        assert list(strangers(out, outline.is_file, outline.is_folder)) == []
        assert not outline.is_file("maps/invented/zarr.json")
    mine = put(out / "maps/residual/0/notes.txt")
    with pytest.raises(OutputError, match=r"residual/0 holds 'notes\.txt'"):
        go(source, out, "network", **asked, overwrite=True)
    mine.unlink()
    go(source, out, "rational", overwrite=True)
    assert not (out / "maps").exists()


def test_partial_files_are_known_by_what_they_were_to_become() -> None:
    outline = Outline("0.5", {"": [[2, 3], [1, 1]]})
    hexadecimal = "0123456789abcdef0123456789abcdef"
    for name in (
        f"zarr.{hexadecimal}.partial",
        f"0/zarr.{hexadecimal}.partial",
        f"0/c/1/2.{hexadecimal}.partial",
    ):
        assert outline.is_file(name)
    for name in (
        f"mine.{hexadecimal}.partial",
        f"0/c/1/3.{hexadecimal}.partial",
        "0/c/1/2.partial",
        "zarr.partial",
    ):
        assert not outline.is_file(name)


# ------------------------------------------------------------------------------------------------ planted links

LINKED = ["out.zarr.bigrestore/lock", "out.zarr.bigrestore/journal", "out.zarr.bigrestore/profiles"]
LINKED += [f"out.zarr.bigrestore/journal/{BLOCK}.inflight", "out.zarr.bigrestore/store.ome.zarr"]
LINKED += [
    "out.zarr/0",
    "out.zarr/0/c",
    "out.zarr/0/c/0",
    "out.zarr/1",
    "out.zarr/1/c",
    "out.zarr.bigrestore/scores",
]


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A folder of somebody else, with files of the names that a run would write."""
    for name in (
        "0",
        "1",
        "c/0/0",
        "c/0/1",
        "0/0",
        "zarr.json",
        "run.json",
        f"{BLOCK}.json",
        "z00000.json",
        "lock",
    ):
        place = tmp_path / "victim" / name
        if not place.exists():
            put(place) if name not in ("0",) else put(place / "1")
    return tmp_path / "victim"


@pytest.mark.parametrize("planted", LINKED)
def test_a_run_that_goes_on_writes_behind_no_link(
    tmp_path: Path, source: Path, victim: Path, planted: str
) -> None:
    out, place = tmp_path / "out.zarr", tmp_path / planted
    go(source, out, Fir(), init_only=True)
    if place.is_dir():
        shutil.rmtree(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    is_file = place.suffix == ".inflight" or place.name == "lock"
    place.symlink_to(victim / "lock" if is_file else victim)
    before = everything(victim)
    with pytest.raises(OutputError, match="is a link") as info:
        go(source, out, Fir(), resume=True)
    assert info.value.exit_code == 4
    with pytest.raises(OutputError):
        go(source, out, Fir(), overwrite=True)
    assert everything(victim) == before


@pytest.mark.parametrize("kind", ["link", "dangling link", "second name", "pipe", "folder"])
def test_the_lock_is_a_file_of_its_own_or_there_is_no_run(
    tmp_path: Path, source: Path, victim: Path, kind: str
) -> None:
    beside = tmp_path / "out.zarr.bigrestore"
    beside.mkdir()
    lock = beside / "lock"
    if kind == "pipe":
        os.mkfifo(lock)
    elif kind == "folder":
        lock.mkdir()
    elif kind == "second name":
        lock.hardlink_to(victim / "lock")
    else:
        lock.symlink_to(victim / ("lock" if kind == "link" else "not there"))
    before = everything(victim)
    with pytest.raises(OutputError) as info:
        go(source, tmp_path / "out.zarr", Fir())
    assert info.value.exit_code == 4
    assert re.search(r"\block\b", str(info.value))
    assert everything(victim) == before
    assert not (tmp_path / "out.zarr").exists()


@pytest.mark.parametrize("planted", ["journal", "profiles", "plan.json", "run.json", "report"])
def test_a_link_beside_an_output_that_is_not_there_makes_the_place_somebody_elses(
    tmp_path: Path, source: Path, victim: Path, planted: str
) -> None:
    beside = tmp_path / "out.zarr.bigrestore"
    beside.mkdir()
    (beside / planted).symlink_to(victim / "run.json" if planted.endswith("json") else victim)
    before = everything(victim)
    with pytest.raises(OutputError, match="no journal of a run"):
        go(source, tmp_path / "out.zarr", Fir())
    assert everything(victim) == before


@pytest.mark.parametrize(
    "name", ["run.json", "files.json", "journal/" + BLOCK + ".json", "profiles/z00000.json"]
)
def test_a_document_that_became_a_link_is_replaced_and_what_it_names_is_kept(
    copied: tuple[Path, Path], victim: Path, name: str
) -> None:
    source, out = copied
    document = Path(f"{out}.bigrestore/{name}")
    document.unlink()
    document.symlink_to(victim / "run.json")
    before = everything(victim)
    (out / "0/c/0/1").unlink()
    assert go(source, out, Fir(), resume=True).blocks_restored >= 1
    assert everything(victim) == before
    assert not document.is_symlink()
    assert json.loads(document.read_text())


@pytest.mark.parametrize("name", ["out.ome.tif", "out.ome.zarr.zip"])
@pytest.mark.parametrize("planted", ["{name}.partial", "{name}.1-00000000.partial"])
def test_a_file_is_written_under_a_name_that_nobody_could_know(
    tmp_path: Path, source: Path, victim: Path, name: str, planted: str
) -> None:
    out = tmp_path / name
    (tmp_path / planted.format(name=name)).symlink_to(victim / "lock")
    before = everything(victim)
    go(source, out, Fir())
    assert everything(victim) == before
    assert out.is_file()
    assert not out.is_symlink()


@pytest.mark.parametrize("kind", ["link", "dangling link", "file"])
def test_a_passing_name_that_is_taken_is_not_written_through(
    tmp_path: Path, victim: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bigrestore.core import files

    monkeypatch.setattr(files.secrets, "token_hex", lambda _: "deadbeef")
    taken = tmp_path / f"plan.json.{os.getpid()}-deadbeef.partial"
    if kind == "file":
        taken.write_text("mine")
    else:
        taken.symlink_to(victim / ("lock" if kind == "link" else "nothing"))
    before = everything(victim)
    with pytest.raises(OutputError):
        files.write_sealed(tmp_path / "plan.json", {})
    assert everything(victim) == before
    assert taken.is_symlink() == (kind != "file")
    assert kind != "file" or taken.read_text() == "mine"


@pytest.mark.parametrize("follow", [True, False])
def test_a_link_is_followed_only_where_a_user_named_it(tmp_path: Path, victim: Path, follow: bool) -> None:
    from bigrestore.core.files import whole_file

    link = tmp_path / "model.safetensors"
    link.symlink_to(victim / "lock")
    with whole_file(link, **({"follow": True} if follow else {})) as partial:
        partial.write_text("new")
    assert link.is_symlink() == follow
    assert ((victim / "lock").read_text() == "new") == follow


@pytest.mark.usefixtures("quick_scores")
def test_a_link_in_the_place_of_a_report_is_not_followed(tmp_path: Path, source: Path, victim: Path) -> None:
    out = tmp_path / "out.zarr"
    go(source, out, "rational", report=True)
    page = Path(f"{out}.bigrestore/report/report.html")
    page.unlink()
    page.symlink_to(victim / "lock")
    before = everything(victim)
    go(source, out, "rational", report=True, resume=True)
    assert everything(victim) == before
    assert not page.is_symlink()
    shutil.rmtree(page.parent)
    page.parent.symlink_to(victim)
    with pytest.raises(OutputError, match="is a link"):
        go(source, out, "rational", report=True, resume=True)
    assert everything(victim) == before
    assert level0(out).shape == (490, 600)

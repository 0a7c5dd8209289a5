"""One list of checks: what `verify` says that --resume mends, it mends to the byte; for all else the remedy is named."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from engine_toys import Fir, go, save_zarr

from bigrestore.errors import InputError, OutputError
from bigrestore.run.state.checks import remedy, verify_output

Harm = Callable[[Path], object]
Outputs = dict[str, Path]

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "0.5": ("o.ome.zarr", {}),
    "0.4": ("o.ome.zarr", {"format": "0.4"}),
    "zip": ("o.ome.zarr.zip", {}),
    "tiff": ("o.ome.tif", {}),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tissue: np.ndarray) -> Outputs:
    """Return a folder with the input and a finished output, for each kind of output."""
    folders = {}
    for kind, (name, settings) in KINDS.items():
        folders[kind] = tmp_path_factory.mktemp("finished") / kind
        folders[kind].mkdir()
        save_zarr(folders[kind] / "in.zarr", np.ascontiguousarray(tissue[:480, :960]))
        go(folders[kind] / "in.zarr", folders[kind] / name, Fir(), **settings)
    return folders


def copied(finished: Outputs, kind: str, place: Path) -> tuple[Path, Path]:
    """Copy a finished output with its times; return it and its input."""
    shutil.copytree(finished[kind], place / "work")
    return place / "work" / KINDS[kind][0], place / "work/in.zarr"


def every_byte(output: Path) -> dict[str, bytes]:
    paths = output.rglob("*") if output.is_dir() else [output]
    return {str(path.relative_to(output)): path.read_bytes() for path in paths if path.is_file()}


def edit(*change: Any, level: str = "") -> Harm:
    """Return the harm of setting a value in the metadata of the root or of a level: a path of keys, then the value."""
    *keys, last, value = change

    def harm(store: Path) -> None:
        names = ("zarr.json", ".zarray") if level else ("zarr.json", ".zattrs")
        file = next(path for name in names if (path := store / level / name).exists())
        document = json.loads(file.read_text())
        part = document if level else document.get("attributes", document)
        if keys and keys[0] == "multiscales":
            part = part.get("ome", part)
        for key in keys:
            part = part[key]
        if value is None:
            del part[last]
        else:
            part[last] = value
        file.write_text(json.dumps(document))

    return harm


def ten_times(store: Path) -> None:
    for index, size in enumerate((10.0, 20.0)):
        steps = ("multiscales", 0, "datasets", index, "coordinateTransformations")
        edit(*steps, 0, "scale", [size, size])(store)
        edit(*steps, 1, "translation", [5.0 * index] * 2)(store)


def hidden(path: Path) -> None:
    """Flip a bit in the middle of a file, and leave its time as it was."""
    seen, raw = path.stat(), bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def shard(store: Path, level: int = 0) -> Path:
    return next(
        path for path in sorted((store / str(level)).rglob("*")) if path.is_file() and path.name.isdecimal()
    )


def beside(name: str, text: str | None) -> Harm:
    """Return the harm of a document beside the output that is gone, or says something else."""

    def harm(output: Path) -> None:
        path = Path(f"{output}.bigrestore") / name
        if text is None:
            path.unlink()
        else:
            path.write_text(text)

    return harm


RECORD = "journal/z00000-y0000-x0001.json"

TO_STORES: dict[str, tuple[Harm, str, str]] = {
    "the shape of level 0": (edit("shape", 0, 470, level="0"), "metadata.altered", "--resume"),
    "the shape of level 1": (edit("shape", 1, 200, level="1"), "metadata.altered", "--resume"),
    "the value of missing pixels": (edit("fill_value", 7, level="0"), "metadata.altered", "--resume"),
    "level 0 is not listed": (
        edit("multiscales", 0, "datasets", 0, None),
        "multiscales.altered",
        "--resume",
    ),
    "scales ten times as large": (ten_times, "multiscales.altered", "--resume"),
    "a scale of the image": (
        edit("multiscales", 0, "coordinateTransformations", [{"type": "scale", "scale": [10, 10]}]),
        "multiscales.altered",
        "--resume",
    ),
    "another method": (edit("bigrestore", "method", "name", "magic"), "provenance.altered", "--resume"),
    "no provenance": (edit("bigrestore", None), "provenance.altered", "--resume"),
    "metadata that are no JSON": (
        lambda store: next(
            path for name in ("zarr.json", ".zattrs") if (path := store / name).exists()
        ).write_text("{"),
        "file.altered",
        "--resume",
    ),
    "metadata that say nothing": (
        lambda store: next(
            path for name in ("zarr.json", ".zattrs") if (path := store / name).exists()
        ).write_text("{}"),
        "store.unreadable",
        "--resume",
    ),
    "a shard that is gone": (lambda store: shard(store).unlink(), "shard.altered", "--resume"),
    "a bit of a shard": (lambda store: hidden(shard(store)), "shard.altered", "--resume --check-all"),
    "a bit of a level": (lambda store: hidden(shard(store, 1)), "file.altered", "--resume --check-all"),
}

TO_FILES: dict[str, tuple[Harm, str, str]] = {
    "a file cut off": (
        lambda path: path.write_bytes(path.read_bytes()[:-50]),
        "file.altered",
        "--resume",
    ),
    "a bit": (hidden, "file.altered", "--resume --check-all"),
    "a file that is gone": (Path.unlink, "output.missing", "--resume"),
}

TO_ALL: dict[str, tuple[Harm, str, str]] = {
    "a record torn": (beside(RECORD, "{"), "record.altered", "--resume"),
    "a record gone": (beside(RECORD, None), "blocks.missing", "--resume"),
    "the summary gone": (beside("run.json", None), "run.unfinished", "--resume"),
    "the list of files altered": (beside("files.json", "{}"), "files.altered", "--resume"),
    "a profile altered": (beside("profiles/z00000.json", "{}"), "profile.altered", "--resume"),
}

CASES = [
    *((kind, name) for kind in ("0.5", "0.4") for name in TO_STORES),
    *((kind, name) for kind in ("zip", "tiff") for name in TO_FILES),
    *((kind, name) for kind in KINDS for name in TO_ALL),
]


@pytest.mark.parametrize(("kind", "harm"), CASES)
def test_resume_mends_what_verify_says_that_it_mends(
    finished: Outputs, tmp_path: Path, kind: str, harm: str
) -> None:
    out, source = copied(finished, kind, tmp_path)
    settings, wanted = KINDS[kind][1], every_byte(out)
    do, fault, flags = (TO_STORES | TO_FILES | TO_ALL)[harm]
    do(out)
    faults = verify_output(out).faults
    assert fault in {item.id for item in faults}
    assert {item.mended_by for item in faults} == {flags}
    assert remedy(out, faults) == f"mend the run by {flags}"
    go(source, out, Fir(), resume=True, check_all="--check-all" in flags, **settings)
    assert verify_output(out).faults == []
    assert every_byte(out) == wanted


@pytest.mark.parametrize("kind", ["0.5", "0.4"])
def test_what_people_add_and_how_they_show_an_image_is_no_fault_and_stays(
    finished: Outputs, tmp_path: Path, kind: str
) -> None:
    out, source = copied(finished, kind, tmp_path)
    zarr.open_group(out, mode="r+").attrs["labels"] = ["cortex"]
    edit("multiscales", 0, "name", "case 7")(out)
    assert verify_output(out).faults == []
    method = Fir()
    go(source, out, method, resume=True, **KINDS[kind][1])
    assert method.calls == 0
    assert "case 7" in json.dumps(dict(zarr.open_group(out, mode="r").attrs))
    shard(out).unlink()
    go(source, out, Fir(), resume=True, **KINDS[kind][1])
    assert zarr.open_group(out, mode="r").attrs["labels"] == ["cortex"], "also where the store is mended"


@pytest.mark.parametrize("kind", list(KINDS))
def test_an_output_without_its_plan_is_checked_as_far_as_it_can_be_and_says_so(
    finished: Outputs, tmp_path: Path, kind: str
) -> None:
    out, _ = copied(finished, kind, tmp_path)
    assert not verify_output(out).unchecked
    shutil.rmtree(f"{out}.bigrestore")
    verified = verify_output(out)
    assert (verified.faults, verified.checks) == ([], ["image"])
    assert "no plan of a run lies beside it" in verified.unchecked


@pytest.mark.parametrize(
    ("harm", "fault"),
    [
        (edit("multiscales", 0, "datasets", 0, None), "level.unlisted"),
        (edit("bigrestore", "input", "shape", [1, 480, 777, 1]), "provenance.disagrees"),
        (edit("bigrestore", "plan", "format", "0.1"), "provenance.disagrees"),
    ],
)
@pytest.mark.parametrize("kind", ["0.5", "0.4"])
def test_without_a_plan_a_store_is_compared_with_what_it_says_of_itself(
    finished: Outputs, tmp_path: Path, kind: str, harm: Harm, fault: str
) -> None:
    out, _ = copied(finished, kind, tmp_path)
    edit("bigrestore", "method", "scale", 1)(out)  # the toy's is a word
    shutil.rmtree(f"{out}.bigrestore")
    assert verify_output(out).faults == []
    harm(out)
    faults = verify_output(out).faults
    assert [item.id for item in faults] == [fault]
    assert remedy(out, faults) == "copy or write it again"


@pytest.mark.usefixtures("quick_scores", "quick_page")
def test_a_report_that_was_altered_is_made_again_by_the_flags_that_verify_names(
    tmp_path: Path, tissue: np.ndarray
) -> None:
    source = save_zarr(tmp_path / "in.zarr", np.ascontiguousarray(tissue[:480, :480]))
    out = tmp_path / "o.ome.zarr"
    go(source, out, Fir(), report=True)
    for do, flags in (
        (beside("report/report.html", "mine"), "--resume --report"),
        (beside("report.json", "{}"), "--resume --report"),
        (
            lambda path: hidden(Path(f"{path}.bigrestore/report/summary.json")),
            "--resume --check-all --report",
        ),
    ):
        do(out)
        faults = verify_output(out).faults
        assert [(fault.id, fault.mended_by) for fault in faults] == [("report.altered", flags)]
        method = Fir()
        go(source, out, method, resume=True, report=True, check_all="--check-all" in flags)
        assert method.calls == 0
        assert verify_output(out).faults == []


def test_a_lost_plan_is_a_fault_with_a_remedy_that_works(finished: Outputs, tmp_path: Path) -> None:
    out, source = copied(finished, "0.5", tmp_path)
    beside("plan.json", None)(out)
    faults = verify_output(out).faults
    assert [(fault.id, fault.mended_by) for fault in faults] == [("plan.altered", "--overwrite")]
    assert remedy(out, faults).startswith(f"move {out}.bigrestore away, and start the run anew")
    with pytest.raises(OutputError):
        go(source, out, Fir(), overwrite=True)
    Path(f"{out}.bigrestore").rename(tmp_path / "away")
    go(source, out, Fir(), overwrite=True)
    assert verify_output(out).faults == []


def test_a_part_of_a_job_array_does_not_write_into_a_store_of_another_shape(
    tmp_path: Path, tissue: np.ndarray
) -> None:
    source = save_zarr(tmp_path / "in.zarr", np.ascontiguousarray(tissue[:480, :960]))
    out = tmp_path / "o.ome.zarr"
    go(source, out, "rational", init_only=True)
    edit("shape", 0, 470, level="0")(out)
    with pytest.raises(OutputError, match="--init-only"):
        go(source, out, "rational", shard="1/1")
    go(source, out, "rational", init_only=True)
    go(source, out, "rational", shard="1/1")
    go(source, out, "rational", finalize=True)
    assert verify_output(out).faults == []


def test_another_store_in_the_place_of_an_output_is_not_taken_for_it(
    finished: Outputs, tmp_path: Path
) -> None:
    out, source = copied(finished, "0.5", tmp_path)
    shutil.rmtree(out)
    zarr.create_group(out).create_array("0", data=np.ones((480, 960), np.uint8), chunks=(480, 480))
    zarr.open_group(out, mode="r+").attrs["mine"] = 1
    before = every_byte(out)
    with pytest.raises(OutputError, match="no run of this program made"):
        go(source, out, Fir(), resume=True)
    assert every_byte(out) == before


def test_what_is_no_image_is_still_a_wrong_input(tmp_path: Path) -> None:
    zarr.create_group(tmp_path / "g")
    with pytest.raises(InputError, match="without multiscales"):
        verify_output(tmp_path / "g")

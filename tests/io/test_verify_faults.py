"""Guards the checker itself: each kind of damage is found, named and placed, and whole stores are passed."""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from bigrestore.errors import CheckFailedError, InputError, InputMissingError
from bigrestore.io.open_section import open_section
from bigrestore.io.store.ome_zarr import create_store, finish_store, open_level, shard_paths, write_block
from bigrestore.io.store.pyramid import build_pyramid
from bigrestore.io.store.store_spec import StoreSpec
from bigrestore.io.store.tiff import write_pyramidal_tiff
from bigrestore.io.verify.faults import Fault
from bigrestore.io.verify.store import verify_store

SIZES = {"chunk_px": 96, "shard_px": 384}


@pytest.fixture(params=["0.5", "0.4"])
def spec(request: pytest.FixtureRequest) -> StoreSpec:
    """Return a volume of two sections, whose pyramid halves z as well."""
    return StoreSpec(
        (3, 500, 450),
        np.uint8,
        voxel_size_um=(20.0, 21.25, 21.25),
        is_volume=True,
        fmt=request.param,
        **SIZES,
    )


@pytest.fixture
def store(tmp_path: Path, spec: StoreSpec) -> Path:
    """Return a finished store of random pixels."""
    path = tmp_path / "s.ome.zarr"
    create_store(path, spec)
    pixels = np.random.default_rng(0).integers(0, 255, spec.shape, dtype=np.uint8)
    array = open_level(path, 0)
    for z, y, x in np.ndindex(3, 2, 2):
        write_block(array, z, y * 384, x * 384, pixels[z, y * 384 : (y + 1) * 384, x * 384 : (x + 1) * 384])
    build_pyramid(path, spec)
    finish_store(path, spec, (0, 255), {"version": "0"})
    return path


def edit(store: Path, fmt: str, change: Callable[[Any], None]) -> None:
    """Change the multiscales metadata of a store."""
    file = store / ("zarr.json" if fmt == "0.5" else ".zattrs")
    content = json.loads(file.read_text())
    change(content["attributes"]["ome"]["multiscales"][0] if fmt == "0.5" else content["multiscales"][0])
    file.write_text(json.dumps(content))


def ids(faults: list[Any]) -> set[str]:
    """Return the kinds of fault."""
    return {fault.id for fault in faults}


def test_a_whole_store_has_no_faults(store: Path) -> None:
    assert verify_store(store) == []


def test_a_truncated_shard_is_found_and_named(store: Path, spec: StoreSpec) -> None:
    shard = shard_paths(store, spec, 0, 1, 384, 0, 116, 384)[0]
    shard.write_bytes(shard.read_bytes()[:-30])
    faults = [fault for fault in verify_store(store) if fault.id == "chunk.undecodable"]
    assert [fault.location for fault in faults] == [str(shard.relative_to(store))]


def test_a_flipped_byte_is_found(store: Path, spec: StoreSpec) -> None:
    shard = shard_paths(store, spec, 0, 1, 0, 0, 384, 384)[0]
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 0x10
    shard.write_bytes(content)
    faults = verify_store(store)
    assert faults
    if spec.fmt == "0.5":  # each chunk has a checksum, so the shard itself is named
        assert str(shard.relative_to(store)) in {fault.location for fault in faults}


def test_a_missing_shard_is_found(store: Path, spec: StoreSpec) -> None:
    for path in shard_paths(store, spec, 0, 2, 384, 384, 116, 66):
        path.unlink()
        assert ("shard.missing", str(path.relative_to(store))) in {
            (f.id, f.location) for f in verify_store(store)
        }


def test_a_wrong_unit_is_found(store: Path, spec: StoreSpec) -> None:
    edit(store, spec.fmt, lambda entry: entry["axes"][2].update(unit="um"))
    faults = verify_store(store)
    assert [(f.id, f.expected, f.actual) for f in faults] == [("unit.spelling", "micrometer", "um")]


def test_a_wrong_scale_is_found(store: Path, spec: StoreSpec) -> None:
    def change(entry: Any) -> None:
        entry["datasets"][1]["coordinateTransformations"][0]["scale"][2] = 60.0

    edit(store, spec.fmt, change)
    faults = verify_store(store)
    assert ids(faults) == {"scale.disagrees"}
    assert faults[0].expected == "42.5"


def test_a_missing_shift_is_found(store: Path, spec: StoreSpec) -> None:
    edit(store, spec.fmt, lambda entry: entry["datasets"][1]["coordinateTransformations"].pop())
    assert ids(verify_store(store)) == {"translation.disagrees"}


def test_a_level_that_disagrees_by_one_grey_level_is_found_at_its_place(store: Path) -> None:
    level = open_level(store, 1)
    value = int(np.asarray(level[1, 200, 31]))
    level[1, 200, 31] = value + 1 if value < 255 else 254
    faults = verify_store(store)
    assert [(fault.id, fault.location) for fault in faults] == [("level.disagrees", "1 z=1 y=200 x=31")]


def test_a_level_that_is_not_there_is_found(store: Path, spec: StoreSpec) -> None:
    (store / "1" / ("zarr.json" if spec.fmt == "0.5" else ".zarray")).unlink()
    assert "level.missing" in ids(verify_store(store))


def test_a_store_that_was_not_finished_is_found(tmp_path: Path) -> None:
    create_store(tmp_path / "s", StoreSpec((1, 100, 100), np.uint8))
    assert ids(verify_store(tmp_path / "s")) == {"multiscales.missing"}


def test_what_is_no_store_is_a_wrong_input_and_no_fault(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError):
        verify_store(tmp_path / "absent")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("II")
    (tmp_path / "empty.tif").touch()
    zarr.create_array(tmp_path / "bare", data=np.zeros((9, 9), np.uint8))
    zarr.create_group(tmp_path / "group").create_array("a", data=np.zeros((9, 9), np.uint8))
    for name in ("a.png", "notes.txt", "empty.tif", "bare", "group", "bare/zarr.json", "."):
        with pytest.raises(InputError, match=r"; give .*\.$") as error:
            verify_store(tmp_path / name)
        assert error.value.exit_code == 3


def test_metadata_that_are_no_json_are_a_fault(store: Path, spec: StoreSpec) -> None:
    (store / ("zarr.json" if spec.fmt == "0.5" else ".zattrs")).write_text("{")
    assert ids(verify_store(store)) == {"store.unreadable"}


@pytest.mark.parametrize(
    ("scale", "kind"),
    [
        ([0, 0], "scale.disagrees"),
        ([-2, 21.25], "scale.disagrees"),
        ([1e-320, 1e-320], "scale.disagrees"),
        ([1e308, 1e308], "scale.disagrees"),
        ([float("nan"), 1], "multiscales.damaged"),
        ([float("inf"), 1], "multiscales.damaged"),
        ([10**400, 1], "multiscales.damaged"),
        (["a", "b"], "multiscales.damaged"),
        ([None, 1], "multiscales.damaged"),
        ([[1], 1], "multiscales.damaged"),
        ([1], "multiscales.damaged"),
        (1, "multiscales.damaged"),
    ],
    ids=lambda value: repr(value)[:30],
)
@pytest.mark.parametrize("level", [0, 1])
def test_a_scale_that_means_nothing_is_a_fault_and_a_sentence(
    tmp_path: Path, scale: Any, kind: str, level: int
) -> None:
    foreign(tmp_path / "f", [np.zeros((64, 64), np.uint8), np.zeros((32, 32), np.uint8)], 2)
    content = json.loads((tmp_path / "f" / ".zattrs").read_text())
    entry = content["multiscales"][0]
    entry["axes"] = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    for index in (0, 1):
        entry["datasets"][index]["coordinateTransformations"][0]["scale"] = [2.0**index] * 2
    entry["datasets"][level]["coordinateTransformations"][0]["scale"] = scale
    (tmp_path / "f" / ".zattrs").write_text(json.dumps(content))
    assert kind in ids(verify_store(tmp_path / "f"))
    if kind == "multiscales.damaged":
        with pytest.raises(InputError, match=r"\.$"):
            open_section(tmp_path / "f")
    else:
        size = open_section(tmp_path / "f", level=level).voxel_size_um[1]
        assert size is None or size > 0


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["0", "y"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where in a JSON document something stands."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(place for key, inner in items for place in places(inner, (*path, key)))]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a finished store of each version."""
    folder = tmp_path_factory.mktemp("small")
    for fmt in ("0.5", "0.4"):
        spec = StoreSpec((1, 20, 16), np.uint8, voxel_size_um=(None, 1.0, 1.0), fmt=fmt)
        create_store(folder / fmt, spec)
        write_block(open_level(folder / fmt, 0), 0, 0, 0, np.arange(320, dtype=np.uint8).reshape(20, 16))
        build_pyramid(folder / fmt, spec)
        finish_store(folder / fmt, spec, (0, 255), {})
    return folder


@settings(
    max_examples=60,
    derandomize=True,  # the same documents every time: a find is then a failure of the commit that brought it
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # shrinking such a document takes minutes and shows no more
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.data())
def test_whatever_the_metadata_say_verify_lists_faults_and_opening_says_a_sentence(
    small: Path, data: st.DataObject
) -> None:
    name = data.draw(
        st.sampled_from(["0.5/zarr.json", "0.5/0/zarr.json", "0.4/.zattrs", "0.4/.zgroup", "0.4/1/.zarray"])
    )
    file = small / name
    whole = file.read_text()
    content = json.loads(whole)
    *above, last = data.draw(st.sampled_from(places(content)[1:]))
    parent = content
    for key in above:
        parent = parent[key]
    parent[last] = data.draw(JSON)
    store = small / name[:3]
    try:
        file.write_text(json.dumps(content))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with suppress(InputError):
                assert all(isinstance(fault, Fault) for fault in verify_store(store))
            with suppress(InputError):
                section = open_section(store)
                section.read(0, 0, 1, 0, 1)
    finally:
        file.write_text(whole)


# --- foreign stores -----------------------------------------------------------------------------


def foreign(path: Path, levels: list[Any], factor: int) -> None:
    """Write an OME-Zarr image of another program: other factor, no translation, sparse."""
    group = zarr.create_group(path, zarr_format=2)
    datasets = []
    for index, pixels in enumerate(levels):
        group.create_array(str(index), data=pixels, chunks=(64, 64))
        scale = [float(factor**index)] * 2
        datasets.append(
            {"path": str(index), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        )
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]


def test_a_foreign_store_may_be_sparse_and_reduced_in_another_way(tmp_path: Path) -> None:
    yy, xx = np.mgrid[:513, :513]
    fine = ((np.sin(yy / 20) + np.cos(xx / 31)) * 60 + 128).astype(np.uint8)
    fine[:128, :128] = 0  # left out as fill value
    foreign(tmp_path / "f", [fine, fine[::4, ::4][:128, :128]], 4)
    assert verify_store(tmp_path / "f") == []


def test_a_foreign_level_of_another_picture_is_found(tmp_path: Path) -> None:
    fine = np.random.default_rng(0).integers(0, 255, (512, 512), dtype=np.uint8)
    foreign(tmp_path / "f", [fine, np.full((128, 128), 30, np.uint8)], 4)
    assert ids(verify_store(tmp_path / "f")) == {"level.disagrees"}


def test_a_foreign_scale_that_does_not_fit_is_found(tmp_path: Path) -> None:
    fine = np.full((512, 512), 30, np.uint8)
    foreign(tmp_path / "f", [fine, fine[:128, :128]], 2)
    assert ids(verify_store(tmp_path / "f")) == {"scale.disagrees"}


# --- TIFF and the command -----------------------------------------------------------------------


@pytest.fixture
def tiff(tmp_path: Path) -> Path:
    """Return a pyramidal TIFF of our own."""
    spec = StoreSpec((1, 1100, 700), np.uint8, voxel_size_um=(None, 2.0, 2.0))
    create_store(tmp_path / "s", spec)
    pixels = np.random.default_rng(0).integers(0, 255, (1100, 700), dtype=np.uint8)
    write_block(open_level(tmp_path / "s", 0), 0, 0, 0, pixels)
    build_pyramid(tmp_path / "s", spec)
    finish_store(tmp_path / "s", spec, (0, 255), {})
    write_pyramidal_tiff(tmp_path / "s", tmp_path / "o.ome.tif", spec, {})
    return tmp_path / "o.ome.tif"


def test_a_whole_tiff_has_no_faults(tiff: Path) -> None:
    assert verify_store(tiff) == []


def test_a_damaged_tile_is_found(tiff: Path) -> None:
    with tifffile.TiffFile(tiff) as file:
        offset = file.pages[0].dataoffsets[3]
    content = bytearray(tiff.read_bytes())
    content[offset : offset + 40] = bytes(40)
    tiff.write_bytes(content)
    faults = [fault for fault in verify_store(tiff) if fault.id == "chunk.undecodable"]
    assert [fault.location for fault in faults] == ["level 0 z=0 y=512 x=512"]


def test_a_tiff_level_that_disagrees_is_found(tmp_path: Path) -> None:
    fine = np.zeros((600, 600), np.uint8)
    with tifffile.TiffWriter(tmp_path / "o.ome.tif", ome=True) as writer:
        writer.write(fine, tile=(64, 64), subifds=1, metadata={"axes": "YX", "Creator": "bigrestore"})
        writer.write(fine[::2, ::2] + 1, tile=(64, 64), subfiletype=1, metadata=None)
    assert ids(verify_store(tmp_path / "o.ome.tif")) == {"level.disagrees"}


def test_a_tiff_that_was_cut_off_is_found(tiff: Path) -> None:
    tiff.write_bytes(tiff.read_bytes()[: tiff.stat().st_size // 2])
    assert ids(verify_store(tiff)) == {"store.unreadable"}


def command(*arguments: str) -> Any:
    """Run a command of the application without its translation of errors into exit codes."""
    from bigrestore.cli.app import app

    return CliRunner().invoke(app, list(arguments))


def test_verify_command_lists_the_faults_and_exits_with_6(store: Path, spec: StoreSpec) -> None:
    assert command("verify", str(store)).exit_code == 0
    edit(store, spec.fmt, lambda entry: entry["axes"][2].update(unit="um"))
    result = command("verify", str(store))
    assert "unit.spelling" in result.output
    assert isinstance(result.exception, CheckFailedError)
    assert result.exception.exit_code == 6
    listed = command("verify", str(store), "--json")
    assert json.loads(listed.stdout)["faults"][0]["actual"] == "um"


def test_info_command_says_what_was_understood(store: Path, spec: StoreSpec) -> None:
    facts = json.loads(command("info", str(store), "--json").stdout)
    assert facts["kind"] == "ome-zarr"
    assert facts["format_version"] == spec.fmt
    assert facts["shape_zyx"] == [3, 500, 450]
    assert facts["voxel_size_um"] == [20.0, 21.25, 21.25]
    assert facts["levels"] == [[3, 500, 450], [2, 250, 225]]
    assert facts["bigrestore"] == {"version": "0"}
    table = command("info", str(store)).output
    assert "y 21.25" in table
    assert "3 x 500 x 450" in table


@pytest.mark.filterwarnings(
    "default:.*chunk sizes must be"
)  # newer versions of zarr warn, and read fill values
@pytest.mark.parametrize("side", [0, False])
def test_chunks_without_pixels_are_a_sentence(small: Path, side: object) -> None:
    file = small / "0.5/0/zarr.json"
    whole = file.read_text()
    content = json.loads(whole)
    content["chunk_grid"]["configuration"]["chunk_shape"][0] = side
    try:
        file.write_text(json.dumps(content))
        assert list(verify_store(small / "0.5"))
        with pytest.raises(InputError, match=r"\.$"):
            open_section(small / "0.5")
    finally:
        file.write_text(whole)


def test_a_shape_of_a_billion_files_is_listed_briefly(tmp_path: Path) -> None:
    spec = StoreSpec((1, 20, 16), np.uint8, voxel_size_um=(None, 1.0, 1.0))
    create_store(tmp_path / "s", spec)
    write_block(open_level(tmp_path / "s", 0), 0, 0, 0, np.zeros((20, 16), np.uint8))
    build_pyramid(tmp_path / "s", spec)
    finish_store(tmp_path / "s", spec, (0, 255), {})
    file = tmp_path / "s/0/zarr.json"
    content = json.loads(file.read_text())
    content["shape"][-1] = 2**45
    file.write_text(json.dumps(content))
    faults = list(itertools.islice(verify_store(tmp_path / "s"), 3000))
    assert 0 < len(faults) < 1200

"""Maps beside the image: what they show, where they are 0, and that they are kept as carefully as the image."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import zarr
from engine_toys import Fir, level0, save_zarr
from prior_toys import model_file, network

from bigrestore.errors import OutputError, OutputExistsError, StoppedError, UsageError
from bigrestore.io.open_section import open_section
from bigrestore.io.store.ome_zarr import open_level
from bigrestore.io.verify.store import verify_store
from bigrestore.model.nets.redegrade import redegrade
from bigrestore.model.network import NetworkMethod
from bigrestore.run.execute import execute
from bigrestore.run.state.checks import verify_output
from bigrestore.run.view.dry_run import estimate
from bigrestore.run.view.status import run_status
from bigrestore.settings import RunSettings

MAPS = ("residual", "invented", "uncertainty")
STEP = 1 / 65536


def go(source: Path, output: Path, method: NetworkMethod | Fir | None, **settings: Any) -> Any:
    asked: dict[str, Any] = {"block_size": 480, "tile_size": 240, "threads": 2, "mask": "none"}
    asked |= {"maps": "uncertainty,residual,invented", "report": False, "progress": "none"}
    return execute(source, output, RunSettings(**(asked | settings)), method=method)


def every_byte(store: Path) -> dict[str, bytes]:
    return {p.relative_to(store).as_posix(): p.read_bytes() for p in sorted(store.rglob("*")) if p.is_file()}


def read_map(store: Path, name: str, level: int = 0) -> np.ndarray:
    return np.asarray(zarr.open_array(store / "maps" / name / str(level), mode="r")[:])


@pytest.fixture
def image(tissue: np.ndarray) -> np.ndarray:
    """Two blocks of 480, the second one narrow."""
    return np.ascontiguousarray(tissue[:200, :500])


@pytest.fixture
def source(tmp_path: Path, image: np.ndarray) -> Path:
    return save_zarr(tmp_path / "in.zarr", image)


@pytest.fixture(scope="module")
def finished(tissue: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an input and its output with maps, for tests that damage a copy."""
    folder = tmp_path_factory.mktemp("finished")
    pixels = np.ascontiguousarray(tissue[:200, :500])
    go(save_zarr(folder / "in.zarr", pixels), folder / "out.zarr", network(realness=0.5))
    return folder


@pytest.fixture
def copied(tmp_path: Path, finished: Path) -> tuple[Path, Path]:
    """A copy of the input and of the output."""
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy/in.zarr", tmp_path / "copy/out.zarr"


@pytest.mark.parametrize("scale", [1, 2])
def test_maps_show_what_they_say(tmp_path: Path, image: np.ndarray, scale: int) -> None:
    image = image[:, : 400 // scale]
    floats = save_zarr(tmp_path / "floats.zarr", image.astype(np.float32) / 255)
    method, out = network(scale, realness=0.7), tmp_path / "out.ome.zarr"
    summary = go(floats, out, method, scale=scale)
    assert not summary.failed
    assert summary.maps == MAPS
    assert ("maps", f"residual, invented, uncertainty in {out}/maps") in summary.rows()
    y = level0(out)
    assert all(read_map(out, name).shape == y.shape for name in MAPS)
    assert all(read_map(out, name).dtype == np.float32 for name in MAPS)
    profile = json.loads((tmp_path / "out.ome.zarr.bigrestore/profiles/z00000.json").read_text())
    kernel = torch.tensor(profile["kernel"])
    apart = image / np.float32(255) - redegrade(torch.from_numpy(y)[None, None], kernel, scale)[0, 0].numpy()
    wanted = np.abs(apart).repeat(scale, 0).repeat(scale, 1)
    inside = (slice(0, -24), slice(0, -24))  # at the far edge the network saw more than the image
    np.testing.assert_allclose(read_map(out, "residual")[inside], wanted[inside], atol=STEP)
    go(floats, tmp_path / "plain.ome.zarr", network(scale), scale=scale, maps=())
    plain = level0(tmp_path / "plain.ome.zarr")
    invented = read_map(out, "invented")
    np.testing.assert_allclose(invented, np.abs(y - plain), atol=STEP + 2e-5)
    assert invented.max() > 0.01
    assert 0 < read_map(out, "uncertainty").min() < read_map(out, "uncertainty").max() < 1
    assert (tmp_path / "plain.ome.zarr/maps").exists() is False


def test_at_realness_zero_nothing_is_invented(tmp_path: Path, source: Path) -> None:
    go(source, tmp_path / "out.zarr", network())
    assert not read_map(tmp_path / "out.zarr", "invented").any()
    assert read_map(tmp_path / "out.zarr", "residual").any()


@pytest.mark.parametrize("fmt", ["0.5", "0.4"])
def test_each_map_is_an_image_with_the_pyramid_of_the_image(tmp_path: Path, source: Path, fmt: str) -> None:
    out = tmp_path / "out.ome.zarr"
    go(source, out, network(realness=0.5), format=fmt, voxel_size=(None, 2.0, 3.0))
    assert verify_output(out).faults == []
    whole = open_section(out)
    for name in MAPS:
        section = open_section(out / "maps" / name)
        assert (section.levels, section.voxel_size_um, section.dtype) == (
            whole.levels,
            whole.voxel_size_um,
            np.float32,
        )
        assert verify_store(out / "maps" / name) == []
        fine, coarse = (read_map(out, name, level) for level in (0, 1))
        np.testing.assert_allclose(
            coarse[:100, :100], fine[:200, :200].reshape(100, 2, 100, 2).mean((1, 3)), atol=1e-7
        )
    said = dict(zarr.open_group(out, mode="r").attrs)["bigrestore"]
    assert sorted(said["maps"]) == sorted(MAPS)
    assert said["settings"]["maps"] == list(MAPS)


def test_maps_do_not_depend_on_tiles_and_blocks(tmp_path: Path, source: Path) -> None:
    for name, cut in (("a", {}), ("b", {"block_size": 960, "tile_size": 960, "batch_size": 2})):
        go(source, tmp_path / name, network(realness=1.0), **cut)
    for name in MAPS:
        one, two = read_map(tmp_path / "a", name), read_map(tmp_path / "b", name)
        np.testing.assert_allclose(one, two, atol=2e-4)
        assert np.abs(one - two).mean() < 1e-6


def test_cross_faded_tiles_fade_their_maps(tmp_path: Path, source: Path) -> None:
    for name, overlap in (("hard", 0), ("soft", 32)):
        go(source, tmp_path / name, network(realness=1.0), overlap=overlap)
    for name in MAPS:
        np.testing.assert_allclose(
            read_map(tmp_path / "hard", name), read_map(tmp_path / "soft", name), atol=2e-4
        )


def test_maps_are_zero_where_pixels_pass_through(tmp_path: Path, source: Path, image: np.ndarray) -> None:
    drawn = np.ones(image.shape, np.uint8)
    drawn[:, :200], drawn[100:140, 300:340] = 0, 2
    mask = save_zarr(tmp_path / "mask.zarr", drawn)
    go(source, tmp_path / "out.zarr", network(realness=1.0), mask=str(mask))
    for name in MAPS:
        found = read_map(tmp_path / "out.zarr", name)
        assert not found[drawn != 1].any()
        assert found[drawn == 1].any()


def test_a_block_of_background_has_maps_of_zero(tmp_path: Path, image: np.ndarray) -> None:
    wide = np.full((200, 960), 250, np.uint8)
    wide[:, :300] = image[:, :300]
    source, out = save_zarr(tmp_path / "in.zarr", wide), tmp_path / "out.zarr"
    summary = go(source, out, network(realness=1.0), mask="auto")
    assert (summary.blocks_done, summary.blocks_empty) == (1, 1)
    assert verify_output(out).faults == []
    for name in MAPS:
        found = read_map(out, name)
        assert not found[:, 480:].any()
        assert found[:, :240].any()
    assert go(source, out, network(realness=1.0), mask="auto", resume=True).blocks_restored == 0


def test_colour_has_maps_of_its_luma(tmp_path: Path, rgb: np.ndarray) -> None:
    source = save_zarr(tmp_path / "in.zarr", np.ascontiguousarray(rgb[:200, :250]))
    assert not go(source, tmp_path / "out.zarr", network(realness=0.5)).failed
    assert read_map(tmp_path / "out.zarr", "invented").shape == (200, 250)
    assert verify_store(tmp_path / "out.zarr") == []


def test_a_volume_has_maps_of_volumes(tmp_path: Path, image: np.ndarray) -> None:
    source = save_zarr(tmp_path / "in.zarr", np.stack([image[:96, :96], image[96:192, :96]]))
    go(source, tmp_path / "out.zarr", network(realness=0.5))
    assert read_map(tmp_path / "out.zarr", "uncertainty").shape == (2, 96, 96)


def test_killed_and_resumed_gives_the_same_bytes(tmp_path: Path, source: Path) -> None:
    out, calls = tmp_path / "out.zarr", []
    method = network(realness=0.5)
    restore = method.restore

    def stop(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:  # in the second block
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.5)
        return restore(*arguments)

    method.restore = stop  # type: ignore[method-assign]
    with pytest.raises(StoppedError, match="--resume"):
        go(source, out, method, threads=1)
    assert (out / "maps/invented/0/c/0/0").is_file()
    assert not (out / "maps/invented/0/c/0/1").exists(), "no shard of the block in hand"
    for name in MAPS:
        assert "ome" not in dict(zarr.open_group(out / "maps" / name, mode="r").attrs)
    assert go(source, out, network(realness=0.5), resume=True).blocks_restored == 1
    go(source, tmp_path / "fresh.zarr", network(realness=0.5))
    assert every_byte(out) == every_byte(tmp_path / "fresh.zarr")


@pytest.mark.parametrize("place", ["0/c/0/1", "1/c/0/0", "zarr.json", "0/zarr.json", "../zarr.json", ""])
@pytest.mark.parametrize("harm", ["flipped", "deleted"])
def test_a_damaged_map_is_found_and_mended(copied: tuple[Path, Path], place: str, harm: str) -> None:
    source, out = copied
    wanted = every_byte(out)
    target = out / "maps/residual" / place
    if target.is_dir():
        shutil.rmtree(target)
    elif harm == "deleted":
        target.unlink()
    else:
        content = bytearray(target.read_bytes())
        content[len(content) // 2] ^= 0xFF
        target.write_bytes(bytes(content))
    assert verify_output(out).faults
    summary = go(source, out, network(realness=0.5), resume=True)
    assert summary.blocks_restored == {"0/c/0/1": 1, "": 2}.get(place, 0)
    assert every_byte(out) == wanted
    assert verify_output(out).faults == []


def test_metadata_of_a_map_are_the_runs_as_those_of_the_image_are(copied: tuple[Path, Path]) -> None:
    source, out = copied
    wanted = every_byte(out)
    for name, old, new, kind in (
        ("maps/invented/zarr.json", '"scale": [', '"scale": [7.0, 7.0], "was": [', "multiscales.altered"),
        ("maps/invented/zarr.json", '"map": "invented"', '"map": "residual"', "provenance.altered"),
        ("maps/residual/0/zarr.json", '"float32"', '"float64"', "metadata.altered"),
        ("zarr.json", '"residual": {', '"other": {', "map.unlisted"),
    ):
        text = (out / name).read_text()
        assert old in text
        (out / name).write_text(text.replace(old, new))
        faults = verify_output(out).faults
        assert kind in {fault.id for fault in faults}
        assert {fault.mended_by for fault in faults} == {"--resume"}
        go(source, out, network(realness=0.5), resume=True)
        assert every_byte(out) == wanted


def test_a_wrong_level_of_a_map_is_found(copied: tuple[Path, Path]) -> None:
    _, out = copied
    level = open_level(out / "maps/uncertainty", 1)
    level[3, 4] = float(np.asarray(level[3, 4])) + 0.1
    assert [fault.id for fault in verify_store(out)] == ["level.disagrees"]
    assert "maps/uncertainty/1" in verify_store(out)[0].location


@pytest.mark.usefixtures("warm_children")
def test_parts_and_workers_give_the_bytes_of_one_run(tmp_path: Path, source: Path) -> None:
    model = str(model_file(tmp_path))
    common: dict[str, Any] = {"model": model, "realness": 0.6, "precision": "fp32"}
    go(source, tmp_path / "one.zarr", None, **common)
    wanted = every_byte(tmp_path / "one.zarr")
    out = tmp_path / "parts.zarr"
    go(source, out, None, init_only=True, **common)
    for index in (2, 1):
        go(source, out, None, shard=f"{index}/2", **common)
    summary = go(source, out, None, finalize=True, **common)
    assert summary.maps == MAPS
    assert every_byte(out) == wanted
    go(source, tmp_path / "crew.zarr", None, workers=2, **common)
    assert every_byte(tmp_path / "crew.zarr") == wanted
    assert run_status(out).maps == list(MAPS)
    assert ("maps", "residual, invented, uncertainty") in run_status(out).rows()


def test_a_zip_file_holds_the_maps(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out.ome.zarr.zip"
    go(source, out, network(realness=0.5))
    assert verify_store(out) == []
    import zipfile

    assert "maps/invented/0/c/0/0" in zipfile.ZipFile(out).namelist()


def test_a_dry_run_counts_maps(tmp_path: Path, source: Path) -> None:
    model = str(model_file(tmp_path))
    asked: dict[str, Any] = {"model": model, "mask": "none", "progress": "none", "report": False}
    plain, mapped = (
        estimate(source, tmp_path / "out.zarr", RunSettings(**asked, maps=maps))
        for maps in ((), ("residual", "invented"))
    )
    assert mapped.bytes_out == plain.bytes_out * 9
    assert mapped.files == plain.files * 3
    assert mapped.memory_bytes > plain.memory_bytes
    assert ("maps", "residual, invented") in mapped.rows()


def test_other_maps_are_another_run_and_overwriting_removes_only_maps(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out.zarr"
    go(source, out, network(realness=0.5), maps="residual")
    with pytest.raises(OutputExistsError, match="--maps"):
        go(source, out, network(realness=0.5), resume=True)
    go(source, out, network(realness=0.5), maps="uncertainty", overwrite=True)
    assert sorted(path.name for path in (out / "maps").iterdir()) == ["OME", "uncertainty", "zarr.json"]
    (out / "maps" / "mine.txt").write_text("notes")
    with pytest.raises(OutputError, match="maps"):
        go(source, out, network(realness=0.5), overwrite=True)
    assert (out / "maps" / "mine.txt").exists()


def test_maps_that_cannot_be_given_are_refused(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out.zarr"
    with pytest.raises(UsageError, match="nano has no prior, so it gives no map `invented`"):
        go(source, out, network(with_prior=False))
    with pytest.raises(UsageError, match="fir gives no map `residual`"):
        go(source, out, Fir())
    for method in ("rational", "catmull-rom"):
        with pytest.raises(UsageError, match=f"--maps needs a network, and --method {method} is none"):
            execute(source, out, RunSettings(method=method, maps="residual", progress="none"))
    with pytest.raises(UsageError, match=r"out\.ome\.tif has no place for"):
        go(source, tmp_path / "out.ome.tif", network(realness=0.5))
    for bad in ("residuals", "residual,blur", 5, ("residual", 3), ","):
        with pytest.raises(UsageError, match=r"--maps is .*residual, invented, uncertainty"):
            RunSettings(maps=bad)  # type: ignore[arg-type]
    assert RunSettings(maps=["uncertainty", "residual", "residual"]).maps == ("residual", "uncertainty")  # type: ignore[arg-type]
    assert not list(tmp_path.glob("out*"))


def test_a_tile_that_does_not_fit_is_cut_with_its_maps(tmp_path: Path, source: Path) -> None:
    method, state = network(realness=0.5), {"failed": False}
    restore = method.restore

    def short(batch: Any, statistics: Any) -> Any:
        if not state["failed"]:
            state["failed"] = True
            raise MemoryError
        return restore(batch, statistics)

    method.restore = short  # type: ignore[method-assign]
    go(source, tmp_path / "cut.zarr", method, threads=1)
    go(source, tmp_path / "whole.zarr", network(realness=0.5), threads=1)
    for name in MAPS:
        np.testing.assert_allclose(
            read_map(tmp_path / "cut.zarr", name), read_map(tmp_path / "whole.zarr", name), atol=2e-4
        )


@pytest.mark.parametrize("fmt", ["0.5", "0.4"])
def test_maps_open_as_one_named_after_the_section_and_shown_by_their_values(
    tmp_path: Path, source: Path, fmt: str
) -> None:
    out = tmp_path / "out.ome.zarr"
    go(source, out, network(realness=0.5), format=fmt)
    for name in ("", *(f"maps/{name}" for name in MAPS)):
        stated = dict(zarr.open_group(out / name, mode="r").attrs)
        stated = stated.get("ome", stated)
        channel = stated["omero"]["channels"][0]
        assert (stated["multiscales"][0]["name"], channel["label"]) == (
            "in",
            name.removeprefix("maps/") or "restored",
        )
        if name:
            values = read_map(out, channel["label"], 1)
            assert 0.98 < (values[values > 0] <= channel["window"]["end"]).mean() < 1
    names = [image.get("ID") for image in ElementTree.parse(out / "maps/OME/METADATA.ome.xml").getroot()]
    assert names == [f"Image:{name}" for name in MAPS]
    wanted = every_byte(out)
    for lost in ("maps/OME/METADATA.ome.xml", "maps/OME/zarr.json" if fmt == "0.5" else "maps/OME/.zattrs"):
        (out / lost).unlink()
        go(source, out, network(realness=0.5), format=fmt, resume=True)
        assert every_byte(out) == wanted
    go(source, out, network(realness=0.5), format=fmt, maps=(), overwrite=True)
    assert not (out / "maps").exists()

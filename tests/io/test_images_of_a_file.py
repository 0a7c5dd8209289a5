"""The section of a file with several images is the largest, or the one that was asked for; never a thumbnail."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from numpy.typing import NDArray
from PIL import Image

import bigrestore
from bigrestore.errors import UsageError
from bigrestore.io.open_section import open_section
from bigrestore.report.fit import fit_niqe_model
from bigrestore.settings.train import AdaptOptions
from bigrestore.training.adaptation.sections import open_slices

RUN = ("--method", "catmull-rom", "--mask", "none", "--no-report", "--progress", "none")


def values(*shape: int, seed: int = 0) -> NDArray[Any]:
    """Return random pixels."""
    return np.random.default_rng(seed).integers(0, 255, shape).astype(np.uint8)


SECTION, THUMBNAIL, LABEL = values(300, 260, 3), values(64, 90, 3, seed=1), values(120, 110, 3, seed=2)
STACK, OVERVIEW = values(20, 100, 110), values(300, 310, seed=1)
RGB: dict[str, Any] = {"photometric": "rgb", "metadata": None}


def thumbnail_first(path: Path) -> None:
    with tifffile.TiffWriter(path) as writer:
        writer.write(THUMBNAIL, subfiletype=1, **RGB)
        writer.write(SECTION, tile=(128, 128), **RGB)


def macro_and_label_first(path: Path) -> None:
    with tifffile.TiffWriter(path) as writer:
        writer.write(LABEL, **RGB)
        writer.write(THUMBNAIL, **RGB)
        writer.write(SECTION, compression="deflate", **RGB)


def large_thumbnail_marked_as_one(path: Path) -> None:
    with tifffile.TiffWriter(path) as writer:
        writer.write(values(400, 500, 3, seed=3), subfiletype=1, **RGB)
        writer.write(SECTION, **RGB)


def thumbnail_behind(path: Path) -> None:
    with tifffile.TiffWriter(path) as writer:
        writer.write(SECTION, **RGB)
        writer.write(THUMBNAIL, **RGB)


def ome_macro_first(path: Path) -> None:
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(THUMBNAIL, photometric="rgb", metadata={"Name": "macro"})
        writer.write(SECTION, photometric="rgb", metadata={"Name": "section"})


@pytest.mark.parametrize(
    "write",
    [
        thumbnail_first,
        macro_and_label_first,
        large_thumbnail_marked_as_one,
        thumbnail_behind,
        ome_macro_first,
    ],
)
def test_the_largest_image_is_the_section(
    tmp_path: Path, write: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.tif"
    write(path)
    with caplog.at_level(logging.INFO):
        section = open_section(path)
    assert (section.shape, section.channels) == ((1, 300, 260), 3)
    np.testing.assert_array_equal(section.read(0, 0, 300, 0, 260), SECTION)
    assert "Choose another by --series" in caplog.text
    with tifffile.TiffFile(path) as file:
        for number, image in enumerate(file.series):
            chosen = open_section(path, series=number)
            np.testing.assert_array_equal(chosen.data.compute()[0], image.asarray())


def test_a_stack_is_larger_than_an_overview_and_a_near_rival_is_worth_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(OVERVIEW, metadata=None)
        for plane in STACK:
            writer.write(plane, metadata=None)
    np.testing.assert_array_equal(open_section(tmp_path / "a.tif").data.compute(), STACK)
    assert not caplog.records
    with tifffile.TiffWriter(tmp_path / "b.tif") as writer:
        for seed, size in enumerate(((300, 260), (290, 260), (310, 270))):
            writer.write(values(*size, seed=seed), metadata=None)
    assert open_section(tmp_path / "b.tif").shape == (1, 310, 270)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "300 x 260, 290 x 260" in caplog.text


def test_a_pyramid_beside_a_label_keeps_its_levels(tmp_path: Path) -> None:
    fine = values(400, 320)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(values(90, 190, seed=1), metadata=None, subfiletype=1)
        writer.write(fine, metadata=None, tile=(64, 64))
        writer.write(fine[::2, ::2], metadata=None, tile=(64, 64), subfiletype=1)
        writer.write(fine[::4, ::4], metadata=None, tile=(64, 64), subfiletype=1)
        writer.write(values(100, 80, seed=1), metadata=None)  # fits by its size, but is not marked
    section = open_section(tmp_path / "a.tif", level=2)
    assert section.levels == ((1, 400, 320), (1, 200, 160), (1, 100, 80))
    np.testing.assert_array_equal(section.read(0, 0, 100, 0, 80), fine[::4, ::4])
    roles = [image["role"] for image in section.details["images"]]
    assert roles == ["reduced", "section", "other"]


@pytest.mark.parametrize("label", [False, True])
def test_a_pyramid_that_begins_with_the_smallest_is_one(tmp_path: Path, label: bool) -> None:
    fine = values(400, 320)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for factor in (16, 4, 1):
            kind = 1 if factor > 1 else 0
            writer.write(fine[::factor, ::factor], metadata=None, compression="lzw", subfiletype=kind)
        if label:
            writer.write(values(90, 190), metadata=None)
    section = open_section(tmp_path / "a.tif", level=1)
    assert section.levels == ((1, 400, 320), (1, 100, 80), (1, 25, 20))
    np.testing.assert_array_equal(section.read(0, 0, 100, 0, 80), fine[::4, ::4])


def test_a_slide_scanner_file_is_read_by_its_baseline(tmp_path: Path) -> None:
    text = "Aperio Image Library v11\n256x256 |MPP = 0.5"
    with tifffile.TiffWriter(tmp_path / "a.svs") as writer:
        writer.write(SECTION, tile=(128, 128), description=text, **RGB)
        writer.write(THUMBNAIL, description=text, **RGB)
        writer.write(SECTION[::2, ::2], tile=(128, 128), description=text, **RGB)
        writer.write(LABEL, description=f"{text}\nlabel 110x120", subfiletype=1, **RGB)
        writer.write(values(80, 200, 3), description=f"{text}\nmacro 200x80", subfiletype=9, **RGB)
    section = open_section(tmp_path / "a.svs")
    assert section.levels == ((1, 300, 260), (1, 150, 130))
    assert section.voxel_size_um == (None, 0.5, 0.5)
    assert [image["name"] for image in section.details["images"]] == [
        "Baseline",
        "Thumbnail",
        "Label",
        "Macro",
    ]
    np.testing.assert_array_equal(
        open_section(tmp_path / "a.svs", series=3).data.compute()[0],
        tifffile.imread(tmp_path / "a.svs", series=3),
    )


def test_an_image_of_ome_tiff_has_its_own_voxel_size(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as writer:
        for pixels, size in ((THUMBNAIL, 30.0), (SECTION, 0.5)):
            stated = {"PhysicalSizeX": size, "PhysicalSizeY": size}
            writer.write(pixels, photometric="rgb", metadata=stated)
    assert open_section(tmp_path / "a.ome.tif").voxel_size_um == (None, 0.5, 0.5)
    assert open_section(tmp_path / "a.ome.tif", series=0).voxel_size_um == (None, 30.0, 30.0)


def test_every_command_takes_the_image_that_was_chosen(
    tmp_path: Path, call: Callable[..., int], capsys: Any
) -> None:
    path, out = tmp_path / "a.tif", tmp_path / "out.ome.zarr"
    with tifffile.TiffWriter(path) as writer:
        writer.write(OVERVIEW, metadata=None)
        writer.write(LABEL[..., 0], metadata=None)
    assert call("info", path, "--series", 1, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["shape_zyx"] == [1, 120, 110]
    assert [image["role"] for image in facts["tiff images"]] == ["other", "section"]
    assert call("info", path) == 0
    assert "0: 300 x 310 (yx) uint8, section; 1: 120 x 110 (yx) uint8, other" in capsys.readouterr().out
    assert call("run", path, out, *RUN, "--series", 1) == 0
    np.testing.assert_array_equal(zarr.open_array(out / "0", mode="r")[:], LABEL[..., 0])
    assert call("profile", path, "--series", 1, "--method", "catmull-rom", "--json") == 0
    assert call("score", path, "--series", 1, "--before", out, "-o", tmp_path / "s", "--tile-size", 96) == 0
    assert call("degrade", path, tmp_path / "pairs", "--whole", "--series", 1, "--seed", 1) == 0
    assert open_section(tmp_path / "pairs" / "lq.ome.zarr").shape == (1, 120, 110)
    capsys.readouterr()
    for words in (("info", path), ("profile", path), ("run", path, tmp_path / "b.zarr", *RUN)):
        assert call(*words, "--series", 5) == 2
        assert "holds the image(s) 0, 1" in capsys.readouterr().err


def test_python_and_a_configuration_choose_alike(tmp_path: Path, call: Callable[..., int]) -> None:
    thumbnail_behind(tmp_path / "a.tif")
    asked: Any = {"method": "catmull-rom", "report": False, "progress": "none", "mask": "none"}
    bigrestore.restore(tmp_path / "a.tif", tmp_path / "a.zarr", series=1, **asked)
    (tmp_path / "run.toml").write_text("series = 1\n")
    assert call("run", tmp_path / "a.tif", tmp_path / "b.zarr", *RUN, "--config", tmp_path / "run.toml") == 0
    for name in ("a.zarr", "b.zarr"):
        assert open_section(tmp_path / name).shape == (1, 64, 90)
    bigrestore.restore(tmp_path / "a.tif", tmp_path / "c.zarr", **asked)
    for name, stated in (("a.zarr", True), ("c.zarr", False)):
        plan = json.loads((tmp_path / f"{name}.bigrestore" / "plan.json").read_text())
        assert ("settings.series" in plan["fingerprint"]) is stated, "an older run could not be resumed"


def test_images_of_a_zarr_group_are_chosen_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    images = []
    for name, size in (("first", 40), ("second", 60)):
        group.create_array(name, shape=(size, 50), dtype="u1", chunks=(32, 32))[...] = values(size, 50)
        axes = [{"name": axis, "type": "space"} for axis in "yx"]
        scale = {"type": "scale", "scale": [1, 1]}
        datasets = [{"path": name, "coordinateTransformations": [scale]}]
        images.append({"version": "0.4", "axes": axes, "datasets": datasets})
    group.attrs["multiscales"] = images
    assert open_section(tmp_path / "a.zarr").shape == (1, 40, 50)
    assert "holds 2 images; the first is read" in caplog.text
    np.testing.assert_array_equal(
        open_section(tmp_path / "a.zarr", series=1).read(0, 0, 60, 0, 50), values(60, 50)
    )
    with pytest.raises(UsageError, match="holds 2 image"):
        open_section(tmp_path / "a.zarr", series=2)


def test_other_formats_hold_a_single_image(tmp_path: Path) -> None:
    Image.fromarray(LABEL).save(tmp_path / "a.png")
    assert open_section(tmp_path / "a.png", series=0).shape == (1, 120, 110)
    zarr.save_array(tmp_path / "a.zarr", OVERVIEW)
    for name in ("a.png", "a.zarr"):
        with pytest.raises(UsageError, match="leave it out"):
            open_section(tmp_path / name, series=1)


SCORES: Any = {"tile_size": 96, "threads": 1, "progress": "none"}


@pytest.mark.parametrize("name", ["out.ome.zarr", "out.ome.tif", "out.ome.zarr.zip"])
def test_an_output_is_compared_with_the_image_that_it_was_made_of(tmp_path: Path, name: str) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(OVERVIEW, metadata=None)
        writer.write(LABEL[..., 0], metadata=None)
    asked: Any = {"method": "catmull-rom", "report": False, "progress": "none", "mask": "none"}
    bigrestore.restore(tmp_path / "a.tif", tmp_path / name, series=1, **asked)
    scored = bigrestore.score(tmp_path / name, before=tmp_path / "a.tif", **SCORES)
    assert scored.tiles.num_rows == 4
    with pytest.raises(UsageError, match="is the image itself"):
        bigrestore.score(tmp_path / name, reference=tmp_path / "a.tif", reference_series=1, **SCORES)
    with pytest.raises(UsageError, match=r"300 x 310.*which is not the same"):
        bigrestore.score(tmp_path / name, before=tmp_path / "a.tif", before_series=0, **SCORES)
    tifffile.imwrite(tmp_path / "other.tif", LABEL[..., 0])
    bigrestore.score(tmp_path / name, before=tmp_path / "other.tif", **SCORES)


def test_an_output_is_compared_with_the_level_that_it_was_made_of(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as writer:
        writer.write(OVERVIEW, subifds=1, metadata={"axes": "YX"})
        writer.write(OVERVIEW[::2, ::2].copy(), subfiletype=1)
    asked: Any = {"method": "catmull-rom", "report": False, "progress": "none", "mask": "none"}
    bigrestore.restore(tmp_path / "a.ome.tif", tmp_path / "out.zarr", level=1, **asked)
    bigrestore.score(tmp_path / "out.zarr", before=tmp_path / "a.ome.tif", **SCORES)


def test_images_of_all_compared_files_are_chosen(
    tmp_path: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    for name, noise in (("a.tif", 0), ("b.tif", 9)):
        with tifffile.TiffWriter(tmp_path / name) as writer:
            writer.write(OVERVIEW, metadata=None)
            writer.write(LABEL[..., 0] // 2 + noise, metadata=None)
    one, two, out = tmp_path / "a.tif", tmp_path / "b.tif", tmp_path / "s"
    words = ("score", one, "--series", 1, "-o", out, "--tile-size", 96, "--overwrite", "-q")
    assert call(*words, "--before", two, "--before-series", 1) == 0
    assert call(*words, "--reference", two, "--reference-series", 1) == 0
    for flag in ("--before", "--reference"):
        capsys.readouterr()
        assert call(*words, flag, two, f"{flag}-series", 7) == 2
        assert "holds the image(s) 0, 1" in capsys.readouterr().err
        assert call(*words, flag, two) == 2, "the largest is another image"


def test_a_training_on_sections_reads_the_chosen_image(tmp_path: Path) -> None:
    thumbnail_behind(tmp_path / "a.tif")
    images = [open_slices([tmp_path / "a.tif"], series=number)[0].section for number in (0, 1)]
    assert images[0].shape != images[1].shape
    with pytest.raises(UsageError, match="holds the image"):
        open_slices([tmp_path / "a.tif"], series=4)
    assert AdaptOptions(series=3).series == 3
    with pytest.raises(UsageError, match="holds the image"):
        fit_niqe_model([tmp_path / "a.tif"], tmp_path / "m.npz", series=4)

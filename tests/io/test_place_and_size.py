"""Every voxel lies where its file says, and is as large: steps of any sign, units by any name, and no size invented."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest
import tifffile
import zarr
from numpy.typing import NDArray
from PIL import Image

import bigrestore
from bigrestore.errors import InputError, UsageError
from bigrestore.io.formats.resolution import micrometres_per, plausible_um
from bigrestore.io.open_section import open_section
from bigrestore.io.section import Section


def values(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)


def whole(section: Section) -> NDArray[Any]:
    return np.stack([section.read(z, 0, section.height, 0, section.width) for z in range(section.depth)])


# --- NIfTI, against nibabel -----------------------------------------------------------------------


def nifti(path: Path, pixels: NDArray[Any], affine: NDArray[Any], unit: str = "mm") -> Path:
    image: Any = nibabel.Nifti1Image(pixels.T, affine)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("signs", list(product((1, -1), repeat=3)), ids=str)
@pytest.mark.parametrize(("unit", "um"), [("mm", 1e3), ("micron", 1.0), ("meter", 1e6)])
def test_a_nifti_affine_of_any_sign_keeps_each_voxel_in_its_place(
    tmp_path: Path, signs: tuple[int, ...], unit: str, um: float
) -> None:
    affine = np.diag([0.02 * signs[0], 0.03 * signs[1], 0.04 * signs[2], 1.0])
    affine[:3, 3] = 1, -2, 3
    section = open_section(nifti(tmp_path / "a.nii", values(3, 20, 30), affine, unit))
    canonical: Any = nibabel.as_closest_canonical(nibabel.load(tmp_path / "a.nii"))
    np.testing.assert_array_equal(whole(section), np.asarray(canonical.dataobj).T)
    np.testing.assert_array_equal(section.read(1, 2, 9, 4, 21), np.asarray(canonical.dataobj).T[1, 2:9, 4:21])
    assert section.translation_um == pytest.approx(tuple(canonical.affine[2::-1, 3] * um))
    assert section.voxel_size_um == pytest.approx(tuple(np.diag(canonical.affine)[2::-1] * um))


@pytest.mark.parametrize("signs", list(product((1, -1), repeat=3)), ids=str)
def test_a_coronal_nifti_of_any_sign_keeps_each_voxel_in_its_place(
    tmp_path: Path, signs: tuple[int, ...]
) -> None:
    """A section along the second axis of the file, as BigBrain's are cut."""
    affine = np.diag([0.02 * signs[0], 0.03 * signs[1], 0.04 * signs[2], 1.0])
    affine[:3, 3] = 1, -2, 3
    section = open_section(nifti(tmp_path / "a.nii", values(40, 1, 30), affine))
    canonical: Any = nibabel.as_closest_canonical(nibabel.load(tmp_path / "a.nii"))
    assert section.shape == (1, 40, 30)
    np.testing.assert_array_equal(whole(section)[0], np.asarray(canonical.dataobj)[:, 0].T)
    x, y, z = canonical.affine[:3, 3] * 1e3
    assert section.translation_um == pytest.approx((y, z, x))
    assert section.voxel_size_um == pytest.approx((30.0, 40.0, 20.0))


def test_a_nifti_header_without_a_transformation_states_no_position(tmp_path: Path) -> None:
    path = nifti(tmp_path / "a.nii", values(3, 20, 30), np.diag([0.02, 0.02, 0.02, 1]))
    raw = bytearray(path.read_bytes())
    raw[252:256] = bytes(4)  # qform_code and sform_code
    path.write_bytes(raw)
    assert nibabel.load(path).affine[0, 0] < 0  # type: ignore[attr-defined]
    section = open_section(path)
    assert section.translation_um == (None, None, None)
    assert section.voxel_size_um == pytest.approx((20.0, 20.0, 20.0))
    np.testing.assert_array_equal(whole(section), values(3, 20, 30))


def test_a_rotated_nifti_has_a_size_and_no_position(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    turn = np.radians(30)
    affine = np.eye(4)
    affine[:2, :2] = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * 0.02
    section = open_section(nifti(tmp_path / "a.nii", values(3, 20, 30), affine))
    assert section.translation_um == (None, None, None)
    assert section.voxel_size_um[2] == pytest.approx(20.0)
    assert "is rotated" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("output", ["out.ome.zarr", "out.ome.tif"])
def test_the_output_of_a_flipped_volume_has_the_bright_voxel_in_its_place(
    tmp_path: Path, output: str
) -> None:
    affine = np.diag([-0.02, -0.02, 0.04, 1.0])
    affine[:3, 3] = 1, 2, 3
    pixels = np.full((3, 60, 50), 90, np.uint8)
    pixels[1, 7, 33] = 255
    nifti(tmp_path / "in.nii.gz", pixels, affine)
    bigrestore.restore(
        tmp_path / "in.nii.gz",
        tmp_path / output,
        method="rational",
        report=False,
        progress="none",
        mask="none",
    )
    if output.endswith("zarr"):
        group: Any = zarr.open_group(tmp_path / output, mode="r")
        levels = group.attrs["ome"]["multiscales"][0]["datasets"]
        scale, shift = (item[item["type"]] for item in levels[0]["coordinateTransformations"])
        stored = group["0"][...]
    else:
        stored = tifffile.imread(tmp_path / output)
        xml = tifffile.tiffcomment(tmp_path / output)
        number = lambda name: float(xml.split(f'{name}="')[1].split('"')[0])  # noqa: E731
        scale = [number(f"PhysicalSize{axis}") for axis in "ZYX"]
        shift = [number(f"Position{axis}") for axis in "ZYX"]
    place = np.unravel_index(np.argmax(stored), stored.shape)
    assert min(scale) > 0
    wanted = (affine @ [33, 7, 1, 1])[2::-1] * 1e3
    np.testing.assert_allclose(np.array(shift) + np.array(scale) * np.array(place), wanted, atol=1e-3)


@pytest.mark.slow
def test_a_mask_that_is_mirrored_against_its_input_is_refused(tmp_path: Path) -> None:
    affine = np.diag([-0.02, 0.02, 0.02, 1.0])
    pixels = values(1, 60, 50)
    nifti(tmp_path / "in.nii", pixels, affine)
    Image.fromarray(pixels[0] // 200).save(tmp_path / "mask.png")
    options: dict[str, Any] = {"method": "rational", "report": False, "progress": "none"}
    with pytest.raises(UsageError, match=r"fall along x in .*along no axis in the mask"):
        bigrestore.restore(
            tmp_path / "in.nii", tmp_path / "o.ome.zarr", mask=tmp_path / "mask.png", **options
        )
    nifti(tmp_path / "mask.nii", pixels // 200, affine)
    bigrestore.restore(tmp_path / "in.nii", tmp_path / "o.ome.zarr", mask=tmp_path / "mask.nii", **options)


# --- MINC, against h5py ---------------------------------------------------------------------------


def minc(path: Path, pixels: NDArray[Any], facts: dict[str, dict[str, Any]]) -> Path:
    """Write a MINC2 file of the axes zspace, yspace, xspace with attributes of each dimension."""
    with h5py.File(path, "w") as file:
        image = file.create_group("minc-2.0/image/0")
        data = image.create_dataset("image", data=pixels)
        data.attrs["dimorder"] = np.bytes_("zspace,yspace,xspace")
        image["image-min"], image["image-max"] = 0.0, 255.0
        for name, attributes in facts.items():
            dimension = file.create_dataset(f"minc-2.0/dimensions/{name}space", data=0)
            dimension.attrs.update({"units": np.bytes_("mm"), **attributes})
    return path


@pytest.mark.parametrize("signs", list(product((1, -1), repeat=3)), ids=str)
@pytest.mark.parametrize("cosines", [False, True], ids=["step", "cosines"])
def test_a_minc_step_of_any_sign_keeps_each_voxel_in_its_place(
    tmp_path: Path, signs: tuple[int, ...], cosines: bool
) -> None:
    pixels, sizes, starts = values(3, 20, 30), (0.04, 0.03, 0.02), (3.0, -2.0, 1.0)
    facts = {}
    for index, (axis, sign) in enumerate(zip("zyx", signs, strict=True)):
        facts[axis] = {"step": sizes[index] * sign, "start": starts[index]}
        if cosines:  # the same, said by a direction that points backwards
            direction = np.zeros(3)
            direction["xyz".index(axis)] = sign
            facts[axis] = {
                "step": sizes[index],
                "start": starts[index] * sign,
                "direction_cosines": direction,
            }
    section = open_section(minc(tmp_path / "a.mnc", pixels, facts))
    assert section.voxel_size_um == pytest.approx((40.0, 30.0, 20.0))
    z, y, x = section.shape
    with h5py.File(tmp_path / "a.mnc") as file:
        stored = file["minc-2.0/image/0/image"][...]
    for place in [(0, 0, 0), (z - 1, y - 1, x - 1), (1, 4, 7)]:
        there = tuple(
            n - 1 - i if sign < 0 else i for i, n, sign in zip(place, pixels.shape, signs, strict=True)
        )
        world = [starts[a] + signs[a] * sizes[a] * there[a] for a in range(3)]
        mine = [
            (section.translation_um[a] or 0) + (section.voxel_size_um[a] or 0) * place[a] for a in range(3)
        ]
        np.testing.assert_allclose(mine, np.array(world) * 1e3, atol=1e-6)
        assert section.read(place[0], place[1], place[1] + 1, place[2], place[2] + 1)[0, 0] == stored[there]


@pytest.mark.parametrize(
    ("unit", "size"),
    [("mm", 20.0), ("um", 0.02), ("microns", 0.02), ("cm", 200.0), ("MM\0", 20.0), ("furlong", None)],
)
def test_minc_units_by_other_names(tmp_path: Path, unit: str, size: float | None) -> None:
    facts = {axis: {"step": 0.02, "start": 1.0, "units": np.bytes_(unit)} for axis in "zyx"}
    section = open_section(minc(tmp_path / "a.mnc", values(3, 20, 30), facts))
    assert section.voxel_size_um[2] == (None if size is None else pytest.approx(size))


def test_a_rotated_minc_has_a_size_and_no_position(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    facts = {axis: {"step": 0.02, "start": 1.0} for axis in "zyx"}
    facts["x"]["direction_cosines"] = np.array([0.8, 0.6, 0.0])  # type: ignore[assignment]
    section = open_section(minc(tmp_path / "a.mnc", values(3, 20, 30), facts))
    assert section.translation_um[2] is None
    assert section.voxel_size_um[2] == pytest.approx(20.0)
    assert "is rotated" in caplog.text


# --- OME-Zarr, against zarr -----------------------------------------------------------------------


def ome_zarr(path: Path, levels: list[NDArray[Any]], transforms: list[Any], unit: str | None) -> Path:
    """Write an OME-Zarr 0.5 image with the transformations of each level."""
    group = zarr.create_group(path)
    datasets = []
    for index, (pixels, steps) in enumerate(zip(levels, transforms, strict=True)):
        group.create_array(str(index), data=pixels, chunks=(16,) * pixels.ndim)
        datasets.append({"path": str(index), **({"coordinateTransformations": steps} if steps else {})})
    axes = [
        {"name": name, "type": "space", **({"unit": unit} if unit else {})}
        for name in "zyx"[-levels[0].ndim :]
    ]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    return path


def step(scale: list[float], shift: list[float] | None = None) -> list[dict[str, Any]]:
    moved = [] if shift is None else [{"type": "translation", "translation": shift}]
    return [{"type": "scale", "scale": scale}, *moved]


@pytest.mark.parametrize("signs", list(product((1, -1), repeat=2)), ids=str)
@pytest.mark.parametrize("unit", ["millimeter", None])
def test_a_negative_scale_of_ome_zarr_keeps_each_voxel_in_its_place(
    tmp_path: Path, signs: tuple[int, int], unit: str | None
) -> None:
    fine = values(40, 60)
    sizes = np.array([0.02, 0.03]) * signs
    path = ome_zarr(
        tmp_path / "a",
        [fine, fine[::2, ::2]],
        [step([*sizes], [-5.0, 7.0]), step([*(sizes * 2)], [*([-5.0, 7.0] + sizes / 2)])],
        unit,
    )
    for level, stored in enumerate((fine, fine[::2, ::2])):
        section = open_section(path, level=level)
        np.testing.assert_array_equal(whole(section)[0], stored[:: signs[0], :: signs[1]])
        np.testing.assert_array_equal(
            section.read(0, 3, 9, 2, 20), stored[:: signs[0], :: signs[1]][3:9, 2:20]
        )
        if unit is None:
            assert section.voxel_size_um == section.translation_um == (None, None, None)
            continue
        factor = 2**level
        assert section.voxel_size_um[1:] == pytest.approx((20.0 * factor, 30.0 * factor))
        first = np.array([-5.0, 7.0]) + sizes * (factor - 1) / 2
        last = first + sizes * factor * (np.array(stored.shape) - 1)
        wanted = [min(a, b) * 1e3 for a, b in zip(first, last, strict=True)]
        assert section.translation_um[1:] == pytest.approx(wanted)


def test_a_turned_store_notices_the_chunk_that_changes(tmp_path: Path) -> None:
    path = ome_zarr(tmp_path / "a", [values(40, 60)], [step([-1.0, 1.0])], "micrometer")
    section = open_section(path)
    before = section.version(0, 30, 40, 0, 10), section.version(0, 0, 8, 0, 10)
    array: Any = zarr.open_array(path / "0", mode="r+")
    array[0, 0] = 77
    assert section.version(0, 30, 40, 0, 10) != before[0], "the chunk of stored row 0 is that of the last row"
    assert section.version(0, 0, 8, 0, 10) == before[1]


@pytest.mark.parametrize(
    "transforms",
    [None, [{"type": "translation", "translation": [5.0, 6.0]}], [{"type": "identity"}]],
    ids=["none", "translation", "identity"],
)
def test_a_unit_without_a_scale_is_no_size(tmp_path: Path, transforms: Any) -> None:
    path = ome_zarr(tmp_path / "a", [values(40, 60), values(20, 30)], [transforms] * 2, "micrometer")
    for level in (0, 1):
        section = open_section(path, level=level)
        assert section.voxel_size_um == section.translation_um == (None, None, None)
    assert "no scale" in section.details["voxel_size_from"]


def test_a_scale_of_the_whole_image_is_a_scale(tmp_path: Path) -> None:
    path = ome_zarr(tmp_path / "a", [values(40, 60)], [None], "micrometer")
    group: Any = zarr.open_group(path, mode="r+")
    ome = dict(group.attrs["ome"])
    ome["multiscales"][0]["coordinateTransformations"] = step([0.5, 0.25])
    group.attrs["ome"] = ome
    assert open_section(path).voxel_size_um == (None, 0.5, 0.25)


# --- units ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "um"),
    [
        *((name, 1.0) for name in ("um", "\u00b5m", "\u03bcm", "\\u00B5m", "micron", "Microns", "MICROMETER")),
        *((name, 1e-3) for name in ("nm", "nanometer", "NANOMETRE", "NM")),
        *((name, 1e3) for name in ("mm", "millimeter", b"mm\0", "MM", " mm ")),
        *((name, 25400.0) for name in ("inch", "inches", "in")),
        ("\u00c2\u00b5m", 1.0),
        ("\u212b", 1e-4),
        ("m", 1e6),
        ("cm", 1e4),
        ("Mm", None),
        ("pixel", None),
        ("furlong", None),
        (None, None),
        ("", None),
    ],
)  # fmt: skip
def test_a_unit_of_length_is_known_by_all_its_names(unit: Any, um: float | None) -> None:
    assert micrometres_per(unit, "x") == um


def test_an_unknown_unit_is_said_and_a_pixel_is_not(caplog: pytest.LogCaptureFixture) -> None:
    micrometres_per("pixels", "axis x")
    assert not caplog.text
    micrometres_per("furlong", "axis x")
    assert "axis x has the unit 'furlong'" in caplog.text


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"unit": "um", "zunit": "mm", "spacing": 0.02}, (20.0, 0.25, 0.5)),
        ({"unit": "\\u00B5m", "spacing": -3}, (3.0, 0.25, 0.5)),
        ({"unit": "micron", "yunit": "nm", "spacing": 3}, (3.0, 0.25e-3, 0.5)),
        ({"unit": "um", "zunit": "pixel", "spacing": 3}, (None, 0.25, 0.5)),
        ({"unit": "pixel", "zunit": "mm", "spacing": 0.02}, (20.0, None, None)),
        ({"unit": "inch", "spacing": 0.001}, (25.4, 6350.0, 12700.0)),
    ],
    ids=["zunit", "escaped", "yunit", "z-pixel", "x-pixel", "inch"],
)
def test_each_axis_of_imagej_has_its_own_unit(
    tmp_path: Path, metadata: dict[str, Any], expected: Any
) -> None:
    pixels = values(4, 60, 50)
    tifffile.imwrite(
        tmp_path / "a.tif", pixels, imagej=True, resolution=(2, 4), metadata={"axes": "ZYX", **metadata}
    )
    section = open_section(tmp_path / "a.tif")
    for mine, wanted in zip(section.voxel_size_um, expected, strict=True):
        assert mine == (None if wanted is None else pytest.approx(wanted))
    np.testing.assert_array_equal(whole(section), tifffile.imread(tmp_path / "a.tif"))


@pytest.mark.parametrize(
    ("unit", "um"),
    [("\u00b5m", 0.5), ("nm", 0.5e-3), ("mm", 500.0), ("in", 12700.0), ("Mm", None), ("pixel", None)],
)
def test_units_of_ome_xml(tmp_path: Path, unit: str, um: float | None) -> None:
    metadata = {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": unit}
    tifffile.imwrite(tmp_path / "a.ome.tif", values(60, 50), metadata=metadata)
    size = open_section(tmp_path / "a.ome.tif").voxel_size_um[2]
    assert size == (None if um is None else pytest.approx(um))


# --- resolutions and scanners ---------------------------------------------------------------------


@pytest.mark.parametrize("dpi", [72, 75, 96, 150, 300, 350])
@pytest.mark.parametrize("unit", [2, 3], ids=["inch", "centimetre"])
def test_what_programs_write_unmeasured_is_no_size_and_info_says_so(
    tmp_path: Path, dpi: int, unit: int
) -> None:
    per = dpi if unit == 2 else round(dpi / 2.54)
    tifffile.imwrite(
        tmp_path / "a.tif", values(60, 50), resolution=(per, per), resolutionunit=unit, metadata=None
    )
    section = open_section(tmp_path / "a.tif")
    assert section.voxel_size_um == (None, None, None)
    assert "without a measurement" in section.details["voxel_size_from"]


@pytest.mark.parametrize(
    ("dpi", "um"), [(400, 63.5), (600, 42.333), (1200, 21.1667), (2400, 10.5833), (25400, 1.0)]
)
def test_the_resolution_of_a_scanner_is_a_size(
    tmp_path: Path, dpi: int, um: float, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(values(60, 50)).save(tmp_path / "a.tif", dpi=(dpi, dpi))
    Image.fromarray(values(60, 50)).save(tmp_path / "a.png", dpi=(dpi, dpi))
    for name, part in (("a.tif", "the resolution tags"), ("a.png", "the header")):
        assert open_section(tmp_path / name).voxel_size_um[1:] == pytest.approx((um, um), rel=1e-3)
        assert call("info", tmp_path / name) == 0
        assert f"{part}, {dpi} dpi" in capsys.readouterr().out


def test_a_resolution_beyond_any_microscope_is_no_size() -> None:
    assert plausible_um(1e9, 25400.0) is None
    assert plausible_um(0.5, 25400.0) is None
    assert plausible_um(0, 25400.0) is None


def philips(*spacings: str) -> str:
    """Return the description of a Philips scanner, with one spacing for each level."""
    levels = "".join(
        '<DataObject ObjectType="PixelDataRepresentation">'
        f'<Attribute Name="DICOM_PIXEL_SPACING">{spacing}</Attribute></DataObject>'
        for spacing in spacings
    )
    scanned = f'<DataObject ObjectType="DPScannedImage"><Attribute Name="P"><Array>{levels}</Array></Attribute></DataObject>'
    return (
        '<?xml version="1.0"?><DataObject ObjectType="DPUfsImport"><Attribute Name="I"><Array>'
        f"{scanned}</Array></Attribute></DataObject>"
    )


@pytest.mark.parametrize(
    ("spacings", "expected"),
    [
        (('"0.00025" "0.00025"', '"0.0005" "0.0005"'), (0.25, 0.25)),
        (('"0.0005" "0.00052"', '"0.000227" "0.000226"'), (0.227, 0.226)),
        (('"2.5e-4" "2.5e-4"',), (0.25, 0.25)),
        (('"0" "0"',), (None, None)),
    ],
    ids=["finest-first", "finest-last", "exponent", "zero"],
)
def test_the_spacing_of_a_philips_scanner(tmp_path: Path, spacings: Any, expected: Any) -> None:
    pixels = values(64, 64, 3)
    with tifffile.TiffWriter(tmp_path / "a.tiff", bigtiff=True) as writer:
        writer.write(
            pixels,
            photometric="rgb",
            tile=(32, 32),
            description=philips(*spacings),
            software="Philips DP v1.0",
            metadata=None,
        )
    section = open_section(tmp_path / "a.tiff")
    assert section.voxel_size_um == (None, *map(pytest.approx, expected))
    np.testing.assert_array_equal(whole(section)[0], tifffile.imread(tmp_path / "a.tiff"))


# --- folders of sections --------------------------------------------------------------------------


def folder_of(path: Path, sizes: list[float | None]) -> Path:
    """Write a section for each pixel size."""
    path.mkdir()
    for index, um in enumerate(sizes):
        known: dict[str, Any] = (
            {} if um is None else {"resolution": (1e4 / um, 1e4 / um), "resolutionunit": 3}
        )
        tifffile.imwrite(path / f"s{index}.tif", values(40, 30, seed=index), metadata=None, **known)
    return path


@pytest.mark.parametrize("sizes", [[0.5, 0.5, 1.0], [2.0, 0.5], [0.5, None, 0.51]])
def test_a_folder_that_mixes_pixel_sizes_is_refused(tmp_path: Path, sizes: Any) -> None:
    with pytest.raises(InputError, match=r"s\d\.tif has pixels of [\d.]+ um and s\d\.tif of .* um"):
        open_section(folder_of(tmp_path / "vol", sizes))


def test_a_folder_of_which_one_file_states_no_size_has_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    section = open_section(folder_of(tmp_path / "vol", [0.5, None, 0.5]))
    assert section.voxel_size_um == (None, None, None)
    assert "s1.tif" in caplog.text
    assert "not every section" in section.details["voxel_size_from"]
    assert open_section(folder_of(tmp_path / "same", [0.5, 0.5001])).voxel_size_um == (None, 0.5, 0.5)


@pytest.mark.parametrize(
    ("numbers", "size", "start"),
    [
        ((1, 2, 3), 20.0, -70010.0),
        ((1, 3, 5), 40.0, -70010.0),
        ((1, 2, 9), None, -70010.0),
        ((7,), 20.0, -69890.0),
    ],
)
def test_the_distance_of_sections_is_that_of_their_positions(
    tmp_path: Path, numbers: tuple[int, ...], size: float | None, start: float
) -> None:
    for number in numbers:
        facts = {axis: {"step": 0.02, "start": 0.0} for axis in "zyx"}
        path = minc(tmp_path / f"pm{number:04d}o.mnc", values(40, 1, 30), facts)
        with h5py.File(path, "r+") as file:
            file["minc-2.0/image/0/image"].attrs["dimorder"] = np.bytes_("zspace,yspace,xspace")
    section = open_section(tmp_path)
    assert section.voxel_size_um[0] == (None if size is None else pytest.approx(size))
    assert section.translation_um[0] == pytest.approx(start)


def test_sections_that_are_numbered_against_their_positions_are_turned_round(tmp_path: Path) -> None:
    pixels = values(3, 40, 30)
    for index in range(3):
        affine = np.diag([0.02, 0.02, 0.05, 1.0])
        affine[2, 3] = 9 - index * 0.05
        nifti(tmp_path / f"s{index}.nii", pixels[index : index + 1], affine)
    section = open_section(tmp_path)
    np.testing.assert_array_equal(whole(section), pixels[::-1])
    assert section.voxel_size_um[0] == pytest.approx(50.0, rel=1e-4)
    assert section.translation_um[0] == pytest.approx(8900.0)


def test_sections_that_begin_at_different_places_have_no_common_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for index in range(3):
        affine = np.diag([0.02, 0.02, 0.05, 1.0])
        affine[:3, 3] = 1 + 0.5 * index, 2, index * 0.05
        nifti(tmp_path / f"s{index}.nii", values(1, 40, 30), affine)
    with caplog.at_level(logging.WARNING):
        section = open_section(tmp_path)
    assert section.translation_um == pytest.approx((0.0, 2000.0, None))
    assert "different places along x" in caplog.text


def test_a_coarser_level_of_a_volume_keeps_its_own_start(tmp_path: Path) -> None:
    pixels = values(2, 64, 64)
    for z in range(2):
        with tifffile.TiffWriter(tmp_path / f"s{z}.tif") as writer:
            fine: dict[str, Any] = {"resolution": (1e4, 1e4), "resolutionunit": 3, "metadata": None}
            writer.write(pixels[z], subifds=1, **fine)
            writer.write(pixels[z, ::2, ::2], subfiletype=1, metadata=None)
    section = open_section(tmp_path, level=1)
    assert section.voxel_size_um == (None, 2.0, 2.0)
    assert section.translation_um == (None, 0.5, 0.5)

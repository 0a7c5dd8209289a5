"""What is taken for an image, what is refused and how, and what a labelled array keeps."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest

import bigrestore
from bigrestore.errors import UsageError

QUICK: dict[str, Any] = {"method": "rational", "progress": "none"}
GREY = np.random.default_rng(0).integers(0, 256, (64, 48), np.uint8)
LAZY = da.from_array(GREY, chunks=30)  # type: ignore[no-untyped-call]

SHAPES = "and (y, x), (z, y, x) or (y, x, 3) of colour is restored; give"
REFUSED: dict[str, tuple[Any, str]] = {
    "four axes": (GREY[None, None], f"(1, 1, 64, 48), {SHAPES} one section at a time, such as array[0]."),
    "one axis": (GREY[0], f"the shape (48,), {SHAPES} two axes at least."),
    "no pixels": (GREY[:0], "has no pixels (shape (0, 48)); give an image that has some."),
    "bool": (GREY > 9, "holds bool pixels, but only uint8, uint16 and float32 are read: a mask cannot be"),
    "int64": (
        GREY.astype(int),
        "holds int64 pixels, but only uint8, uint16 and float32 are read: convert it",
    ),
    "complex": (GREY.astype(complex), "holds complex128 pixels"),
    "text": (GREY.astype(str), "convert it to uint8, uint16 or float32."),
    "objects": (GREY.astype(object), "holds object pixels"),
    "alpha": (
        np.dstack([GREY] * 4),
        "(64, 48, 4) in uint8, which is 4 channel(s); give colour without its alpha",
    ),
    "colour of floats": (
        np.dstack([GREY / 255.0] * 3),
        "colour is restored in uint8 or uint16, so convert it",
    ),
    "one channel": (GREY[..., None], "give one of its channels, such as array[..., 0]."),
    "a mask": (np.ma.masked_less(GREY, 9), "made of MaskedArray, which is more than pixels"),
    "a mask of dask": (da.ma.masked_less(LAZY, 9), "made of MaskedArray, which is more than pixels"),
    "no shape": (
        LAZY[LAZY[:, 0] > 9],
        "a shape that dask does not know; call its compute_chunk_sizes() first.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_array_that_is_no_image_is_refused_in_one_sentence(name: str) -> None:
    array, says = REFUSED[name]
    with pytest.raises(UsageError) as info:
        bigrestore.restore(array, **QUICK)
    sentence = str(info.value)
    assert sentence.startswith("The array ")
    assert says in sentence
    assert sentence.endswith(".")


CALLS: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "no array": ((3.5,), {}, "of the type float; give a path, or an array of NumPy, dask or xarray."),
    "nothing": ((None,), {}, "of the type NoneType; give a path, or an array"),
    "several": (
        ([GREY, GREY],),
        {},
        "is 2 arrays; restore one after the other, or all as a volume by numpy.stack.",
    ),
    "no output": (("section.png",), {}, "restored into an output; name one, such as 'restored.ome.zarr'."),
    "an output": (
        (GREY, "out.ome.zarr"),
        {},
        "is 'out.ome.zarr', but an array is returned as an array; leave it out",
    ),
    "details of files": (("a.png", "b.ome.zarr"), {"details": True}, "details is for an array; leave it out"),
    "resume": ((GREY,), {"resume": True}, "resume is for files, and the input is an array; leave it out."),
    "fail_if": ((GREY,), {"fail_if": "niqe.median > 3"}, "fail_if is for files"),
    "level": ((GREY,), {"level": 1}, "level is for files"),
    "report": ((GREY,), {"report": True}, "give details=True instead of report=True."),
    "two sizes": ((GREY,), {"voxel_size": 1, "voxel_size_um": 2}, "are the same; give one of them."),
    "maps": (
        (GREY,),
        {"maps": "residual"},
        "maps needs a network, and method rational is none; leave it out.",
    ),
    "roi": ((GREY,), {"roi": "0:99,0:20"}, "roi ends at z 1, y 99, x 20, but the output has"),
}


@pytest.mark.parametrize("name", CALLS)
def test_arguments_that_do_not_go_together_are_refused(name: str) -> None:
    arguments, settings, says = CALLS[name]
    restore: Any = bigrestore.restore
    with pytest.raises(UsageError) as info:
        restore(*arguments, **settings, **QUICK)
    assert says in str(info.value)


@pytest.mark.parametrize("shape", [(1, 1), (1, 64, 48), (5, 4, 3), (7, 1)])
def test_small_and_flat_shapes_keep_their_axes(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    assert bigrestore.restore(array, **QUICK).shape == shape
    assert bigrestore.restore(array, scale=2, **QUICK).shape == (*shape[:-2], 2 * shape[-2], 2 * shape[-1])


def coordinates(height: int, width: int) -> dict[str, Any]:
    return {
        "y": ("y", 100.0 + 10.0 * np.arange(height), {"units": "um"}),
        "x": ("x", np.arange(width)),
        "row": ("y", [f"r{at}" for at in range(height)]),
        "lit": (("y", "x"), np.ones((height, width))),
        "stain": ((), "Nissl"),
    }


@pytest.mark.parametrize("lazy", [False, True])
def test_a_labelled_array_keeps_dims_coordinates_name_and_attrs(labelled: Any, lazy: bool) -> None:
    pixels = LAZY if lazy else GREY
    array = labelled(pixels, dims=("y", "x"), coords=coordinates(64, 48), name="slide", attrs={"by": "me"})
    restored = bigrestore.restore(array, **QUICK)
    assert isinstance(restored, labelled)
    assert isinstance(restored.data, da.Array if lazy else np.ndarray)
    assert (restored.dims, restored.name, restored.attrs) == (("y", "x"), "slide", {"by": "me"})
    assert set(restored.coords) == {"y", "x", "row", "lit", "stain"}
    for name in array.coords:
        np.testing.assert_array_equal(restored.coords[name].values, array.coords[name].values)
    np.testing.assert_array_equal(np.asarray(restored.data), bigrestore.restore(GREY, **QUICK))


@pytest.mark.parametrize("scale", [2, 4])
def test_coordinates_of_an_enlarged_array_are_those_of_its_pixels_centres(labelled: Any, scale: int) -> None:
    array = labelled(GREY, dims=("y", "x"), coords=coordinates(64, 48))
    restored = bigrestore.restore(array, scale=scale, **QUICK)
    assert set(restored.coords) == {"y", "x", "stain"}
    for name in ("y", "x"):
        means = restored.coords[name].values.reshape(-1, scale).mean(axis=1)
        np.testing.assert_allclose(means, array.coords[name].values, rtol=1e-12)
        steps = np.diff(restored.coords[name].values)
        np.testing.assert_allclose(steps, (10.0 if name == "y" else 1.0) / scale)
    assert restored.coords["y"].attrs == {"units": "um"}


def test_coordinates_of_a_region_are_those_of_the_whole_there(labelled: Any) -> None:
    array = labelled(GREY, dims=("y", "x"), coords=coordinates(64, 48))
    whole = bigrestore.restore(array, scale=2, **QUICK)
    part = bigrestore.restore(array, scale=2, roi="10:50,20:80", **QUICK)
    np.testing.assert_array_equal(part.coords["y"].values, whole.coords["y"].values[10:50])
    np.testing.assert_array_equal(part.coords["x"].values, whole.coords["x"].values[20:80])
    cut = bigrestore.restore(array, roi="10:50,20:40", **QUICK)
    assert cut.coords["row"].values[0] == "r10"
    assert cut.coords["lit"].values.shape == (40, 20)


def test_volumes_and_colour_are_told_by_their_dims(labelled: Any) -> None:
    narrow = np.random.default_rng(2).integers(0, 256, (6, 30, 3), np.uint8)
    volume = labelled(narrow, dims=("z", "y", "x"), coords={"z": ("z", [5, 7, 8, 9, 11, 12])})
    restored = bigrestore.restore(volume, scale=2, **QUICK)
    assert restored.data.shape == (6, 60, 6), "a narrow volume is no colour"
    assert list(restored.coords["z"].values) == [5, 7, 8, 9, 11, 12]
    colour = labelled(np.dstack([GREY] * 3), dims=("y", "x", "band"), coords={"band": ("band", list("rgb"))})
    assert bigrestore.restore(colour, scale=2, **QUICK).data.shape == (128, 96, 3)


@pytest.mark.parametrize(
    ("shape", "dims", "says"),
    [
        ((64, 48), ("x", "y"), "bring them into order by array.transpose('y', 'x')."),
        ((3, 64, 48), ("c", "y", "x"), "bring them into order by array.transpose('y', 'x', 'c')."),
        ((5, 64, 48), ("z", "z2", "x"), None),
        ((5, 64, 48), ("z", "y", "c"), "give it one section or channel at a time, such as by isel."),
    ],
)
def test_dims_in_another_order_are_refused_with_the_order(
    labelled: Any, shape: tuple[int, ...], dims: tuple[str, ...], says: str | None
) -> None:
    array = labelled(np.zeros(shape, np.uint8) + 100, dims=dims)
    if says is None:  # names that mean nothing here: by position
        assert bigrestore.restore(array, **QUICK).dims == dims
        return
    with pytest.raises(UsageError) as info:
        bigrestore.restore(array, **QUICK)
    assert str(info.value).startswith(f"The array has the dims {dims}")
    assert says in str(info.value)


def test_a_map_of_a_labelled_array_has_its_place_without_its_channels(labelled: Any) -> None:
    colour = labelled(
        np.dstack([GREY] * 3),
        dims=("y", "x", "c"),
        coords={"c": ("c", list("rgb")), "y": ("y", np.arange(64))},
    )
    result = bigrestore.restore(colour, maps="residual", report=False, progress="none")
    assert result.image.dims == ("y", "x", "c")
    residual = result.maps["residual"]
    assert (residual.dims, residual.name, residual.data.dtype) == (("y", "x"), "residual", np.float32)
    assert set(residual.coords) == {"y"}

"""Networks as ONNX files: layouts and sizes, what is refused, and that no cut is seen, by whomever it is restored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import zarr

import bigrestore
from bigrestore.errors import BigrestoreError, ModelError, ModelScaleError, UsageError
from bigrestore.model.nets.foreign.load import load_foreign
from bigrestore.model.nets.foreign.network import ForeignNetwork
from tests.methods.onnx_networks import BYTE, FLOAT, FREE, HALF, Shape, node, pooled, saved

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def loaded(path: Path, scale: int = 1) -> ForeignNetwork:
    return load_foreign(path, scale, torch.device("cpu"), "auto")


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize(
    "given",
    [
        (1, 1, 64, 64),
        (1, 3, 64, 64),
        ("n", 1, "h", "w"),
        ("n", 3, 96, "w"),
        (1, 5, 1, 64, 64),
        ("n", "t", 3, "h", "w"),
        ("n", 3, 3, "h", "w"),
    ],
    ids=str,
)
def test_every_layout_is_run_as_onnxruntime_runs_it(tmp_path: Path, given: Shape, scale: int) -> None:
    import onnxruntime

    path = pooled(tmp_path / "net.onnx", given, scale)
    network = loaded(path, scale)
    fixed = [size for size in given[-2:] if isinstance(size, int)]
    assert network.side_px == (fixed[0] if fixed else 256)
    assert (network.scale, network.channels, network.architecture) == (scale, given[-3], "ONNX")
    side, channels = network.side_px, network.channels
    image = np.random.default_rng(1).random((1, channels, side, side), np.float32)
    frames = given[1] if isinstance(given[1], int) else 1
    taken = np.repeat(image[:, None], frames, axis=1) if len(given) == 5 else image
    (wanted,) = onnxruntime.InferenceSession(path.read_bytes()).run(None, {"x": taken})
    made = network.run(torch.from_numpy(image), torch.zeros(1, 1, side, side))
    assert made.shape == (1, channels, scale * side, scale * side)
    np.testing.assert_allclose(made.numpy(), wanted, rtol=1e-5, atol=1e-6)


def test_of_frames_the_middle_one_counts(tmp_path: Path) -> None:
    steps = np.arange(5, dtype=np.float32).reshape(1, 5, 1, 1, 1)
    path = saved(
        tmp_path / "net.onnx", (1, 5, 1, 64, 64), [node("Add", ["x", "steps"], "y")], {"steps": steps}
    )
    made = loaded(path).run(torch.zeros(1, 1, 64, 64), torch.zeros(1, 1, 64, 64))
    assert bool((made == 2).all())


def test_half_precision_in_the_file(tmp_path: Path) -> None:
    nodes, weights = [node("Mul", ["x", "half"], "y")], {"half": np.float16(0.5)}
    path = saved(tmp_path / "net.onnx", (1, 1, 64, 64), nodes, weights, kind=HALF)
    made = loaded(path).run(torch.full((1, 1, 64, 64), 0.5), torch.zeros(1, 1, 64, 64))
    assert made.dtype == torch.float32
    assert bool((made == 0.25).all())


def repeated(path: Path, times: tuple[int, int]) -> Path:
    """Write a network that repeats pixels along y and x."""
    weights = {"scales": np.array([1, 1, *times], np.float32)}
    return saved(path, FREE, [node("Resize", ["x", "", "scales"], "y", mode="nearest")], weights)


def plain(path: Path, given: Shape = FREE, **options: Any) -> Path:
    return saved(path, given, [node("Identity", ["x"], "y")], {}, **options)


def outside(path: Path) -> Path:
    """Write a network whose weights lie in a file beside it."""
    tensor = onnx.TensorProto(name="w", data_type=FLOAT, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "weights.bin"
    (path.parent / "weights.bin").write_bytes(np.float32(2).tobytes())
    path = saved(path, FREE, [node("Mul", ["x", "w"], "y")], {})
    model = onnx.load_model_from_string(path.read_bytes())
    model.graph.initializer.append(tensor)
    path.write_bytes(model.SerializeToString())
    return path


def foreign_operator(path: Path) -> Path:
    nodes = [node("Warp", ["x"], "y", domain="com.example")]
    return saved(path, FREE, nodes, {}, domains=[onnx.helper.make_opsetid("com.example", 1)])


def two_outputs(path: Path) -> Path:
    nodes = [node("Identity", ["x"], "y"), node("Identity", ["x"], "z")]
    return saved(path, FREE, nodes, {}, outputs=["y", "z"])


def random_noise(path: Path) -> Path:
    nodes = [node("RandomNormalLike", ["x"], "noise"), node("Add", ["x", "noise"], "y")]
    return saved(path, FREE, nodes, {})


def one_channel_of_three(path: Path) -> Path:
    weights = {"taps": np.ones((2, 3, 1, 1), np.float32)}
    return saved(path, ("n", 3, "h", "w"), [node("Conv", ["x", "taps"], "y")], weights)


REFUSALS: dict[str, tuple[Any, type[BigrestoreError], str]] = {
    "x3": (
        lambda path: repeated(path, (3, 3)),
        UsageError,
        "restores at x3; bigrestore enlarges by 1, 2 or 4",
    ),
    "x2": (
        lambda path: repeated(path, (2, 2)),
        ModelScaleError,
        "restores at x2, and --scale is 1; give --scale 2",
    ),
    "x1 x2": (lambda path: repeated(path, (1, 2)), ModelError, "makes 256 x 512 pixels of a square"),
    "other files": (outside, ModelError, "keeps weights in other files; export it as one file"),
    "operator": (
        foreign_operator,
        ModelError,
        "has operators of its own .*Warp.*; export it with those of ONNX",
    ),
    "outputs": (
        two_outputs,
        ModelError,
        "has 1 inputs and 2 outputs; export it with one image in and one out",
    ),
    "inputs": (
        lambda path: saved(path, FREE, [node("Add", ["x", "z"], "y")], {}, inputs=["x", "z"]),
        ModelError,
        "has 2 inputs and 1 outputs",
    ),
    "bytes": (
        lambda path: plain(path, kind=BYTE),
        ModelError,
        r"takes tensor\(uint8\) and gives tensor\(uint8\)",
    ),
    "rank": (
        lambda path: plain(path, (1, "h", "w")),
        ModelError,
        r"takes \(1, h, w\); export it for \(N, C, H, W\)",
    ),
    "batch": (lambda path: plain(path, (8, 1, "h", "w")), ModelError, r"takes \(8, 1, h, w\); export it for"),
    "channels": (lambda path: plain(path, (1, 4, "h", "w")), ModelError, "export it for 1 or 3 channels"),
    "free channels": (
        lambda path: plain(path, (1, "c", "h", "w")),
        ModelError,
        "export it for 1 or 3 channels",
    ),
    "channels out": (
        one_channel_of_three,
        UsageError,
        "makes 2 channels of 3; bigrestore runs networks of 1 or 3",
    ),
    "oblong": (
        lambda path: plain(path, (1, 1, 64, 96)),
        ModelError,
        "free size, or a square of 32 to 960 pixels",
    ),
    "odd side": (lambda path: plain(path, (1, 1, 100, 100)), ModelError, "a multiple of 8"),
    "huge": (lambda path: plain(path, (1, 1, 2048, 2048)), ModelError, "a square of 32 to 960"),
    "random": (random_noise, ModelError, "draws random numbers; export it without them"),
    "damaged": (lambda path: path.write_bytes(b"weights"), ModelError, "is damaged or no ONNX file"),
    "empty": (lambda path: path.write_bytes(b""), ModelError, "is damaged or no ONNX file"),
    "fails": (
        lambda path: saved(
            path, FREE, [node("Add", ["x", "w"], "y")], {"w": np.zeros((1, 1, 7, 7), np.float32)}
        ),
        ModelError,
        "fails on a window of 256 x 256 pixels",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_used_is_refused_in_a_sentence(
    tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    make, kind, sentence = REFUSALS[case]
    monkeypatch.chdir(tmp_path)  # where weights of other files would be found
    make(tmp_path / "net.onnx")
    with pytest.raises(kind, match=sentence) as error:
        loaded(tmp_path / "net.onnx")
    assert str(tmp_path / "net.onnx") in str(error.value)
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_its_precision_is_its_own(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="--precision is bf16, and an ONNX file computes in its own; leave it out"
    ):
        load_foreign(plain(tmp_path / "net.onnx"), 1, torch.device("cpu"), "bf16")


def test_onnxruntime_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError, match=r"onnxruntime is not installed; pip install '\S+\[external\]'"):
        loaded(plain(tmp_path / "net.onnx"))


@pytest.mark.parametrize(
    ("scale", "given"), [(1, (1, 1, 64, 64)), (2, (1, 1, 64, 64)), (1, ("n", 3, 64, "w"))]
)
def test_no_cut_is_seen_of_a_network_that_pools_over_all_it_sees(
    tmp_path: Path, tissue: np.ndarray, scale: int, given: Shape
) -> None:
    source = tmp_path / "section.tif"
    tifffile.imwrite(source, np.rint(tissue[:200, :230] * 65535).astype(np.uint16), photometric="minisblack")
    path = pooled(tmp_path / "net.onnx", given, scale)
    whole = restored(source, tmp_path / "whole.zarr", model=path, scale=scale, tile_size=960)
    given_pixels = np.kron(tifffile.imread(source).astype(int), np.ones((scale, scale), int))
    assert np.abs(whole - given_pixels).mean() > 10, "something is done"
    for size in (96, 144):
        cut = restored(source, tmp_path / f"{size}.zarr", model=path, scale=scale, tile_size=size * scale)
        np.testing.assert_array_equal(cut, whole)
    region = restored(source, tmp_path / "region.zarr", model=path, scale=scale, roi="60:170,100:190")
    np.testing.assert_array_equal(region, whole[60:170, 100:190])


def test_no_cut_is_seen_at_damage(tmp_path: Path, tissue: np.ndarray) -> None:
    """It lies where a tile begins to be read, so that what is around it is not seen by all tiles."""
    source, mask = tmp_path / "section.tif", np.ones((150, 170), np.uint8)
    tifffile.imwrite(source, np.rint(tissue[:150, :170] * 65535).astype(np.uint16), photometric="minisblack")
    mask[50:54] = mask[:, 50:54] = 2
    tifffile.imwrite(tmp_path / "mask.tif", mask, photometric="minisblack")
    path = pooled(tmp_path / "net.onnx", (1, 1, 64, 64))
    whole, cut = (
        restored(
            source, tmp_path / f"{size}.zarr", model=path, tile_size=size, mask=str(tmp_path / "mask.tif")
        )
        for size in (960, 96)
    )
    np.testing.assert_array_equal(whole, cut)


@pytest.mark.usefixtures("warm_children")
@pytest.mark.slow
def test_two_workers_give_the_same(tmp_path: Path, tissue: np.ndarray) -> None:
    source = tmp_path / "section.tif"
    tifffile.imwrite(source, np.rint(tissue * 65535).astype(np.uint16), photometric="minisblack")
    settings = {
        "model": pooled(tmp_path / "net.onnx", (1, 3, 128, 128)),
        "block_size": 480,
    }
    one = restored(source, tmp_path / "one.zarr", **settings)
    two = restored(source, tmp_path / "two.zarr", workers=2, threads=1, **settings)
    np.testing.assert_array_equal(one, two)


def restored(source: Path, output: Path, **settings: Any) -> np.ndarray:
    told = {"blur": (0.8, 0.8, 0.0), "noise": 2.0, "report": False, "progress": "none"}
    settings = {"mask": "none", **settings}
    bigrestore.restore(source, output, method="external", **told, **settings)
    pixels: np.ndarray = zarr.open_array(output, path="0", mode="r")[:]
    return pixels.reshape(pixels.shape[-2:]).astype(int)

"""What the viewer's server sends: the pixels of the images, each in its place, and nothing else of this machine."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import tifffile
import zarr
from numpy.typing import NDArray
from PIL import Image

from bigrestore.errors import InputError, InputMissingError, UsageError
from bigrestore.io.formats.table import open_input
from bigrestore.io.store.ome_zarr import create_store, finish_store, open_level, write_block
from bigrestore.io.store.pack import pack_store
from bigrestore.io.store.pyramid import build_pyramid
from bigrestore.io.store.store_spec import StoreSpec
from bigrestore.io.store.tiff import write_pyramidal_tiff
from bigrestore.io.viewer import images as images_module
from bigrestore.io.viewer.images import ShownImage, shown_images
from bigrestore.io.viewer.page import page_state, store_file
from bigrestore.io.viewer.server import serving_page

CLIENT = {"index.html": b"<!doctype html>page", "main.js": b"run()", "part.wasm": b"\0asm"}


def values(shape: tuple[int, ...], dtype: Any = np.uint8) -> NDArray[Any]:
    numbers = np.random.default_rng(0).random(shape)
    return (numbers * (1 if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max)).astype(dtype)


def save_output(
    path: Path, pixels: NDArray[Any], stated: dict[str, Any] | None = None, **facts: Any
) -> StoreSpec:
    """Write (z, y, x[, c]) pixels as a run does, with what it says of itself."""
    spec = StoreSpec(pixels.shape[:3], pixels.dtype, channels=3 if pixels.ndim == 4 else 1, **facts)
    create_store(path, spec)
    for z, plane in enumerate(pixels):
        write_block(open_level(path, 0), z, 0, 0, plane)
    build_pyramid(path, spec)
    high = 1.0 if spec.dtype.kind == "f" else float(np.iinfo(spec.dtype).max)
    finish_store(path, spec, (0.0, high), stated or {"version": "0"})
    return spec


def save_maps(path: Path, **maps: NDArray[Any]) -> None:
    """Write maps into a store, each with a window of its own."""
    zarr.create_group(path / "maps")
    for number, (name, pixels) in enumerate(maps.items(), start=1):
        save_output(path / "maps" / name, pixels)
        spec = StoreSpec(pixels.shape[:3], pixels.dtype)
        finish_store(path / "maps" / name, spec, (0.0, number / 8), {"map": name}, channel=name)


class Visitor:
    """A browser of the page, as far as it asks for files."""

    def __init__(self, address: str) -> None:
        self.place = urlsplit(address)
        self.root = self.place.path
        self.token = self.root.strip("/")

    def ask(
        self, path: str, *, method: str = "GET", host: str | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        assert self.place.port is not None
        connection = http.client.HTTPConnection("127.0.0.1", self.place.port, timeout=20)
        connection.putrequest(method, path, skip_host=True)
        connection.putheader("Host", self.place.netloc if host is None else host)
        connection.endheaders()
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, dict(answer.getheaders()), content

    def get(self, name: str) -> bytes:
        status, _, content = self.ask(self.root + name)
        assert status == 200
        return content


@pytest.fixture
def client(tmp_path: Path) -> dict[str, Path]:
    folder = tmp_path / "client"
    folder.mkdir()
    for name, content in CLIENT.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in CLIENT}


@pytest.fixture
def visitor(tmp_path: Path, client: dict[str, Path]) -> Iterator[Visitor]:
    save_output(tmp_path / "o.ome.zarr", values((1, 500, 300)))
    with serving_page(shown_images(str(tmp_path / "o.ome.zarr")), "o", client) as address:
        yield Visitor(address)


def whole(read: Any, level: int, shape: tuple[int, ...], chunk: tuple[int, ...]) -> NDArray[Any]:
    """Put a level together from the chunks that a server sends."""
    facts = json.loads(read(f"{level}/zarr.json"))
    assert tuple(facts["shape"]) == shape
    assert tuple(facts["chunk_grid"]["configuration"]["chunk_shape"]) == chunk
    counts = [-(-n // step) for n, step in zip(shape, chunk, strict=True)]
    pixels = np.zeros([n * step for n, step in zip(counts, chunk, strict=True)], facts["data_type"])
    for place in np.ndindex(*counts):
        content = read(f"{level}/c/{'/'.join(map(str, place))}")
        key = tuple(slice(at * step, (at + 1) * step) for at, step in zip(place, chunk, strict=True))
        pixels[key] = np.frombuffer(content, pixels.dtype).reshape(chunk)
    return pixels[tuple(slice(0, n) for n in shape)]


KINDS = [
    pytest.param((1, 501, 607), np.uint8, "", id="grey"),
    pytest.param((1, 501, 607, 3), np.uint8, "", id="colour"),
    pytest.param((3, 61, 500), np.uint16, "", id="volume"),
    pytest.param((2, 61, 500, 3), np.uint16, "", id="volume-colour"),
    pytest.param((1, 501, 77), np.float32, "", id="float"),
    pytest.param((1, 501, 77), np.uint16, ".zip", id="zip"),
    pytest.param((1, 1203, 77, 3), np.uint8, ".tif", id="tiff-colour"),
]


@pytest.mark.parametrize(("shape", "dtype", "ending"), KINDS)
def test_every_level_is_sent_as_it_is_stored(
    tmp_path: Path, client: dict[str, Path], shape: tuple[int, ...], dtype: Any, ending: str
) -> None:
    pixels = values(shape, dtype)
    place, output = tmp_path / "o.ome.zarr", tmp_path / f"o.ome.zarr{ending}"
    spec = save_output(place, pixels, is_volume=shape[0] > 1)
    if ending == ".zip":
        pack_store(place, output)
    if ending == ".tif":
        write_pyramidal_tiff(place, output, spec, {})
    with serving_page(shown_images(str(output)), "o", client) as address:
        visitor = Visitor(address)
        stated = json.loads(visitor.get("after/zarr.json"))["attributes"]["ome"]["multiscales"][0]
        stored = open_input(output).levels
        assert [entry["path"] for entry in stated["datasets"]] == [str(n) for n in range(len(stored))]
        for number, level in enumerate(stored):
            planes = np.stack(
                [level.read(z, 0, level.shape[1], 0, level.shape[2]) for z in range(level.shape[0])]
            )
            wanted = np.moveaxis(planes, -1, 0) if pixels.ndim == 4 else planes
            if shape[0] == 1:
                wanted = wanted[..., 0, :, :]
            chunk = ((3,) if pixels.ndim == 4 else ()) + ((1,) if shape[0] > 1 else ()) + (480, 480)
            sent = whole(lambda name: visitor.get(f"after/{name}"), number, wanted.shape, chunk)
            np.testing.assert_array_equal(sent, wanted)


def test_only_browsers_of_this_machine_are_answered(visitor: Visitor) -> None:
    place = f"{visitor.root}after/zarr.json"
    port = visitor.place.port
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", "localhost:9000", "LOCALHOST"):
        assert visitor.ask(place, host=host)[0] == 200
    others = (
        "evil.example",
        f"evil.example:{port}",
        f"127.0.0.1.evil.example:{port}",
        "evil@localhost",
        "[",
        "",
    )
    for host in others:
        status, _, content = visitor.ask(place, host=host)
        assert status == 403
        assert b"multiscales" not in content
    assert port is not None
    own = socket.gethostbyname_ex(socket.gethostname())[2]
    for address in ("127.0.0.2", *(one for one in own if not one.startswith("127."))):
        with pytest.raises(OSError, match="refused"):
            socket.create_connection((address, port), timeout=5).close()


def test_no_path_of_a_request_reaches_the_disk(visitor: Visitor, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    for path in (
        "/",
        "/after/zarr.json",
        f"/{visitor.token[:-1]}/after/zarr.json",
        f"{visitor.root}../secret.txt",
        f"{visitor.root}after/../../secret.txt",
        f"{visitor.root}after/%2e%2e/secret.txt",
        f"{visitor.root}after//etc/passwd",
        f"{visitor.root}after/0/c/0/../0",
        f"{visitor.root}after/0/c/-1/0",
        f"{visitor.root}after/0/c/0",
        f"{visitor.root}after/0/c/2/0",
        f"{visitor.root}after/9/zarr.json",
        f"{visitor.root}before/zarr.json",
        f"/v/{visitor.token}/../secret.txt",
        f"/v/{visitor.token}/..%2fsecret.txt",
        f"/v/{visitor.token}//etc/passwd",
        f"/v/{visitor.token}{tmp_path}/secret.txt",
        "/v/other/index.html",
        "/events/other",
        f"http://evil.example{visitor.root}../secret.txt",
    ):
        status, _, content = visitor.ask(path)
        assert status == 404, path
        assert content == b"There is nothing here."
    assert visitor.ask(visitor.root, method="POST")[0] == 501
    assert visitor.ask(visitor.root, method="DELETE")[0] == 501


def test_the_page_is_led_to_and_its_files_are_sent(visitor: Visitor) -> None:
    status, headers, _ = visitor.ask(visitor.root, host="localhost:77")
    state = f"http://localhost:77{visitor.root}state.json"
    assert (status, headers["Location"]) == (302, f"/v/{visitor.token}/#!{state}")
    for name, kind in (("", "text/html"), ("main.js", "text/javascript"), ("part.wasm", "application/wasm")):
        status, headers, content = visitor.ask(f"/v/{visitor.token}/{name}")
        assert (status, headers["Content-Type"]) == (200, kind)
        assert content == CLIENT[name or "index.html"]
        assert "Access-Control-Allow-Origin" not in headers
    status, headers, content = visitor.ask(f"/v/{visitor.token}/main.js", method="HEAD")
    assert (status, headers["Content-Length"], content) == (200, "5", b"")
    assert json.loads(visitor.get("state.json"))["layers"][0]["source"].startswith(
        f"http://{visitor.place.netloc}/"
    )


def test_a_port_in_use_is_said(visitor: Visitor, client: dict[str, Path]) -> None:
    assert visitor.place.port is not None
    with (
        pytest.raises(UsageError, match=rf"--port is {visitor.place.port}, which cannot be used \(Address"),
        serving_page([], "o", client, visitor.place.port),
    ):
        pass


def test_a_damaged_chunk_is_missing_and_the_rest_is_shown(
    tmp_path: Path, client: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    save_output(tmp_path / "o.zarr", values((1, 500, 900)), shard_px=480)
    (tmp_path / "o.zarr/0/c/0/1").write_bytes(b"damaged")
    with serving_page(shown_images(str(tmp_path / "o.zarr")), "o", client) as address:
        visitor = Visitor(address)
        assert visitor.ask(f"{visitor.root}after/0/c/0/1")[0] == 500
        assert visitor.get("after/0/c/0/0")
    assert "after cannot be shown at 0/c/0/1 (" in caplog.text


# --- what is shown, and where ----------------------------------------------------------------------


def corner(image: ShownImage, level: int = 0) -> tuple[list[float], list[float]]:
    """Return where the first pixel's corner lies, and the size of a pixel, (y, x)."""
    shown = image.levels[level]
    return (
        [start - size / 2 for start, size in zip(shown.start[1:], shown.scale[1:], strict=True)],
        list(shown.scale[1:]),
    )


@pytest.mark.parametrize("known", [False, True], ids=["unknown", "known"])
@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("roi", [None, [None, [40, 240], [60, 160]]], ids=["whole", "region"])
def test_the_input_lies_under_its_output(
    tmp_path: Path, known: bool, scale: int, roi: list[Any] | None
) -> None:
    y0, x0 = (40, 60) if roi else (0, 0)
    pixels = values((1, 200, 100)) if roi else values((1, 120 * scale, 90 * scale))
    size = 3.0 / scale
    stated = {"method": {"scale": scale}, "settings": {"roi": roi, "level": 0}}
    facts: dict[str, Any] = {"translation_um": (None, float(y0), float(x0)) if roi else (None, None, None)}
    if known:  # as a run writes it, by `scaled_placement`
        starts = [3.0 * ((first + 0.5) / scale - 0.5) for first in (y0, x0)]
        facts = {"voxel_size_um": (None, size, size), "translation_um": (None, *starts)}
    save_output(tmp_path / "o.zarr", pixels, stated, **facts)
    Image.fromarray(values((120, 90))).save(tmp_path / "i.png")
    before, after = shown_images(str(tmp_path / "o.zarr"), str(tmp_path / "i.png"))
    (begin_y, begin_x), (step_y, step_x) = corner(before)
    first, steps = corner(after)
    assert [step_y / steps[0], step_x / steps[1]] == pytest.approx([scale, scale])
    assert [(first[0] - begin_y) / steps[0], (first[1] - begin_x) / steps[1]] == pytest.approx(
        [y0, x0], abs=1e-6
    )
    assert before.known == after.known == ("yx" if known else "")


def test_the_input_is_placed_by_its_own_voxel_size_and_at_the_level_of_the_run(tmp_path: Path) -> None:
    save_output(
        tmp_path / "i.zarr",
        values((1, 600, 600)),
        voxel_size_um=(None, 1.5, 1.5),
        translation_um=(None, 9.0, 6.0),
    )
    stated = {"method": {"scale": 1}, "settings": {"level": 1, "roi": None}}
    save_output(
        tmp_path / "o.zarr",
        values((1, 300, 300)),
        stated,
        voxel_size_um=(None, 3.0, 3.0),
        translation_um=(None, 9.75, 6.75),
    )
    before, after = shown_images(str(tmp_path / "o.zarr"), str(tmp_path / "i.zarr"))
    assert before.levels[0].level.shape == (1, 300, 300)
    assert corner(before) == corner(after) == ([8.25, 5.25], [3.0, 3.0])


def test_a_tiff_states_its_scale_and_an_output_of_others_shows_it_by_its_size(tmp_path: Path) -> None:
    spec = save_output(tmp_path / "s.zarr", values((1, 200, 100)))
    stated = {"method": {"scale": 2}, "settings": {"roi": [None, [20, 220], [10, 110]]}}
    write_pyramidal_tiff(tmp_path / "s.zarr", tmp_path / "o.ome.tif", spec, stated)
    tifffile.imwrite(tmp_path / "i.tif", values((300, 200)))
    before, after = shown_images(str(tmp_path / "o.ome.tif"), str(tmp_path / "i.tif"))
    assert corner(before) == ([-0.5, -0.5], [2.0, 2.0])
    assert corner(after) == ([19.5, 9.5], [1.0, 1.0])
    tifffile.imwrite(tmp_path / "foreign.tif", values((600, 400)))
    before, after = shown_images(str(tmp_path / "foreign.tif"), str(tmp_path / "i.tif"))
    assert corner(before) == ([-0.5, -0.5], [2.0, 2.0])


@pytest.mark.parametrize(
    "stated",
    [
        {"method": 3, "settings": "x", "maps": ["residual"]},
        {"method": {"scale": "0"}, "settings": {"roi": [1, "x", []], "level": -1}},
        {"method": {"scale": "1e999999"}, "settings": {"roi": 5, "level": True}},
        "nothing",
    ],
)
def test_what_an_output_says_wrongly_of_itself_is_left_out(tmp_path: Path, stated: Any) -> None:
    save_output(tmp_path / "o.zarr", values((1, 60, 80)))
    group = zarr.open_group(tmp_path / "o.zarr", mode="r+")
    group.attrs["bigrestore"] = stated
    Image.fromarray(values((30, 40))).save(tmp_path / "i.png")
    before, _ = shown_images(str(tmp_path / "o.zarr"), str(tmp_path / "i.png"))
    assert corner(before) == ([-0.5, -0.5], [2.0, 2.0])


def test_maps_are_shown_below_each_in_its_own_window(tmp_path: Path) -> None:
    pixels = values((1, 90, 120, 3))
    maps = {"residual": "r", "invented": "i", "uncertainty": "u"}
    for ending in ("", ".zip"):
        output = tmp_path / f"o{len(ending)}.ome.zarr"
        save_output(output, pixels, {"maps": maps})
        save_maps(output, **{name: values((1, 90, 120), np.float32) for name in maps})
        if ending:
            pack_store(output, tmp_path / "packed.zarr.zip")
            output = tmp_path / "packed.zarr.zip"
        Image.fromarray(pixels[0]).save(tmp_path / "i.png")
        images = shown_images(str(output), str(tmp_path / "i.png"))
        assert [image.name for image in images] == ["before", "after", *maps]
        assert [image.window[1] for image in images] == [255.0, 255.0, 1 / 8, 2 / 8, 3 / 8]
        state = page_state(images, "o", "http://x")
        rows = [[panel["layers"] for panel in row["children"]] for row in state["layout"]["children"]]
        assert rows == [[["before"], ["after"]], [["residual"], ["invented"], ["uncertainty"]]]
        assert [layer["shaderControls"]["window"]["range"] for layer in state["layers"]][2] == [0.0, 1 / 8]
        assert ["emitRGB" in layer["shader"] for layer in state["layers"]] == [
            True,
            True,
            False,
            False,
            False,
        ]


def test_black_and_white_are_those_of_the_output_where_the_types_agree(tmp_path: Path) -> None:
    pixels = values((1, 50, 60), np.uint16)
    spec = save_output(tmp_path / "o.zarr", pixels)
    finish_store(tmp_path / "o.zarr", spec, (100.0, 4095.0), {})
    tifffile.imwrite(tmp_path / "same.tif", pixels[0])
    tifffile.imwrite(tmp_path / "other.tif", values((50, 60), np.float32))
    before, after = shown_images(str(tmp_path / "o.zarr"), str(tmp_path / "same.tif"))
    assert before.window == after.window == (100.0, 4095.0)
    assert shown_images(str(tmp_path / "o.zarr"), str(tmp_path / "other.tif"))[0].window == (0.0, 1.0)


def test_units_and_the_first_view_are_those_of_the_output(tmp_path: Path) -> None:
    save_output(
        tmp_path / "o.zarr",
        values((4, 900, 300)),
        is_volume=True,
        voxel_size_um=(20.0, 1.5, 1.25),
        translation_um=(40.0, 0.75, -2.5),
    )
    state = page_state(shown_images(str(tmp_path / "o.zarr")), "o", "http://x")
    assert state["dimensions"] == {"x": [1.25e-6, "m"], "y": [1.5e-6, "m"], "z": [20e-6, "m"]}
    assert state["crossSectionScale"] == pytest.approx(900 * 1.5 / 1.25 / 640)
    assert state["position"] == [-2.5 / 1.25 + 149.5, 0.75 / 1.5 + 449.5, 40.0 / 20 + 2]
    facts = json.loads(store_file(shown_images(str(tmp_path / "o.zarr"))[0], "zarr.json") or b"")
    axes = facts["attributes"]["ome"]["multiscales"][0]["axes"]
    assert [axis["unit"] for axis in axes] == ["micrometer"] * 3


def test_a_large_image_without_a_pyramid_gets_levels_of_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images_module, "OVERVIEW_PX", 100)
    pixels = values((1, 333, 405, 3))
    save_output(tmp_path / "o.zarr", values((1, 333, 405)))
    Image.fromarray(pixels[0]).save(tmp_path / "i.png")
    before = shown_images(str(tmp_path / "o.zarr"), str(tmp_path / "i.png"))[0]
    assert [shown.level.shape for shown in before.levels] == [
        (1, 333, 405),
        (1, 167, 203),
        (1, 84, 102),
        (1, 42, 51),
    ]
    assert [corner(before, level)[0] for level in range(4)] == [[-0.5, -0.5]] * 4
    got = before.levels[2].level.read(0, 20, 84, 30, 102)
    blocks = np.pad(pixels[0].astype(float), ((0, 3), (0, 3), (0, 0)), constant_values=np.nan)
    means = np.nanmean(blocks.reshape(84, 4, 102, 4, 3), axis=(1, 3))
    np.testing.assert_array_equal(got, np.rint(means[20:84, 30:102]))


def test_what_is_no_output_is_refused(tmp_path: Path) -> None:
    Image.fromarray(values((30, 40))).save(tmp_path / "i.png")
    zarr.save_array(tmp_path / "bare.zarr", values((30, 40)))
    (tmp_path / "text.txt").write_text("words")
    for name in ("i.png", "bare.zarr"):
        with pytest.raises(InputError, match=r"is neither an OME-Zarr image nor a TIFF, .* by --before\.$"):
            shown_images(str(tmp_path / name))
    with pytest.raises(InputError, match="is of no kind that is read"):
        shown_images(str(tmp_path / "text.txt"))
    with pytest.raises(InputMissingError, match="does not exist"):
        shown_images(str(tmp_path / "nothing"))
    save_output(tmp_path / "o.zarr", values((1, 30, 40)), {"maps": {"residual": "r"}})
    with pytest.raises(InputError, match=r"maps/residual is not a readable Zarr store \(it holds no .*\.$"):
        shown_images(str(tmp_path / "o.zarr"))
    create_store(tmp_path / "begun.zarr", StoreSpec((1, 30, 40), np.uint8))
    with pytest.raises(InputError, match="was not finished"):
        shown_images(str(tmp_path / "begun.zarr"))

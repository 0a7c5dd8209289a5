"""A map of realness is multiplied in, per tile and in absolute coordinates, and refused where it makes no sense."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from engine_toys import level0, save_zarr
from prior_toys import go, model_file, network

from bigrestore.errors import InputError, InputMissingError, OutputError, OutputExistsError, UsageError
from bigrestore.model.nets.checkpoint import update_info
from bigrestore.run.execute import execute
from bigrestore.settings import RunSettings


@pytest.fixture
def image(tissue: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(tissue[:200, :500])


@pytest.fixture
def source(tmp_path: Path, image: np.ndarray) -> Path:
    return save_zarr(tmp_path / "in.zarr", image)


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(model_file(tmp_path))


def bytes_of(store: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((store / "0/c").rglob("*")) if p.is_file()}


def test_a_map_of_zero_gives_the_bytes_of_realness_zero(tmp_path: Path, source: Path, model: str) -> None:
    blank = save_zarr(tmp_path / "blank.zarr", np.zeros((200, 500), np.uint8))
    go(source, tmp_path / "handed.zarr", network(realness=1.0), realness_map=str(blank), maps="invented")
    invented = zarr.open_array(tmp_path / "handed.zarr/maps/invented/0", mode="r")
    assert not np.asarray(invented[:]).any(), "also where the method was handed in"
    for kind in (np.uint8, np.float32):
        blank = save_zarr(tmp_path / f"{np.dtype(kind)}.zarr", np.zeros((200, 500), kind))
        out = tmp_path / f"out-{np.dtype(kind)}.zarr"
        go(source, out, model=model, realness_map=str(blank))
        go(source, tmp_path / f"zero-{np.dtype(kind)}.zarr", model=model)
        assert bytes_of(out) == bytes_of(tmp_path / f"zero-{np.dtype(kind)}.zarr")
        assert go(source, out, model=model, realness_map=str(blank), resume=True).blocks_restored == 0


@pytest.mark.parametrize("scale", [1, 2])
def test_a_map_is_multiplied_where_it_lies(
    tmp_path: Path, source: Path, image: np.ndarray, scale: int
) -> None:
    share = np.zeros((200, 500), np.float32)
    share[:, 250:] = 1
    drawn = save_zarr(tmp_path / "map.zarr", share)
    outputs = {}
    for name, realness, settings in (
        ("none", 0.0, {}),
        ("all", 0.8, {}),
        ("half", 0.8, {"realness_map": str(drawn)}),
        ("whole", 0.8, {"realness_map": str(drawn), "tile_size": 1920, "block_size": 1920}),
    ):
        method = network(scale, realness=realness)
        go(source, tmp_path / f"{name}.zarr", method, scale=scale, **settings)
        outputs[name] = level0(tmp_path / f"{name}.zarr").astype(int)
    left, right = np.s_[:, : 100 * scale], np.s_[:, 400 * scale :]
    assert np.abs(outputs["half"][left] - outputs["none"][left]).max() <= 1
    assert np.abs(outputs["half"][right] - outputs["all"][right]).max() <= 1
    assert np.abs(outputs["half"][right] - outputs["none"][right]).max() > 3
    tiled = np.abs(outputs["half"] - outputs["whole"])
    assert tiled.max() <= 1
    assert (tiled == 0).mean() > 0.999


def test_half_of_a_byte_map_is_half_of_the_realness(tmp_path: Path, source: Path) -> None:
    bytes_map = save_zarr(tmp_path / "bytes.zarr", np.full((200, 500), 51, np.uint8))
    floats = save_zarr(tmp_path / "floats.zarr", np.full((200, 500), 0.2, np.float32))
    for name, drawn in (("bytes", bytes_map), ("floats", floats)):
        go(source, tmp_path / f"{name}-out.zarr", network(realness=1.0), realness_map=str(drawn))
    go(source, tmp_path / "plain.zarr", network(realness=0.2))
    wanted = level0(tmp_path / "plain.zarr").astype(int)
    for name in ("bytes", "floats"):
        found = level0(tmp_path / f"{name}-out.zarr").astype(int)
        assert np.abs(found - wanted).max() <= 1


def test_a_map_alone_means_realness_one() -> None:
    assert RunSettings(realness_map="map.tif").realness == 1.0
    assert RunSettings(realness_map="map.tif", realness=0.3).realness == 0.3
    assert RunSettings().realness is None, "what the model states"
    with pytest.raises(UsageError, match="--realness is 0"):
        RunSettings(realness_map="map.tif", realness=0)
    with pytest.raises(UsageError, match="--realness-map is 5"):
        RunSettings(realness_map=5)  # type: ignore[arg-type]


def test_a_map_that_does_not_fit_is_refused(tmp_path: Path, source: Path, model: str) -> None:
    def drawn(name: str, pixels: np.ndarray) -> dict[str, str]:
        return {"model": model, "realness_map": str(save_zarr(tmp_path / f"{name}.zarr", pixels))}

    out = tmp_path / "out.zarr"
    ones = np.ones((200, 500), np.float32)
    with pytest.raises(InputError, match=r"\(1, 199, 500\) \(z, y, x\), the input \(1, 200, 500\)"):
        go(source, out, **drawn("small", ones[:-1]))
    with pytest.raises(InputError, match=r"uint16; give uint8"):
        go(source, out, **drawn("deep", ones.astype(np.uint16)))
    with pytest.raises(InputError, match=r"double\.zarr.*float64 pixels.*float32"):
        go(source, out, **drawn("double", ones.astype(np.float64)))
    with pytest.raises(InputError, match="3 channels"):
        go(source, out, **drawn("colour", np.ones((200, 500, 3), np.uint8)))
    for value in (1.5, -0.25):
        odd = ones.copy()
        odd[150, 490] = value
        with pytest.raises(InputError, match=rf"holds {value} at .*from 0 to 1"):
            go(source, out, **drawn(f"odd{value}", odd))
    odd[150, 490] = np.nan
    with pytest.raises(InputError, match="holds nan at"):
        go(source, out, **drawn("nan", odd))
    with pytest.raises(InputMissingError, match="does not exist"):
        go(source, out, model=model, realness_map=str(tmp_path / "absent.tif"))
    assert not out.exists()


def test_a_map_needs_a_prior(tmp_path: Path, source: Path) -> None:
    maps = {
        value: str(save_zarr(tmp_path / f"{value}.zarr", np.full((200, 500), value, np.uint8)))
        for value in (0, 255)
    }
    bare = str(model_file(tmp_path, with_prior=False))
    for drawn in maps.values():
        with pytest.raises(UsageError, match="no prior"):
            go(source, tmp_path / "out.zarr", model=bare, realness_map=drawn)
        rational = RunSettings(method="rational", realness_map=drawn, progress="none")
        with pytest.raises(UsageError, match=r"rational.*leave it out"):
            execute(source, tmp_path / "out.zarr", rational)


def test_another_map_is_another_run(tmp_path: Path, source: Path, model: str) -> None:
    share = np.full((200, 500), 200, np.uint8)
    drawn, out = save_zarr(tmp_path / "map.zarr", share), tmp_path / "out.zarr"
    go(source, out, model=model, realness_map=str(drawn))
    with pytest.raises(OutputExistsError, match="--realness-map"):
        go(source, out, model=model, realness=1.0, resume=True)
    assert go(source, out, model=model, realness_map=str(drawn), resume=True).blocks_restored == 0
    zarr.open_array(drawn, mode="r+")[100, 100] = 7
    with pytest.raises(OutputExistsError, match="realness map"):
        go(source, out, model=model, realness_map=str(drawn), resume=True)
    with pytest.raises(OutputError, match="inside the Zarr store"):
        go(source, drawn / "out.zarr", model=model, realness_map=str(drawn))


@pytest.mark.usefixtures("warm_children")
def test_workers_read_the_same_map(
    tmp_path: Path, source: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ramp = np.tile(np.linspace(0, 1, 500, dtype=np.float32), (200, 1))
    save_zarr(tmp_path / "map.zarr", ramp)
    monkeypatch.chdir(tmp_path)
    go(source, tmp_path / "one.zarr", model=model, realness_map="map.zarr")
    go(source, tmp_path / "two.zarr", model=model, realness_map="map.zarr", workers=2)
    assert bytes_of(tmp_path / "one.zarr") == bytes_of(tmp_path / "two.zarr")


def test_realness_that_is_left_open_is_what_the_model_states(
    tmp_path: Path, source: Path, model: str
) -> None:
    """The same run, however its realness came about; one of another realness is another run, and the flag is named."""
    stating = tmp_path / "stating.safetensors"
    shutil.copyfile(model, stating)
    update_info(stating, {"realness": 0.4})
    open_, asked = tmp_path / "open.zarr", tmp_path / "asked.zarr"
    go(source, open_, model=str(stating))
    go(source, asked, model=str(stating), realness=0.4)
    assert bytes_of(open_) == bytes_of(asked)
    made = zarr.open_group(open_, mode="r").attrs["bigrestore"]["method"]
    assert made["realness"] == 0.4
    assert go(source, open_, model=str(stating), realness=0.4, resume=True).blocks_restored == 0
    with pytest.raises(OutputExistsError, match=r"--realness \(0\.4 then, 0 now\)"):
        go(source, open_, model=str(stating), realness=0, resume=True)
    plain = tmp_path / "plain.zarr"
    go(source, plain, model=str(stating), realness=0)
    assert bytes_of(plain) != bytes_of(open_)


def test_a_map_of_nought_and_one_in_bytes_is_asked_about(tmp_path: Path, source: Path, model: str) -> None:
    ones = save_zarr(tmp_path / "ones.zarr", np.ones((200, 500), np.uint8))
    with pytest.raises(InputError, match="255 stands for 1"):
        go(source, tmp_path / "out.zarr", model=model, realness_map=str(ones))
    assert not (tmp_path / "out.zarr").exists()


def test_the_store_knows_which_map_it_was_made_with(tmp_path: Path, source: Path, model: str) -> None:
    made = []
    for value in (100, 200):
        path = save_zarr(tmp_path / f"map-{value}.zarr", np.full((200, 500), value, np.uint8))
        go(source, tmp_path / f"out-{value}.zarr", model=model, realness_map=str(path))
        attributes = zarr.open_group(tmp_path / f"out-{value}.zarr", mode="r").attrs
        made.append(attributes["bigrestore"]["realness"])
    assert made[0]["shape"] == made[1]["shape"]
    assert made[0]["windows_blake2b"] != made[1]["windows_blake2b"]

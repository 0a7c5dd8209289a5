"""The peer of the bench: weights of ncnn become those of the project they came from, and x4 is averaged down."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bigrestore.model.method import TileBatch
from bigrestore.model.nets.foreign import architectures
from bigrestore.model.registry import create_method
from bigrestore.settings import RunSettings
from tests.bench import realesrgan
from tests.methods.foreign_networks import Weights, rrdb


def as_ncnn(folder: Path, weights: Weights, *, half: bool) -> None:
    """Write the convolutions of a network in the order of its computation."""
    names = ["conv_first", *(f"body.0.rdb{m}.conv{k}" for m in (1, 2, 3) for k in range(1, 6))]
    names += ["conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last"]
    lines, content = ["7767517", "99 99"], b""
    for name in names:
        taps, biases = weights[f"{name}.weight"].numpy(), weights[f"{name}.bias"].numpy()
        lines.append(
            f"Convolution  {name} 1 1 a b 0={len(taps)} 1=3 4=1 5=1 6={taps.size} 9=2 -23310=1,2.0e-01"
        )
        packed = taps.astype(np.float16 if half else np.float32).tobytes()
        content += struct.pack("<I", realesrgan.HALF_TAG if half else 0) + packed + bytes(-len(packed) % 4)
        content += biases.tobytes()
    (folder / "realesrgan-x4plus.param").write_text("\n".join([*lines, "Concat c 1 1 a b 0=0"]))
    (folder / "realesrgan-x4plus.bin").write_bytes(content)


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("filters", [8, 5])
def test_weights_of_ncnn_get_the_names_of_their_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, half: bool, filters: int
) -> None:
    weights = rrdb(shuffled=1, filters=filters)
    as_ncnn(tmp_path, weights, half=half)
    monkeypatch.setattr(realesrgan, "_models", lambda: tmp_path)
    realesrgan.write_weights(tmp_path / "net.safetensors")
    read = load_file(tmp_path / "net.safetensors")
    assert read.keys() == weights.keys()
    for name, tensor in weights.items():
        rounded = tensor.half().float() if half and name.endswith("weight") else tensor
        assert torch.equal(read[name], rounded), name


@pytest.mark.parametrize("scale", [1, 2])
def test_the_peer_is_averaged_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scale: int) -> None:
    pytest.importorskip("onnxruntime")  # of the same extra as spandrel, which does not import by itself
    monkeypatch.setattr(architectures, "SIDE_PX", 64)
    as_ncnn(tmp_path, rrdb(shuffled=1), half=True)
    monkeypatch.setattr(realesrgan, "_models", lambda: tmp_path)
    realesrgan.write_weights(tmp_path / "net.safetensors")
    large = create_method(RunSettings(method="external", scale=4, model=str(tmp_path / "net.safetensors")))
    peer = realesrgan.AveragedDown(large, create_method(RunSettings(method="wiener", scale=scale)))
    windows = np.random.default_rng(0).random((2, 128, 128), np.float32)
    statistics = peer.analyse(windows)
    batch = TileBatch(windows[:1, :48, :48], None, np.zeros((1, 2), np.int64), 0)
    made = peer.restore(batch, statistics).pixels
    wanted = large.restore(batch, large.analyse(windows)).pixels[0]
    assert made.shape == (1, 48 * scale, 48 * scale)
    cell = 4 // scale
    np.testing.assert_allclose(
        made[0, 3, 5], wanted[3 * cell : 4 * cell, 5 * cell : 6 * cell].mean(), rtol=1e-5
    )

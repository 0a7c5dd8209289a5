"""What `make gpu-check` says of a GPU's speed is what its profile and runs say; without a GPU one line says so."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.autograd import DeviceType

from tests.bench import gpu


def event(start: float, end: float, name: str = "conv", device: DeviceType = DeviceType.CUDA) -> Any:
    return SimpleNamespace(name=name, device_type=device, time_range=SimpleNamespace(start=start, end=end))


def test_time_in_which_two_kernels_compute_counts_once() -> None:
    events = [
        event(3e6, 4e6),
        event(0, 1e6),
        event(0.5e6, 2e6),
        event(0.6e6, 0.7e6),
        event(5e6, 9e6, "Memcpy HtoD (Pinned -> Device)"),
        event(0, 9e6, "aten::conv2d", DeviceType.CPU),
    ]
    assert gpu.busy_seconds(events) == pytest.approx(3.0)
    assert gpu.busy_seconds([]) == 0


def test_a_brain_takes_what_its_pixels_take_with_the_report_start_up_aside() -> None:
    plain = {"megapixels": 400.0, "seconds": {"start-up": 50.0, "profile": 1.0, "blocks": 4.0, "report": 0.0}}
    scored = plain | {"seconds": {"start-up": 50.0, "profile": 1.0, "blocks": 4.0, "report": 5.0}}
    lines = gpu.figures_of(2, {"seconds": 2.0}, plain, scored, {"busy_share": 0.5})
    measured = {line.name.strip(): line.measured for line in lines}
    assert measured.pop("7,404 sections of 37.5 MPx, with report") == f"{7404 * 37.5 * 4 / 40 / 3600:.1f} h"
    assert list(measured.values()) == [
        "2.000 (4.00 s / 2.00 s)",
        "50%",
        "100.0 MPx/s",
        "80.0 MPx/s",
        "40.0 MPx/s",
    ]
    assert [line.met for line in lines if line.target] == [False]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_a_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu"])
    gpu.main()
    assert capsys.readouterr().out == "No GPU with CUDA is here, so its figures are left out.\n"

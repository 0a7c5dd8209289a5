"""What the tests of the Python interface need: tissue, a folder for temporary files, and a stand-in for xarray."""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from skimage import data


@pytest.fixture(scope="session")
def rgb() -> np.ndarray:
    return np.asarray(data.immunohistochemistry())


@pytest.fixture(scope="session")
def grey(rgb: np.ndarray) -> np.ndarray:
    """Real tissue, 512 x 512, uint8."""
    return np.rint(rgb @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty folder that takes all temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


class DataArray:
    """The part of xarray.DataArray that is used: pixels, dims, coordinates, name and attrs."""

    def __init__(
        self,
        data: Any,
        dims: Any = (),
        coords: Mapping[str, Any] | None = None,
        name: str | None = None,
        attrs: Mapping[str, Any] | None = None,
    ) -> None:
        self.data, self.dims, self.name, self.attrs = data, tuple(dims), name, dict(attrs or {})
        self.shape, self.dtype, self.ndim = data.shape, data.dtype, data.ndim
        self.coords: dict[str, Any] = {}
        for key, (along, values, *more) in (coords or {}).items():
            named = (along,) if isinstance(along, str) else tuple(along)
            values = np.asarray(values)
            sizes = dict(zip(self.dims, self.shape, strict=True))
            assert values.shape == tuple(sizes[dim] for dim in named), key
            self.coords[key] = SimpleNamespace(dims=named, values=values, attrs=more[0] if more else {})


@pytest.fixture
def labelled(monkeypatch: pytest.MonkeyPatch) -> type[DataArray]:
    """Give the DataArray of xarray; where that is not installed, a stand-in that is found as its module."""
    try:
        kind: type[DataArray] = importlib.import_module("xarray").DataArray
    except ImportError:
        module = ModuleType("xarray")
        module.DataArray = DataArray  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "xarray", module)
        return DataArray
    return kind

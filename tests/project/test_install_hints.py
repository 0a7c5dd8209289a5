"""Hints name what can be installed: the checkout, the wheel or folder that pip was given, else the package."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bigrestore.core.host import installed
from bigrestore.core.host.installed import install_command

ROOT = Path(__file__).resolve().parents[2]


def test_a_checkout_is_named_by_its_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    assert install_command("formats") == "pip install '.[formats]'"
    assert install_command("bioio", "bioio-czi") == "pip install '.[bioio]' bioio-czi"
    assert install_command() == "pip install ."
    monkeypatch.chdir(tmp_path)
    assert install_command("formats") in (f"pip install '{ROOT}[formats]'",)


@pytest.mark.parametrize(
    ("stated", "name"),
    [
        ({"url": "file://WHEEL"}, "WHEEL"),
        ({"url": "file://GONE.whl"}, "bigrestore"),
        ({"url": "https://example.org/bigrestore.whl"}, "bigrestore"),
        ({}, "bigrestore"),
        (None, "bigrestore"),
    ],
)
def test_an_installed_package_is_named_by_what_pip_was_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stated: Any, name: str
) -> None:
    wheel = tmp_path / "bigrestore-0.1.0-py3-none-any.whl"
    wheel.touch()
    text = None if stated is None else json.dumps(stated).replace("WHEEL", str(wheel))
    monkeypatch.setattr(installed, "_checkout", lambda: None)
    monkeypatch.setattr(
        installed.metadata, "distribution", lambda _: SimpleNamespace(read_text=lambda _: text)
    )
    assert install_command("hpc") == f"pip install '{name.replace('WHEEL', str(wheel))}[hpc]'"

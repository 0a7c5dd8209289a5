"""The command that installs an extra: from where this package came, because no index may hold it."""

from __future__ import annotations

import json
import shlex
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

PACKAGE = "bigrestore"


def install_command(extra: str = "", *further: str) -> str:
    """Return the command that installs this package, with an extra, and further packages, to be pasted.

    From a checkout, or the wheel or folder that pip installed from, it names that; else the package by its name.
    """
    place = _checkout() or _installed_from()
    if place is None:
        name = PACKAGE
    else:
        name = "." if place == Path.cwd() else str(place)
    return shlex.join(["pip", "install", f"{name}[{extra}]" if extra else name, *further])


def _checkout() -> Path | None:
    """Return the checkout that this package is imported from."""
    folder = Path(__file__).resolve().parents[3]
    return folder if (folder / "pyproject.toml").is_file() else None


def _installed_from() -> Path | None:
    """Return the folder or wheel that pip installed this package from, where it is still there."""
    try:
        text = metadata.distribution(PACKAGE).read_text("direct_url.json")
        url = urlsplit(json.loads(text)["url"]) if text else None
    except (metadata.PackageNotFoundError, ValueError, KeyError, TypeError):
        return None
    if url is None or url.scheme != "file" or not url.path:
        return None
    place = Path(url2pathname(url.path))
    return place if place.exists() else None

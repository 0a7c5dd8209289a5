"""Sections of a model card measured after the training."""

from __future__ import annotations

import re
from pathlib import Path

from bigrestore.core.files import whole_file

_SECTION = re.compile(r"^(?=## )", re.MULTILINE)


def put_section(card: Path, title: str, body: str) -> None:
    """Put a section measured after the training into a card, replacing one of the same title.

    It comes before `Data`, the end of a card.

    Parameters
    ----------
    card : Path
        A card from `write_card`.
    title : str
        Of the section, a heading of the second level.
    body : str
        Its Markdown; headings in it are of the third level or lower.
    """
    parts = _SECTION.split(card.read_text(encoding="utf-8").rstrip("\n"))
    kept = [part for part in parts if part.split("\n", 1)[0] != f"## {title}"]
    at = next((i for i, part in enumerate(kept) if part.split("\n", 1)[0] == "## Data"), len(kept))
    kept.insert(at, f"## {title}\n\n{body}")
    text = "\n\n".join(part.strip("\n") for part in kept) + "\n"
    with whole_file(card) as partial:
        partial.write_text(text, encoding="utf-8")

"""A card keeps every section but the one that was measured anew."""

from __future__ import annotations

from pathlib import Path

from tests.bench.cards import put_section

CARD = "# toy\n\nIntro.\n\n## Training, stage prior\n\n- 1 minute\n\n## Data\n\nImages, ## of many.\n\n### Of mice\n"


def test_a_section_comes_before_the_data_and_replaces_its_former_self(tmp_path: Path) -> None:
    card = tmp_path / "toy.md"
    card.write_text(CARD)
    put_section(card, "Realness", "| a |\n|---|\n| 1 |\n")
    before, after = CARD.split("## Data")
    once = f"{before}## Realness\n\n| a |\n|---|\n| 1 |\n\n## Data{after}"
    assert card.read_text() == once
    put_section(card, "Ablations", "none")
    put_section(card, "Realness", "other")
    assert card.read_text() == f"{before}## Ablations\n\nnone\n\n## Realness\n\nother\n\n## Data{after}"
    put_section(card, "Ablations", "none")
    assert card.read_text().count("## Ablations") == 1


def test_a_card_without_data_gets_it_at_the_end(tmp_path: Path) -> None:
    card = tmp_path / "toy.md"
    card.write_text("# toy")
    put_section(card, "Realness", "none")
    assert card.read_text() == "# toy\n\n## Realness\n\nnone\n"

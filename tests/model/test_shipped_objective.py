"""The shipped head of objectives: it belongs to the shipped network, and adds nothing where there is nothing to add."""

from __future__ import annotations

import os

import pytest

from bigrestore.model.nets.checkpoint import load_model
from bigrestore.model.nets.parts.part import shipped_parts
from bigrestore.model.network import load_objective
from tests.bench.material import validation_images
from tests.bench.objective import NOTHING_TO_ADD, method_of, places, scenes_of

pytestmark = pytest.mark.slow


def test_it_belongs_to_the_shipped_network() -> None:
    model = load_model("tiny", 1)
    assert load_objective(model, None).info["network"] == model.sha256


@pytest.mark.skipif(not os.environ.get("BIGRESTORE_DATA"), reason="BIGRESTORE_DATA is not set")
def test_damage_glass_and_places_out_of_focus_get_next_to_nothing() -> None:
    scenes = scenes_of(1, validation_images(256)[::3])[::3]
    found = places(method_of(1, 1.0, shipped_parts()["objective-x1"]), scenes)
    assert len(scenes) >= 2
    assert found["the same places as they are"] > 3 * NOTHING_TO_ADD
    for name in ("damage", "glass", "out of focus"):
        assert found[name] < NOTHING_TO_ADD, name

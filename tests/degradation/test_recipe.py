"""A recipe with a slip of the pen must be refused with a sentence, not drawn from."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from bigrestore.core.kernels import kernel_size
from bigrestore.degradation.recipe import draw_degradations
from bigrestore.degradation.schema import Recipe, shipped_recipes
from bigrestore.degradation.tables import Range
from bigrestore.errors import InputMissingError, UsageError


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_shipped_recipes_load_and_draw_at_every_scale() -> None:
    assert {"default", "bigbrain", "noise", "optics"} == set(shipped_recipes())
    for name in shipped_recipes():
        recipe = Recipe.load(name)
        assert recipe.name == name
        assert Recipe.from_dict(recipe.to_dict()) == recipe
        for scale in (1, 2, 4):
            for degradation in draw_degradations(recipe, scale, 20, rng()):
                size = kernel_size(scale)
                assert degradation.effective_kernel.shape == (size, size)
                assert degradation.effective_kernel.sum() == pytest.approx(1.0, abs=1e-5)


def test_everything_drawn_can_be_written_down() -> None:
    for degradation in draw_degradations(Recipe.load("default"), 2, 50, rng(4)):
        text = json.dumps(degradation.to_dict(), allow_nan=False)
        assert json.loads(text)["kernel"] == degradation.kernel.tolist()


def test_the_optics_keep_to_their_shares_and_bounds() -> None:
    drawn = draw_degradations(Recipe.load("optics"), 1, 1500, rng(9))
    shares = {
        "identity": (0.1, [d.identity for d in drawn]),
        "blur": (0.72, [d.kind != "none" for d in drawn]),
        "jpeg": (0.27, [d.storage.jpeg_quality > 0 for d in drawn]),
        "damage": (0.09, [bool(d.damage) for d in drawn]),
        "second": (0.225, [d.second is not None for d in drawn]),
    }
    for name, (share, happened) in shares.items():
        assert np.mean(happened) == pytest.approx(share, abs=0.04), name
    noisy = [d.noise for d in drawn if not d.identity]
    assert all(1e-6 <= n.gain <= 4e-3 and 0.02 <= n.read * 255 <= 10.0 + 1e-9 for n in noisy)
    assert np.mean([n.read * 255 < 0.5 for n in noisy]) == pytest.approx(0.3, abs=0.06)
    assert np.mean([n.correlated_share for n in noisy]) == pytest.approx(1 / 3, abs=0.03)
    assert all(40 <= d.storage.jpeg_quality <= 95 for d in drawn if d.storage.jpeg_quality)
    assert all(d.lines.jitter_px <= 0.4 for d in drawn if d.lines)
    kinds = Counter(d.kind for d in drawn)
    assert set(kinds) == {"none", *Recipe.load("optics").blur.kinds}


def test_the_default_is_a_third_of_bigbrain_and_two_of_optics() -> None:
    drawn = draw_degradations(Recipe.load("default"), 2, 1200, rng(3))
    registered = [d for d in drawn if d.resampling is not None]
    assert len(registered) / len(drawn) == pytest.approx(1 / 3, abs=0.04)
    assert {d.scan_factor for d in registered} == {1, 2, 4}
    assert all(d.scan_factor == 1 for d in drawn if d.resampling is None)


def test_a_mixture_reads_recipes_beside_it_and_shipped_ones(tmp_path: Path) -> None:
    (tmp_path / "calm.toml").write_text("identity_probability = 1.0\n")
    mixture = tmp_path / "mine.toml"
    mixture.write_text('[mix]\n"calm.toml" = 3\nbigbrain = 1\n')
    recipe = Recipe.load(mixture)
    assert [part.recipe.name for part in recipe.mix] == ["calm", "bigbrain"]
    drawn = draw_degradations(recipe, 1, 400, rng(1))
    assert np.mean([d.identity for d in drawn]) == pytest.approx(0.75, abs=0.06)
    assert not any(d.identity for d in draw_degradations(recipe.always_degrading(), 1, 50, rng(1)))


def test_a_mixture_that_cannot_be_drawn_is_a_sentence(tmp_path: Path) -> None:
    itself, other = tmp_path / "a.toml", tmp_path / "b.toml"
    itself.write_text('[mix]\n"b.toml" = 1\n')
    other.write_text('[mix]\n"a.toml" = 1\nbigbrain = 1\n')
    for file, text, sentence in (
        (itself, None, "mixes itself; take it out"),
        (other, "[mix]\nbigbrain = 0\n", "weight 0 is not above zero"),
        (other, "[mix]\nbigbrain = -1\n", "weight -1 is not above zero"),
        (other, "[mix]\n", "a table of recipes and weights is expected"),
        (other, "mix = 3\n", "a table of recipes and weights is expected"),
        (other, "[mix]\nbigbrain = 1\n[noise]\nprobability = 1\n", "'noise' stands beside"),
    ):
        if text is not None:
            file.write_text(text)
        with pytest.raises(UsageError, match=sentence):
            Recipe.load(file)
    other.write_text("[mix]\nnonesuch = 1\n")
    with pytest.raises(InputMissingError, match="nonesuch"):
        Recipe.load(other)


def test_the_old_name_of_a_shipped_recipe_is_accepted() -> None:
    assert Recipe.load("bigbrain20") == Recipe.load("bigbrain")


def test_an_identity_is_untouched() -> None:
    recipe = Recipe.from_dict({"name": "calm", "identity_probability": 1.0, "noise": {"probability": 1.0}})
    (degradation,) = draw_degradations(recipe, 1, 1, rng())
    assert degradation.identity
    assert degradation.kernel[10, 10] == 1.0
    assert degradation.noise.gain == degradation.noise.read == 0.0


def test_one_more_draw_does_not_change_the_others() -> None:
    recipe = Recipe.load("default")
    few, many = draw_degradations(recipe, 4, 3, rng(2)), draw_degradations(recipe, 4, 7, rng(2))
    assert [d.to_dict() for d in few] == [d.to_dict() for d in many[:3]]


def test_noise_of_contrast_is_drawn_where_asked_and_changes_no_other_draw() -> None:
    plain = {"name": "mine", "noise": {"probability": 1.0}, "blur": {"probability": 0.0}}
    asked = plain | {"noise": {"probability": 1.0, "contrast_gain": [0.2, 0.9]}}
    without, drawn = (
        [draw_degradations(Recipe.from_dict(table), 1, 1, rng(seed))[0].noise for seed in range(12)]
        for table in (plain, asked)
    )
    assert all(noise.contrast_gain == 0 for noise in without)
    assert all(0.2 <= noise.contrast_gain <= 0.9 for noise in drawn)
    assert [attrs.evolve(noise, contrast_gain=0.0) for noise in drawn] == without


def test_what_came_later_is_no_part_of_a_recipe_without_it() -> None:
    """Else a training that was begun before would not be resumed under the same recipe."""
    stated = json.dumps(Recipe.load("default").to_dict(), sort_keys=True)
    assert "contrast_gain" not in stated
    assert "sharpening" not in stated
    assert hashlib.sha256(stated.encode()).hexdigest()[:8] == "c816319a"
    later = {"noise": {"contrast_gain": [0.2, 0.9]}, "sharpening": {"probability": 0.1, "amount": 0.5}}
    asked = Recipe.from_dict({"name": "mine", **later})
    assert Recipe.from_dict(asked.to_dict()) == asked
    assert asked.to_dict()["noise"]["contrast_gain"]["high"] == 0.9
    assert asked.to_dict()["sharpening"]["amount"]["low"] == 0.5


def test_an_unsharp_mask_is_drawn_where_asked_and_changes_no_other_draw() -> None:
    plain = {"name": "mine", "noise": {"probability": 1.0}, "blur": {"probability": 1.0}}
    asked = plain | {"sharpening": {"probability": 0.5, "amount": [0.2, 0.9], "radius_px": [1, 2]}}
    without, drawn = (
        [draw_degradations(Recipe.from_dict(table), 1, 1, rng(seed))[0] for seed in range(24)]
        for table in (plain, asked)
    )
    masks = [mask for each in drawn if (mask := each.sharpening) is not None]
    assert 6 <= len(masks) <= 18
    assert all(0.2 <= mask.amount <= 0.9 and 1 <= mask.radius_px <= 2 for mask in masks)
    assert [attrs.evolve(each, sharpening=None).to_dict() for each in drawn] == [
        each.to_dict() for each in without
    ]


def test_a_focus_is_drawn_more_often() -> None:
    focused = Range(0.0, 10.0, focus=(4.0, 5.0), focus_share=0.5)
    values = np.array([focused.draw(generator) for generator in [rng(1)] for _ in range(2000)])
    assert np.mean((values >= 4) & (values <= 5)) == pytest.approx(0.55, abs=0.04)
    assert values.min() < 1.0
    assert values.max() > 9.0


def test_a_logarithmic_range_gives_every_decade_its_share() -> None:
    generator = rng(1)
    values = np.array([Range(1e-5, 1e-3, "log").draw(generator) for _ in range(2000)])
    assert np.mean(values < 1e-4) == pytest.approx(0.5, abs=0.04)


SLIPS: list[tuple[dict[str, Any], str]] = [
    ({"blurr": {}}, "key 'blurr' is unknown"),
    ({"blur": {"sigma": 2}}, "blur, the key 'sigma' is unknown"),
    ({"noise": {"gain": [2e-3, 1e-3]}}, "noise: gain, low 0.002 is above high 0.001"),
    ({"noise": {"probability": 2}}, "probability 2 is outside 0..1"),
    ({"blur": {"probability": -0.1}}, "probability -0.1 is outside"),
    ({"blur": {"kinds": {"gauss": 1}}}, "'gauss' is unknown; known are gaussian"),
    ({"blur": {"kinds": {}}}, "a table of weights is expected"),
    ({"blur": {"kinds": {"gaussian": 0}}}, "not all zero"),
    ({"blur": {"kinds": {"gaussian": -1, "motion": 2}}}, "must not be negative"),
    ({"blur": 3}, "a table of keys is expected, not 3"),
    ({"blur": {"shape": "flat"}}, "a number, two of them or a table is expected, not 'flat'"),
    ({"blur": {"shape": [1, 2, 3]}}, "a number, two of them or a table is expected, not 1,2,3"),
    ({"noise": {"contrast_gain": []}}, "a number, two of them or a table is expected, not an empty list"),
    ({"noise": {"gain": {"low": 0, "high": 1, "law": "log"}}}, "must be above zero for the law log"),
    ({"noise": {"gain": {"low": 0, "high": 1, "law": "normal"}}}, "the law 'normal' is unknown"),
    ({"noise": {"gain": {"low": 0}}}, "the key 'high' is missing"),
    ({"noise": {"gain": [0, float("nan")]}}, "a finite number is expected, not nan"),
    ({"noise": {"gain": [0, True]}}, "a finite number is expected, not true"),
    ({"storage": {"jpeg_quality": [40, 140]}}, "leaves what is possible, 1 to 100"),
    ({"storage": {"jpeg_quality": {"low": 40, "high": 90, "focus": [30, 50]}}}, "must lie inside the range"),
    ({"lines": {"jitter_px": [0, 3]}}, "0 to 3 leaves what is possible"),
    ({"blur": {"sigma_px": {"x1": [0.0, 1.0]}}}, "x1, 0 to 1 leaves what is possible"),
    ({"thickness": {"refractive_index": 0.5}}, "refractive_index, 0.5 to 0.5 leaves"),
    ({"resampling": {"amplitude_px": [1, 9]}}, "1 to 9 leaves what is possible, 0 to 3"),
    ({"resampling": {"orders": {"nearest": 1}}}, "'nearest' is unknown; known are linear"),
    ({"resampling": {"passes": {"3": 1}}}, "'3' is unknown; known are 1, 2"),
    ({"scanning": {"factors": {"8": 1}}}, "'8' is unknown; known are 1, 2, 4"),
    ({"noise": {"contrast_gain": [-1, 0]}}, "-1 to 0 leaves what is possible, 0 to 4"),
    ({"noise": {"contrast_gain": 9}}, "9 to 9 leaves what is possible, 0 to 4"),
    ({"sharpening": {"radius_px": [1, 4]}}, "1 to 4 leaves what is possible, 0.3 to 2.5"),
    ({"sharpening": {"amount": -0.5}}, "-0.5 to -0.5 leaves what is possible, 0 to 3"),
    ({"sharpening": {"probability": 2}}, "the probability 2 is outside 0..1"),
    ({"name": 5}, "a text is expected, not 5"),
]


@pytest.mark.parametrize(("slip", "sentence"), SLIPS, ids=[sentence for _, sentence in SLIPS])
def test_a_slip_is_a_sentence(slip: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as caught:
        Recipe.from_dict({"name": "slip", **slip}, "slip.toml")
    assert str(caught.value).startswith("In slip.toml")
    assert str(caught.value).endswith(".")


def test_a_recipe_without_a_name_takes_that_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[blur]\nprobability = 0.5\n")
    assert Recipe.load(file).name == "mine"


def test_a_missing_or_broken_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        InputMissingError, match="is no file, and no shipped one: bigbrain, default, noise or optics"
    ):
        Recipe.load("nonesuch")
    broken = tmp_path / "broken.toml"
    broken.write_text("[blur\n")
    with pytest.raises(UsageError, match="not valid TOML"):
        Recipe.load(broken)
    broken.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not a text file"):
        Recipe.load(broken)

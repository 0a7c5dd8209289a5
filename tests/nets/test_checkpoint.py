"""Checkpoints: a round trip, and sentences for damaged or foreign files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bigrestore.errors import InputMissingError, ModelError, OutputError, UsageError
from bigrestore.model.nets.checkpoint import (
    CHECKPOINT_METADATA_KEY,
    ZERO_WHERE_MISSING,
    hash_tensors,
    load_model,
    read_checkpoint,
    save_model,
    shipped_models,
    update_info,
)
from bigrestore.model.nets.restorer import Restorer
from bigrestore.settings.presets import get_preset


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "model.safetensors"
    save_model(path, Restorer(get_preset("nano"), 2), {"halo_px": 96, "training": {"note": "none"}})
    return path


def test_what_is_saved_comes_back(saved: Path) -> None:
    torch.manual_seed(0)
    original = Restorer(get_preset("nano"), 2)
    model = load_model(saved, 2)
    assert (model.scale, model.halo_px, model.info["preset"]) == (2, 96, "nano")
    assert model.info["training"] == {"note": "none"}
    for name, tensor in model.restorer.state_dict().items():
        torch.testing.assert_close(tensor, original.state_dict()[name].half().float(), atol=1e-6, rtol=0)


def resaved_without(path: Path, *left_out: str) -> None:
    """Write a checkpoint again without some tensors, its hash put right."""
    info, tensors = read_checkpoint(path)
    kept = {name: tensor for name, tensor in tensors.items() if name not in left_out}
    assert len(kept) == len(tensors) - len(left_out)
    info["sha256"] = hash_tensors(kept)
    save_file(kept, path, metadata={CHECKPOINT_METADATA_KEY: json.dumps(info)})


def test_a_model_older_than_the_coupling_is_unchanged(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path, written = tmp_path / "old.safetensors", Restorer(get_preset("nano"), 2, with_prior=True)
    save_model(path, written, {"halo_px": 96})
    names = {name for name in written.state_dict() if ".coupling." in name}
    assert names == set(ZERO_WHERE_MISSING)
    resaved_without(path, *names)
    prior = load_model(path).restorer.prior
    assert prior is not None
    origin, codes = torch.zeros(1, 2, dtype=torch.int64), torch.randn(1, 48, 3, 3)
    assert prior.coupling is not None
    assert not any(bool(weight.any()) for weight in prior.coupling.parameters())
    with torch.no_grad():
        made = prior(codes, None, 0, 0, origin)
    assert bool(made.isfinite().all())


def test_any_other_missing_weight_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "torn.safetensors"
    save_model(path, Restorer(get_preset("nano"), 2, with_prior=True), {"halo_px": 96})
    resaved_without(path, "prior.levels.0.grey_bias")
    with pytest.raises(ModelError, match="does not hold the weights"):
        load_model(path)


def test_saving_twice_gives_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.safetensors"
    save_model(again, load_model(saved).restorer, {"halo_px": 96, "training": {"note": "none"}})
    assert again.read_bytes() == saved.read_bytes()


def test_changing_the_metadata_keeps_the_weights(saved: Path) -> None:
    before = read_checkpoint(saved)
    update_info(saved, {"figures": {"psnr": 1.0}})
    after = read_checkpoint(saved)
    assert after[0]["figures"] == {"psnr": 1.0}
    assert after[0]["sha256"] == before[0]["sha256"]


@pytest.mark.parametrize("where", [0.3, 0.6, 0.95])
def test_a_flipped_byte_is_found(saved: Path, where: float) -> None:
    raw = bytearray(saved.read_bytes())
    raw[int(len(raw) * where)] ^= 0x40
    saved.write_bytes(bytes(raw))
    with pytest.raises(ModelError, match=r"damaged|sha256"):
        load_model(saved)


@pytest.mark.parametrize("size", [0, 4, 100, 5000])
def test_a_truncated_file_is_found(saved: Path, size: int) -> None:
    saved.write_bytes(saved.read_bytes()[:size])
    with pytest.raises(ModelError, match="damaged"):
        load_model(saved)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(3)}, foreign)
    with pytest.raises(ModelError, match="not a bigrestore model"):
        load_model(foreign)
    pickled = tmp_path / "pickled.safetensors"
    torch.save({"weight": torch.zeros(3)}, pickled)
    with pytest.raises(ModelError, match="damaged or no safetensors"):
        load_model(pickled)


def test_another_scale_is_refused(saved: Path) -> None:
    with pytest.raises(ModelError, match="scale 2, not at 1") as error:
        load_model(saved, 1)
    assert isinstance(error.value, UsageError)
    assert error.value.exit_code == 2


def test_a_missing_model_names_what_there_is() -> None:
    with pytest.raises(InputMissingError, match=r"nowhere\.safetensors"):
        load_model("nowhere.safetensors")
    with pytest.raises(UsageError, match="'giant'"):
        load_model("giant")


def test_an_unwritable_place_is_a_sentence(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="another place"):
        save_model(tmp_path / "absent" / "m.safetensors", load_model(saved).restorer, {"halo_px": 0})
    assert list(tmp_path.iterdir()) == [saved]


@pytest.mark.parametrize("name", sorted(shipped_models()))
def test_shipped_models_load_and_are_small(name: str) -> None:
    path = shipped_models()[name]
    assert path.stat().st_size < 8e6
    model = load_model(name)
    assert model.halo_px % model.restorer.alignment_px == 0
    assert path.with_suffix(".md").is_file()


def test_how_features_join_the_prior_is_in_the_file(tmp_path: Path) -> None:
    for fusion in ("sft", "noise"):
        path, written = (
            tmp_path / f"{fusion}.safetensors",
            Restorer(get_preset("nano"), 2, with_prior=True, fusion=fusion),
        )
        save_model(path, written, {"halo_px": 96}, half=False)
        model = load_model(path)
        assert model.info.get("fusion") == (None if fusion == "sft" else "noise"), (
            "older files stay as they are"
        )
        for name, weight in written.state_dict().items():
            assert torch.equal(model.restorer.state_dict()[name], weight)
    update_info(path, {"fusion": "both"})
    with pytest.raises(
        ModelError, match="joins its prior by 'both', which this version does not know; update"
    ):
        load_model(path)

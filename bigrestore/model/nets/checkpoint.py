"""Checkpoints of the restorer: safetensors, with their metadata as one JSON text.

Metadata: preset, scale, measured halo, alignment, training, figures, and a sha256 over the tensors, checked on
loading. Nothing is ever unpickled. Weights may be stored as float16; they compute in float32 unless the run's
precision says otherwise.

A model is named by the file it lies in, or by the name of a shipped one (`tiny-x1`).
"""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import attrs
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from bigrestore.core.files import expand_home, require_path, whole_file
from bigrestore.core.regular import is_regular, regular_stat
from bigrestore.core.words import either
from bigrestore.errors import (
    InputError,
    InputMissingError,
    ModelError,
    ModelScaleError,
    OutputError,
    UsageError,
)
from bigrestore.model.nets.halo import TOLERANCE
from bigrestore.model.nets.reading.estimator import DegradationEstimator
from bigrestore.model.nets.restorer import Restorer
from bigrestore.settings.presets import FUSIONS_OF_FEATURES, PRESETS, get_preset

CHECKPOINT_FORMAT = "bigrestore-restorer/2"
OLD_CHECKPOINT_FORMAT = "bigrestore-restorer/1"
"""Its estimator read pixels and missed blur without noise; refused."""
CHECKPOINT_METADATA_KEY = "bigrestore"
LARGEST_BYTES = 4 << 30
ZERO_WHERE_MISSING = tuple(
    f"prior.coupling.{name}" for name in ("nodes", "pixels", "bridge_nodes", "bridge_pixels", "bridge_bias")
)
"""Weights missing in older models: zeros change nothing."""


@attrs.frozen(eq=False)
class Model:
    """A restorer and its checkpoint's metadata.

    Attributes
    ----------
    restorer : Restorer
        The network, in evaluation mode, float32.
    name : str
        Stem of the file.
    info : dict
        The metadata: format, preset, scale, halo_px, halo_prior_px, realness, alignment_px, prior, sha256, training.
    """

    restorer: Restorer
    name: str
    info: dict[str, Any]

    @property
    def scale(self) -> int:
        """Output pixels per input pixel."""
        return self.restorer.scale

    @property
    def halo_px(self) -> int:
        """Measured halo at realness 0, input pixels."""
        return int(self.info["halo_px"])

    @property
    def realness(self) -> float:
        """Default realness, chosen from the model's measured curves; 0 without them."""
        return float(self.info.get("realness", 0.0))

    def halo_for(self, realness: float) -> int:
        """Return the measured halo in input pixels.

        With the prior the network looks further. Its errors beyond a halo, measured at realness 1, scale with
        realness.
        """
        if realness <= 0:
            return self.halo_px
        errors = self.info.get("halo_prior_errors", {})
        small = [int(px) for px, error in errors.items() if realness * error < TOLERANCE]
        return max(self.halo_px, min([*small, int(self.info.get("halo_prior_px", self.halo_px))]))

    @property
    def sha256(self) -> str:
        """Hash of the tensors."""
        return str(self.info["sha256"])


def save_model(path: Path, restorer: Restorer, info: dict[str, Any], *, half: bool = True) -> None:
    """Write a checkpoint; the file appears under its name only when it is whole.

    Parameters
    ----------
    path : Path
        File to write, `.safetensors`.
    restorer : Restorer
        The network; the names of its preset and scale go into the metadata.
    info : dict
        JSON-able: halo_px, training, figures, whatever a model card needs.
    half : bool
        Store floating-point tensors as float16 (the kernel basis stays float32).
    """
    preset = next(name for name, known in PRESETS.items() if known == restorer.preset)
    tensors = {
        name: (t.half() if half and t.is_floating_point() and not name.startswith("basis.") else t)
        .contiguous()
        .cpu()
        for name, t in restorer.state_dict().items()
    }
    metadata = {
        "format": CHECKPOINT_FORMAT,
        "preset": preset,
        "scale": restorer.scale,
        "alignment_px": restorer.alignment_px,
        "prior": restorer.prior is not None,
        "parameters": sum(p.numel() for p in restorer.parameters()),
        **info,
        "sha256": hash_tensors(tensors),
    }
    if restorer.prior is not None and restorer.prior.fusion != FUSIONS_OF_FEATURES[0]:
        metadata["fusion"] = restorer.prior.fusion
    write_weights(path, tensors, metadata)


def load_model(name_or_path: str | Path, scale: int | None = None) -> Model:
    """Load a checkpoint and check its hash.

    Parameters
    ----------
    name_or_path : str or Path
        A file, or the name of a shipped model; a name without its scale (`tiny`) takes `scale`.
    scale : int, optional
        The wanted scale.

    Returns
    -------
    Model

    Raises
    ------
    UsageError
        It is no path, or names no shipped model.
    InputMissingError
        There is no such file.
    ModelError
        The file is damaged or foreign.
    ModelScaleError
        It is made for another scale.
    """
    require_path(name_or_path, "The model")
    path = find_model(name_or_path, scale)
    info, tensors = read_checkpoint(path)
    if scale is not None and info["scale"] != scale:
        raise ModelScaleError(
            f"the model {path} restores at scale {info['scale']}, not at {scale}; "
            f"give --scale {info['scale']} or choose another model"
        )
    return build_model(path, info, tensors)


def build_model(path: Path, info: dict[str, Any], tensors: dict[str, Tensor]) -> Model:
    """Make the model of a file's metadata and tensors, from `read_checkpoint`; ModelError where they do not fit."""
    fusion = info.get("fusion", FUSIONS_OF_FEATURES[0])
    if fusion not in FUSIONS_OF_FEATURES:
        raise ModelError(
            f"the model {path} joins its prior by {fusion!r}, which this version does not know; update bigrestore"
        )
    preset = get_preset(info["preset"])
    restorer = Restorer(preset, int(info["scale"]), with_prior=bool(info.get("prior")), fusion=fusion)
    weights = {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}
    zeros = {
        name: torch.zeros_like(t) for name, t in restorer.state_dict().items() if name in ZERO_WHERE_MISSING
    }
    try:
        restorer.load_state_dict(zeros | weights)
    except RuntimeError as error:
        raise ModelError(
            f"the model {path} does not hold the weights of its preset; fetch it again ({error})"
        ) from error
    return Model(restorer.eval(), path.stem, info)


def load_estimator(name_or_path: str | Path, scale: int | None = None) -> DegradationEstimator:
    """Load nothing but the estimator of a checkpoint; errors are those of `load_model`."""
    path = find_model(name_or_path, scale)
    _, tensors = read_checkpoint(path)
    prefix, estimator = "estimator.", DegradationEstimator()
    weights = {
        name.removeprefix(prefix): t.float() if t.is_floating_point() else t
        for name, t in tensors.items()
        if name.startswith(prefix)
    }
    try:
        estimator.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelError(
            f"the model {path} does not hold the weights of an estimator; fetch it again ({error})"
        ) from error
    return estimator.eval().requires_grad_(False)


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read metadata and tensors of a restorer's checkpoint; ModelError for a foreign or damaged file."""
    info, tensors = read_weights(path)
    require_restorer(path, info)
    return info, tensors


def require_restorer(path: Path, info: dict[str, Any]) -> None:
    """Refuse the metadata of a model file that is no restorer's of this version; ModelError."""
    if info.get("format") == OLD_CHECKPOINT_FORMAT:
        raise ModelError(
            f"the model {path} was made by an older bigrestore, whose reading of blur this version has replaced; take a "
            "shipped model, or train it again"
        )
    if "kind" in info:
        raise ModelError(f"the model {path} is a {info['kind']} and no restorer; choose one that is")
    if info.get("format") != CHECKPOINT_FORMAT:
        raise ModelError(f"the model {path} has a format that this version does not know; update bigrestore")


def read_weights(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read metadata and tensors of any model file of ours, and check its hash; ModelError for another file."""
    try:
        if regular_stat(path).st_size > LARGEST_BYTES:
            raise ModelError(
                f"the model {path} is larger than any of ours can be; choose a bigrestore checkpoint"
            )
        content = path.read_bytes()  # safetensors itself opens no path that is not UTF-8
        tensors = load(content)
        text = metadata_of(content).get(CHECKPOINT_METADATA_KEY)
        if text is None:
            raise ModelError(f"{path} is a safetensors file, but not a bigrestore model; choose one that is")
        info = json.loads(text)
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ModelError(
            f"{path} is damaged or no safetensors file ({error}); fetch the model again"
        ) from error
    except OSError as error:
        if isinstance(error, InputError):
            raise
        raise ModelError(f"the model {path} cannot be read ({error})") from error
    if not isinstance(info, dict):
        raise ModelError(f"the model {path} has a format that this version does not know; update bigrestore")
    if hash_tensors(tensors) != info.get("sha256"):
        raise ModelError(
            f"the weights in {path} do not match their sha256; the file is damaged, fetch it again"
        )
    return info, tensors


def metadata_of(content: bytes) -> dict[str, str]:
    """Return the metadata of a valid safetensors file: a JSON header after its length in eight bytes."""
    length = int.from_bytes(content[:8], "little")
    metadata: dict[str, str] = json.loads(content[8 : 8 + length]).get("__metadata__") or {}
    return metadata


def update_info(path: Path, changes: dict[str, Any]) -> None:
    """Change entries of a model file's metadata; the tensors stay as they are."""
    info, tensors = read_weights(path)
    write_weights(path, tensors, {**info, **changes})


def shipped_models() -> dict[str, Path]:
    """Return the models shipped with the package, by name."""
    folder = Path(str(resources.files("bigrestore") / "weights"))
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def find_model(name_or_path: str | Path, scale: int | None, *, others: Sequence[str] = ()) -> Path:
    """Return the file of a model, given by name or path.

    Parameters
    ----------
    name_or_path : str or Path
        As in `load_model`.
    scale : int, optional
        The wanted scale; None: any.
    others : sequence of str
        Further names for the sentence.
    """
    shipped = shipped_models()
    text = str(name_or_path)
    for name in (text, f"{text}-x{scale or 1}"):
        if name in shipped:
            return shipped[name]
    path = Path(expand_home(name_or_path))
    if is_regular(path):
        return path
    names = either([*shipped, *others]) or "none"
    if path.suffix or path.parent != Path():
        raise InputMissingError(f"there is no model file {path}; give a file, or a shipped one: {names}")
    wanted = f" for scale {scale}" if scale else ""
    raise UsageError(
        f"there is no model {text!r}{wanted}; give a .safetensors file, or a shipped one: {names}"
    )


def write_weights(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors and metadata; the file appears under its name only when it is whole."""
    with whole_file(path, follow=True) as partial:
        mode = stat.S_IMODE(partial.stat().st_mode)
        try:
            save_file(
                tensors, partial, metadata={CHECKPOINT_METADATA_KEY: json.dumps(metadata, sort_keys=True)}
            )
            partial.chmod(mode)  # safetensors lets nobody but the owner read
        except SafetensorError as error:
            raise OutputError(
                f"the model {path} cannot be written ({error}); choose another place"
            ) from error


def hash_tensors(tensors: dict[str, Tensor]) -> str:
    """Return the sha256 over names, dtypes, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

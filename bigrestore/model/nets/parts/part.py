"""Parts: trained networks that are no restorers, each in a file like a restorer's, with its kind, sizes and scale.

The package ships one part of each kind and scale, and a method takes it where no `--model` is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module, resources
from pathlib import Path
from typing import Any

import attrs
from torch import Tensor, nn

from bigrestore.core.files import expand_home
from bigrestore.core.regular import is_regular
from bigrestore.core.words import either
from bigrestore.errors import InputMissingError, ModelError, ModelScaleError, UsageError
from bigrestore.model.nets.checkpoint import (
    find_model,
    hash_tensors,
    read_weights,
    shipped_models,
    write_weights,
)

PART_FORMAT = "bigrestore-part/1"

PART_KINDS = {
    "denoiser": "drunet:DRUNet",
    "unrolled": "unrolled:Unrolled",
    "resolver": "drunet:DRUNet",
    "backbone": "backbone:BackboneNet",
    "likelihood": "pixelcnn:PixelCNN",
    "ranking": "ranking:RankingNet",
    "degradation": "learned_degradation:LearnedDegradation",
    "objective": "objective:ObjectiveHead",
}
"""`module:class` of each kind, in this folder; the sizes of a part are the arguments of its class."""


@attrs.frozen(eq=False)
class TrainedPart:
    """A network and its metadata.

    Attributes
    ----------
    network : nn.Module
        In evaluation mode, float32.
    name : str
        Stem of the file.
    info : dict
        The metadata: format, kind, sizes, scale, halo_px, alignment_px, parameters, sha256, training.
    """

    network: nn.Module
    name: str
    info: dict[str, Any]

    @property
    def identity(self) -> dict[str, str]:
        """What identifies it in plans, fingerprints and provenance."""
        return {"model": self.name, "sha256": str(self.info["sha256"])}


def make_network(kind: str, sizes: dict[str, Any]) -> nn.Module:
    """Return a new network of a kind.

    Raises
    ------
    ModelError
        The kind or one of its sizes is unknown.
    """
    module, _, name = PART_KINDS.get(kind, "").partition(":")
    if not module:
        raise ModelError(f"This version knows no part of the kind {kind!r}; update bigrestore.")
    try:
        network: nn.Module = getattr(import_module(f"bigrestore.model.nets.parts.{module}"), name)(**sizes)
    except TypeError as error:
        raise ModelError(f"This version knows no {kind} of the sizes {sizes}; update bigrestore.") from error
    return network


def save_part(path: Path, network: nn.Module, kind: str, scale: int, info: dict[str, Any]) -> None:
    """Write a part, its weights as float16; `info` has its sizes, its halo, and whatever its card needs."""
    tensors = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous().cpu()
        for name, tensor in network.state_dict().items()
    }
    facts = {
        "format": PART_FORMAT,
        "kind": kind,
        "scale": scale,
        "parameters": sum(weight.numel() for weight in network.parameters()),
    }
    write_weights(path, tensors, {**facts, **info, "sha256": hash_tensors(tensors)})


def load_part(
    kinds: str | Sequence[str],
    scale: int | None,
    name_or_path: str | Path | None = None,
    option: str = "--model",
) -> TrainedPart:
    """Load a part.

    Parameters
    ----------
    kinds : str or sequence of str
        Of `PART_KINDS`; of several the first is wanted, and the others will do.
    scale : int, optional
        Output pixels per input pixel; None: any, of a file that is named.
    name_or_path : str or Path, optional
        A file, or the name of a shipped part; None: the shipped one of this kind and scale.
    option : str
        What the user names a file by, for the sentence.

    Raises
    ------
    InputMissingError
        There is no such file.
    UsageError
        None of this kind is shipped for the scale, or the file is a part of another kind.
    ModelError
        The file is damaged or foreign.
    ModelScaleError
        It is made for another scale.
    """
    allowed = [kinds] if isinstance(kinds, str) else kinds
    kind, path = allowed[0], find_part(allowed[0], scale, name_or_path, option)
    info, tensors = read_weights(path)
    if info.get("format") != PART_FORMAT or info.get("kind") not in allowed:
        what = info.get("kind", "restorer" if "preset" in info else "file of another program")
        own = f"{kind}-x{scale}"
        raise UsageError(
            f"{option.partition('=')[0]} is {name_or_path}, {_with_article(what)}, and {_with_article(kind)} is asked for; "
            + (f"leave it out for {own}, which ships" if own in shipped_parts() else "choose another file")
            + f", or name a file of `bigrestore train {kind}`."
        )
    if scale is not None and info["scale"] != scale:
        raise ModelScaleError(
            f"The model {path} is made for scale {info['scale']}, not for {scale}; give --scale {info['scale']} or choose "
            "another model."
        )
    return build_part(path, info, tensors)


def build_part(path: Path, info: dict[str, Any], tensors: dict[str, Tensor]) -> TrainedPart:
    """Make the part of a file's metadata and tensors, from `read_weights`; ModelError where they do not fit."""
    network = make_network(info["kind"], info["sizes"])
    try:
        network.load_state_dict(
            {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}
        )
    except RuntimeError as error:
        raise ModelError(
            f"The model {path} does not hold the weights of its sizes; fetch it again."
        ) from error
    return TrainedPart(network.eval().requires_grad_(False), path.stem, info)


def find_part(kind: str, scale: int | None, name_or_path: str | Path | None, option: str) -> Path:
    """Return the file of a part; see `load_part`."""
    shipped = shipped_parts()
    if name_or_path is None:
        if f"{kind}-x{scale}" not in shipped:
            raise UsageError(
                f"A trained {kind} for scale {scale} is needed, and none is shipped; name a file of "
                f"`bigrestore train {kind}` by {option}."
            )
        return shipped[f"{kind}-x{scale}"]
    everything = shipped_models() | shipped
    if str(name_or_path) in everything:
        return everything[str(name_or_path)]
    path = Path(expand_home(name_or_path))
    if not is_regular(path):
        own = either([name for name in shipped if name.startswith(f"{kind}-")])
        ships = f"or the shipped {own}" if own else f"as `bigrestore train {kind}` writes it"
        raise InputMissingError(f"There is no model file {path}; give a file, {ships}.")
    return path


def find_weights(name_or_path: str | Path) -> Path:
    """Return the file of a model or a part, given by the name of a shipped one or by its path.

    Raises
    ------
    InputMissingError
        There is no such file.
    UsageError
        Nothing of this name is shipped.
    """
    parts = shipped_parts()
    if str(name_or_path) in parts:
        return parts[str(name_or_path)]
    return find_model(name_or_path, None, others=tuple(parts))


def _with_article(kind: str) -> str:
    return f"{'an' if kind[:1] in 'aeiou' else 'a'} {kind}"


def shipped_parts() -> dict[str, Path]:
    """Return the parts shipped with the package, by name."""
    folder = Path(str(resources.files("bigrestore") / "weights" / "parts"))
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}

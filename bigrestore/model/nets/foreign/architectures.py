"""Architectures of the field, recognised by the names of their weights and built by the package spandrel.

spandrel recognises by some names and leaves others aside, so a file may load as a network that uses a fraction of it: the
number of weights of file and network must agree. Its own reader of files is not used, because it runs TorchScript.
"""

from __future__ import annotations

import importlib
import re
import warnings
from typing import Any

import torch
from torch import Tensor

from bigrestore.core.host.installed import install_command
from bigrestore.core.torchvision import import_torchvision
from bigrestore.errors import ModelError, UsageError, one_line
from bigrestore.model.device import DTYPES, choose_precision
from bigrestore.model.nets.foreign.files import ForeignWeights
from bigrestore.model.nets.foreign.network import SIDE_PX, ForeignNetwork, require_channels, require_scale

UNFIT = {
    "GFPGAN": "is made for faces",
    "RestoreFormer": "is made for faces",
    "CodeFormer": "is made for faces",
    "LaMa": "is made for filling holes",
    "MAT": "is made for filling holes",
    "DDColor": "is made for colouring grey images",
    "AuraSR": "adds random noise to its input",
}
"""Why networks of an architecture are refused."""
LICENCES = {
    "HAT": "Apache-2.0",
    "Uformer": "MIT",
    "DRUNet": "MIT",
    "ESRGAN": "Apache-2.0; Real-ESRGAN: BSD-3-Clause",
    "SwinIR": "Apache-2.0",
    "NAFNet": "MIT",
    "SCUNet": "Apache-2.0",
    "DAT": "Apache-2.0",
}
"""Of the original project."""
RESTRICTED = "not for commercial use, or copyleft; see the original project"
EXTRA_ARCHITECTURES = {
    "SRFormer": "layers.0.residual_group.blocks.0.attn.aligned_relative_position_index",
    "Restormer": "encoder_level1.0.attn.temperature",
    "MPRNet": "stage1_encoder.encoder_level1.0.CA.conv_du.0.weight",
    "MIRNet2": "body.0.body.0.dau_top.body.0.weight",
    "M3SNet": "middle_blks.0.qkv_dwconv.weight",
    "CodeFormer": "idx_pred_layer.1.weight",
    "AdaCode": "weight_predictor.blocks.0.swin_blks.0.residual_group.blocks.0.norm1.weight",
    "FeMaSR": "multiscale_encoder.in_conv.weight",
    "DDColor": "refine_net.0.0.weight_orig",
    "MAT": "synthesis.first_stage.conv_first.conv.resample_filter",
}
"""A weight that no other architecture has, of each architecture of the package spandrel_extra_arches."""
BUFFERS = re.compile(
    r"(^|\.)(\w*relative_position_index\w*|attn_mask\w*|relative_coords_table|rel_pos_indices"
    r"|table_\w+|index_\w+|mask_\w+)$"
)
"""Tables made from the sizes of a network: files hold them or not, and spandrel makes them again."""
SFT_LAYERS = re.compile(r"(^|[._])sft", re.IGNORECASE)
"""Layers by which the generator of SROOE differs from the plain one."""


def load_architecture(
    weights: ForeignWeights, scale: int, device: torch.device, precision: str
) -> ForeignNetwork:
    """Build the network of a file's weights; parameters and errors as in `load_foreign`."""
    path, tensors = weights.path, weights.tensors
    architecture = recognise_architecture(weights)
    if architecture in UNFIT:
        raise UsageError(
            f"{path} {UNFIT[architecture]} ({architecture}); choose a network that restores images."
        )
    spandrel = importlib.import_module("spandrel")
    try:
        with warnings.catch_warnings():  # of torch about code in spandrel
            warnings.simplefilter("ignore")
            descriptor = spandrel.ModelLoader(torch.device("cpu")).load_from_state_dict(dict(tensors))
    except Exception as error:
        raise ModelError(
            f"{path} does not hold the weights of a network {architecture}, whose names it has ({_short(error)}); fetch it "
            "again, or export it to ONNX."
        ) from error
    _require_all_used(weights, architecture, descriptor.model.state_dict())
    require_scale(path, descriptor.scale, scale)
    require_channels(path, descriptor.input_channels, descriptor.output_channels)
    precision = _precision(weights, descriptor, precision, device)
    dtype = DTYPES[precision]
    model = descriptor.to(device, dtype).eval().model.requires_grad_(False)
    told_noise = architecture == "DRUNet"

    def run(image: Tensor, noise: Tensor) -> Tensor:
        image, noise = image.to(dtype), noise.to(dtype)
        # spandrel's own call of a DRUNet fixes the noise at 15 of 255.
        made: Tensor = model(torch.cat([image, noise], dim=1)) if told_noise else descriptor(image)
        return made.float()

    return ForeignNetwork(
        run,
        path.stem,
        weights.sha256,
        architecture,
        RESTRICTED if architecture in EXTRA_ARCHITECTURES else LICENCES.get(architecture, ""),
        descriptor.scale,
        descriptor.input_channels,
        SIDE_PX,
        precision,
        _elements(tensors),
        told_noise,
    )


def recognise_architecture(weights: ForeignWeights) -> str:
    """Return spandrel's name of a file's architecture.

    Raises
    ------
    UsageError
        spandrel is not installed, or not the package with the architecture.
    ModelError
        It knows no such architecture.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import_torchvision()
            spandrel = importlib.import_module("spandrel")
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed; {install_command('external')}.") from error
    tensors = weights.tensors
    for name, mark in EXTRA_ARCHITECTURES.items():
        if mark in tensors:
            _install_extra(weights, name)
            return name
    for support in spandrel.MAIN_REGISTRY.architectures("detection"):
        if support.detect(tensors):
            return str(support.architecture.id)
    raise ModelError(f"{weights.path} is of no architecture that spandrel knows; export the network to ONNX.")


def _install_extra(weights: ForeignWeights, name: str) -> None:
    """Add the architectures of spandrel_extra_arches to spandrel's."""
    if name in UNFIT:
        return
    try:
        importlib.import_module("spandrel_extra_arches").install(ignore_duplicates=True)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{weights.path} needs spandrel_extra_arches ({name}), whose parts are not for commercial use, or copyleft; "
            "install it if that suits you."
        ) from error


def _require_all_used(weights: ForeignWeights, architecture: str, used: dict[str, Tensor]) -> None:
    """Refuse a file of which the network takes a part."""
    tensors = weights.tensors
    if _elements(tensors) == _elements(used):
        return
    of_srooe = " (SROOE's has sft layers)" if any(map(SFT_LAYERS.search, tensors)) else ""
    raise ModelError(
        f"{weights.path} holds {len(tensors)} tensors of which the architecture {architecture} takes {len(used)}; it is "
        f"another network{of_srooe}, export it to ONNX."
    )


def _elements(tensors: dict[str, Tensor]) -> int:
    """Return the number of elements in tensors, without those of known buffers."""
    return sum(tensor.numel() for name, tensor in tensors.items() if not BUFFERS.search(name))


def _precision(weights: ForeignWeights, descriptor: Any, asked: str, device: torch.device) -> str:
    """Return the precision asked for, fp32 for "auto"."""
    precision = choose_precision("fp32" if asked == "auto" else asked, device)
    able = {"fp32": True, "bf16": descriptor.supports_bfloat16, "fp16": descriptor.supports_half}
    if not able[precision]:
        names = " or ".join(name for name, possible in able.items() if possible)
        raise UsageError(
            f"--precision is {precision}, and the network {descriptor.architecture.name} in {weights.path} computes in "
            f"{names}; change it."
        )
    return precision


def _short(error: Exception) -> str:
    text = one_line(error)
    return text if len(text) <= 120 else f"{text[:117]}..."

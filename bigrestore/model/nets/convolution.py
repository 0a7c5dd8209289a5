"""Convolutions with what follows them, in one pass over the pixels: for restoring on a processor.

After a convolution of few channels most time goes into reading and writing its pixels again, to scale, bend and add
them. oneDNN, torch's library for processors, does all of it as it writes a pixel, in the precision of the sum.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

SLOPE = 0.2
"""Of the leaky ReLUs of U-Net and bridge below zero."""


def is_fused(x: Tensor) -> bool:
    """Return whether the convolutions of these images can be fused: on a processor, without gradients."""
    return (
        x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and _takes(x.dtype)
    )


@cache
def _takes(dtype: torch.dtype) -> bool:
    """Return whether oneDNN is at hand, and computes in a precision on this processor."""
    library = torch.ops.mkldnn
    if dtype == torch.bfloat16:
        return hasattr(library, "_is_mkldnn_bf16_supported") and bool(library._is_mkldnn_bf16_supported())
    return dtype == torch.float32 and hasattr(library, "_convolution_pointwise")


def bent(x: Tensor, weight: Tensor, bias: Tensor | None, slope: float) -> Tensor:
    """Return the leaky ReLU of a convolution with zeros around the images; see `is_fused`.

    Parameters
    ----------
    x : Tensor, (N, C, H, W)
        Images.
    weight : Tensor, (C', C, k, k)
        Filters, k odd; weight and bias are brought to the precision of the images.
    bias : Tensor, (C',), optional
        Added before.
    slope : float
        Of the leaky ReLU below zero; 0 is a ReLU.

    Returns
    -------
    Tensor, (N, C', H, W)
    """
    fused: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x, *_filters(x, weight, bias), *_geometry(weight), "leaky_relu", [slope], ""
    )
    return fused


def added(x: Tensor, weight: Tensor, bias: Tensor | None, to: Tensor) -> Tensor:
    """Return the sum of a convolution and other images, (N, C', H, W); the other arguments are those of `bent`."""
    fused: Tensor = torch.ops.mkldnn._convolution_pointwise.binary(
        x, to, *_filters(x, weight, bias), *_geometry(weight), "add", 1.0, None, [], None
    )
    return fused


def _filters(x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return weight and bias in the precision of the images."""
    return weight.to(x.dtype), None if bias is None else bias.to(x.dtype)


def _geometry(weight: Tensor) -> tuple[list[int], list[int], list[int], int]:
    """Return padding, stride, dilation and groups of a convolution that keeps the size."""
    return [weight.shape[-1] // 2] * 2, [1, 1], [1, 1], 1

"""Counts what makes the host wait for a device."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

READS = {"aten::item", "aten::_local_scalar_dense", "aten::is_nonzero", "aten::nonzero", "aten::equal"}
COPIES = {"aten::to", "aten::_to_copy"}
"""In inference mode torch shows the first of both names, else the second."""


class Waits(TorchDispatchMode):
    """Lists reads by the host, and copies between devices for which the host waits."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = (kwargs or {}) | {
            argument.name: value for argument, value in zip(func._schema.arguments, args, strict=False)
        }
        name = func._schema.name
        if name in READS:
            self.seen.append(name)
        if name in COPIES and not named.get("non_blocking"):
            source = named["self"].device.type
            target = torch.device(named.get("device") or source).type
            if source != target:
                self.seen.append(f"{source} to {target}")
        return func(*args, **(kwargs or {}))


class _Calls(TorchFunctionMode):
    """Lists calls of torch's functions."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if self.waits(func, args, given):
            self.seen.append(f"{func.__name__} of {args[0]!r:.40}")
        return func(*args, **given)

    def waits(self, func: Any, args: tuple[Any, ...], given: dict[str, Any]) -> bool:
        """Tell whether the host waits for a device."""
        raise NotImplementedError


class Literals(_Calls):
    """Lists tensors made of Python numbers on a device: their copy waits."""

    def waits(self, func: Any, args: tuple[Any, ...], given: dict[str, Any]) -> bool:
        return func is torch.tensor and torch.device(given.get("device") or "cpu").type != "cpu"


class Sends(_Calls):
    """Lists copies to a device for which the host would wait, were the device another one than the processor."""

    def waits(self, func: Any, args: tuple[Any, ...], given: dict[str, Any]) -> bool:
        if func in (torch.tensor, torch.as_tensor):
            return "device" in given
        to_device = func is torch.Tensor.to and (isinstance(args[1], torch.device) or "device" in given)
        return to_device and not given.get("non_blocking")

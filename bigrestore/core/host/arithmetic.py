"""Arithmetic of torch while a run or a training is at work: float32 in full, and the same bytes where asked for.

On a GPU torch lets cuDNN round the factors of float32 convolutions to 10 bits (TF32), which is half a level of 8 bits.
Guards, re-degradation and losses compare finer than that. Networks in 16 bits do not use TF32, so it is always off.

These flags belong to the process. Whoever comes first sets them, and the last one to leave restores them: runs in
several threads do not undo each other's.
"""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
REPEATABLE_WORKSPACES = (":4096:8", ":16:8")
"""Values under which cuBLAS gives the same bytes; it reads them when its first handle is made."""

Undo = Callable[[], None]


class HeldSetting:
    """A setting of the process, applied while anyone holds it.

    Parameters
    ----------
    apply : callable
        Applies the setting; returns what restores the former one.
    """

    def __init__(self, apply: Callable[[], Undo]) -> None:
        self._apply, self._lock = apply, threading.Lock()
        self._holders = 0
        self._undo: Undo = lambda: None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the setting."""
        with self._lock:
            if not self._holders:
                self._undo = self._apply()
            self._holders += 1
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
                if not self._holders:
                    self._undo()


@contextlib.contextmanager
def exact_arithmetic(*, deterministic: bool = False) -> Iterator[None]:
    """Let torch compute float32 in float32; `deterministic` also refuses operations with varying bytes."""
    with contextlib.ExitStack() as held:
        held.enter_context(_FULL_FLOAT32.held())
        if deterministic:
            held.enter_context(_SAME_BYTES.held())
        yield


@contextlib.contextmanager
def repeatable_convolutions() -> Iterator[None]:
    """Let cuDNN choose convolutions that give the same bytes, for what amplifies their last digits."""
    with _REPEATABLE_CONVOLUTIONS.held():
        yield


def _full_float32() -> Undo:
    """Switch TF32 and other shortcuts of float32 off."""
    import torch

    cudnn, leaves = torch.backends.cudnn, _precisions()
    matmul = torch.get_float32_matmul_precision()
    former = [leaf.fp32_precision for leaf in leaves]
    try:
        convolution = cudnn.allow_tf32
    except RuntimeError:  # set per operation: the flags of the older API contradict those of the newer one
        convolution = None

    def set_older(matmul: str, convolution: bool | None) -> None:
        with warnings.catch_warnings():  # the older API is deprecated, but must agree with the newer one
            warnings.simplefilter("ignore")
            torch.set_float32_matmul_precision(matmul)
            if convolution is not None:
                cudnn.allow_tf32 = convolution

    def undo() -> None:
        set_older(matmul, convolution)
        for leaf, precision in zip(leaves, former, strict=True):
            leaf.fp32_precision = precision

    set_older("highest", False)
    for leaf in leaves:
        leaf.fp32_precision = "ieee"
    return undo


def _precisions() -> list[Any]:
    """Return the operations with a float32 precision of their own; none before torch 2.9."""
    import torch

    groups = ((torch.backends.cudnn, ("conv", "rnn")), (torch.backends.mkldnn, ("matmul", "conv", "rnn")))
    named = [getattr(group, name, None) for group, names in groups for name in names]
    return [
        leaf for leaf in (torch.backends.cuda.matmul, *named) if leaf is not None and _has_precision(leaf)
    ]


def _has_precision(leaf: Any) -> bool:
    """Tell whether an operation has a float32 precision; the flags before torch 2.9 raise for unknown names."""
    try:
        return isinstance(leaf.fp32_precision, str)
    except (AttributeError, AssertionError):
        return False


def _same_bytes() -> Undo:
    """Choose deterministic algorithms."""
    import torch

    cudnn, workspace = torch.backends.cudnn, os.environ.get(CUBLAS_WORKSPACE)
    strict, warns = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    memory: Any = torch.utils.deterministic
    filled = memory.fill_uninitialized_memory
    flags = cudnn.deterministic, cudnn.benchmark

    def undo() -> None:
        torch.use_deterministic_algorithms(strict, warn_only=warns)
        memory.fill_uninitialized_memory = filled
        cudnn.deterministic, cudnn.benchmark = flags
        if workspace is None:
            os.environ.pop(CUBLAS_WORKSPACE, None)
        else:
            os.environ[CUBLAS_WORKSPACE] = workspace

    if workspace not in REPEATABLE_WORKSPACES:
        os.environ[CUBLAS_WORKSPACE] = REPEATABLE_WORKSPACES[0]
    torch.use_deterministic_algorithms(True, warn_only=False)
    memory.fill_uninitialized_memory = False  # every byte that is read is written before
    cudnn.deterministic, cudnn.benchmark = True, False
    return undo


def _same_convolutions() -> Undo:
    """Choose deterministic convolutions of cuDNN."""
    import torch

    cudnn = torch.backends.cudnn
    flags = cudnn.deterministic, cudnn.benchmark

    def undo() -> None:
        cudnn.deterministic, cudnn.benchmark = flags

    cudnn.deterministic, cudnn.benchmark = True, False
    return undo


_REPEATABLE_CONVOLUTIONS = HeldSetting(_same_convolutions)
_FULL_FLOAT32 = HeldSetting(_full_float32)
_SAME_BYTES = HeldSetting(_same_bytes)

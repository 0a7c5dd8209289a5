"""Importing torchvision beside any build of torch.

The packages `pyiqa` and `spandrel` import it, and use nothing of it that is compiled. PyPI's build does not import beside
a CPU build of torch: its compiled part stays unloaded, and then its Python part registers operators that are not
declared. Declared here, they are never called.
"""

from __future__ import annotations

import importlib
import threading
from typing import Any

_kept_libraries: list[Any] = []
_torchvision_lock = threading.Lock()


def import_torchvision() -> None:
    """Import torchvision even if its compiled part was built for another torch.

    Raises
    ------
    ModuleNotFoundError
        It is not installed.
    """
    import torch

    with _torchvision_lock:
        try:
            importlib.import_module("torchvision")
        except RuntimeError as error:
            if "torchvision::" not in str(error):
                raise
            make_library: Any = torch.library.Library
            library = make_library("torchvision", "FRAGMENT")
            for operator in ("nms", "qnms"):
                library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _kept_libraries.append(library)
            importlib.import_module("torchvision")

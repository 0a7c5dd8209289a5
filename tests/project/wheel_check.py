"""Build wheel and source distribution, install the wheel into an empty environment, and restore an image there.

What works in a checkout may be missing from the wheel: a recipe, a model, a dependency that the tests brought. So
the image is restored from another folder, by a Python that has never heard of the repository. The source distribution
holds what git tracks and nothing else, and its tests of a few seconds pass where it is unpacked. `make wheel` runs this.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DIST = ROOT / "dist"
MUST_HOLD = ("py.typed", "degradation/recipes/default.toml", "degradation/recipes/bigbrain.toml")
NOT_IN_SDIST = (".ci/", ".gitignore")
"""Tracked, but of the repository alone."""
MADE_BY_SETUPTOOLS = ("PKG-INFO", "setup.cfg", "bigrestore.egg-info/")
SDIST_TESTS = (
    "tests/project/test_metadata.py",
    "tests/degradation/test_recipe.py",
    "tests/io/test_precomputed.py",
)
MAKE_IMAGE = (
    "import numpy as np; from PIL import Image; y, x = np.mgrid[:320, :256]; "
    "values = 150 + 80 * np.sin(y / 5) * np.cos(x / 6); "
    "noise = np.random.default_rng(0).normal(0, 3, values.shape); "
    "Image.fromarray(np.clip(values + noise, 0, 255).astype('uint8')).save('section.png')"
)


def build() -> Path:
    """Build the wheel into dist/ and return it."""
    for old in DIST.glob("bigrestore-*.whl"):
        old.unlink()
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(DIST),
        str(ROOT),
    ]
    subprocess.run(command, check=True)
    (wheel,) = DIST.glob("bigrestore-*.whl")
    return wheel


def check_contents(wheel: Path) -> list[str]:
    """Stop where the wheel lacks a file or holds what it should not; return the models inside."""
    names = zipfile.ZipFile(wheel).namelist()
    missing = [name for name in MUST_HOLD if f"bigrestore/{name}" not in names]
    licences = [name for name in ("LICENSE", "NOTICE") if not any(n.endswith(f"/{name}") for n in names)]
    strangers = [name for name in names if not name.startswith("bigrestore")]
    if missing or licences or strangers:
        raise SystemExit(f"{wheel.name} lacks {missing + licences} and holds {strangers}")
    return [Path(name).stem for name in names if name.endswith(".safetensors")]


def build_sdist() -> Path:
    """Build the source distribution into dist/ and return it."""
    for old in DIST.glob("bigrestore-*.tar.gz"):
        old.unlink()
    with tempfile.TemporaryDirectory() as name:
        python = Path(name) / "bin" / "python"
        venv.create(name, with_pip=True)
        for words in (
            ("pip", "install", "--quiet", "--disable-pip-version-check", "build"),
            ("build", "--sdist", "--outdir", str(DIST), str(ROOT)),
        ):
            subprocess.run([str(python), "-m", *words], check=True, stdout=subprocess.DEVNULL)
    (sdist,) = DIST.glob("bigrestore-*.tar.gz")
    return sdist


def check_sdist(sdist: Path) -> None:
    """Stop where the source distribution lacks a tracked file, holds another, or fails its tests."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    tracked = {name for name in listed.stdout.split("\0") if name and not name.startswith(NOT_IN_SDIST)}
    with tarfile.open(sdist) as archive, tempfile.TemporaryDirectory() as folder:
        files = {member.name.partition("/")[2] for member in archive if member.isfile()}
        missing = sorted(tracked - files)
        strangers = sorted(name for name in files - tracked if not name.startswith(MADE_BY_SETUPTOOLS))
        if missing or strangers:
            raise SystemExit(f"{sdist.name} lacks {missing} and holds {strangers}, which git does not track")
        archive.extractall(folder, filter="data")
        (unpacked,) = Path(folder).iterdir()
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *SDIST_TESTS]
        subprocess.run(command, check=True, cwd=unpacked, env=os.environ | {"PYTHONPATH": str(unpacked)})


def restore(wheel: Path, models: list[str]) -> None:
    """Install the wheel into an empty environment and run it there."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        venv.create(folder / "env", with_pip=True)
        python = folder / "env" / "bin" / "python"
        install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel)]
        constraints = ["--constraint", str(ROOT / "constraints.txt")]
        clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

        def run(*words: str | Path) -> None:
            subprocess.run([str(word) for word in words], check=True, cwd=folder, env=clean)

        run(python, *install, *constraints)
        run(python, "-c", MAKE_IMAGE)
        program = folder / "env" / "bin" / "bigrestore"
        flags = [] if "tiny-x1" in models else ["--method", "rational"]
        run(program, "run", "section.png", "restored.ome.zarr", *flags)
        run(program, "verify", "restored.ome.zarr")
        run(program, "models", "list")


def main() -> None:
    """Build, look inside, test, install, restore."""
    sdist = build_sdist()
    check_sdist(sdist)
    print(
        f"{sdist.relative_to(ROOT)}: {sdist.stat().st_size / 1e6:.1f} MB, as git tracks it; its tests pass there."
    )
    wheel = build()
    models = check_contents(wheel)
    print(
        f"{wheel.relative_to(ROOT)}: {wheel.stat().st_size / 1e6:.1f} MB, models: {', '.join(models) or 'none'}"
    )
    restore(wheel, models)
    print(f"{wheel.name} installs into an empty environment and restores an image there.")


if __name__ == "__main__":
    main()

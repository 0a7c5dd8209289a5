"""Build the wheel, install it into an empty environment, and restore an image with nothing else around.

What works in a checkout may be missing from the wheel: a recipe, a model, a dependency that the tests brought. So
the image is restored from another folder, by a Python that has never heard of the repository. `make wheel` runs this.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DIST = ROOT / "dist"
MUST_HOLD = ("py.typed", "degradation/recipes/default.toml", "degradation/recipes/bigbrain.toml")
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
    """Build, look inside, install, restore."""
    wheel = build()
    models = check_contents(wheel)
    print(
        f"{wheel.relative_to(ROOT)}: {wheel.stat().st_size / 1e6:.1f} MB, models: {', '.join(models) or 'none'}"
    )
    restore(wheel, models)
    print(f"{wheel.name} installs into an empty environment and restores an image there.")


if __name__ == "__main__":
    main()

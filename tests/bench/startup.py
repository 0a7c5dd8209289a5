"""How long `bigrestore --help` takes, as a user waits for it: a new process, the median of several.

python -m tests.bench.startup
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from tests.bench.metrics import Figure, figure_table, write_json

TARGET_S = 0.5
TIMES = 7
HEAVY = ("torch", "zarr", "dask", "numpy")
PROBE = (
    "import sys; import bigrestore.cli.app; "
    f"print(','.join(name for name in {HEAVY!r} if name in sys.modules) or 'none')"
)


def measure() -> list[Figure]:
    """Return the figures of this module, and write them."""
    program = Path(sys.executable).with_name("bigrestore")
    seconds = []
    for _ in range(TIMES):
        started = time.perf_counter()
        subprocess.run([str(program), "--help"], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - started)
    loaded = subprocess.run([sys.executable, "-c", PROBE], check=True, capture_output=True, text=True)
    imported = loaded.stdout.strip()
    median = statistics.median(seconds)
    write_json("startup", {"seconds": seconds, "median_s": median, "heavy_imports": imported})
    return [
        Figure("bigrestore --help", f"< {TARGET_S} s", f"{median:.2f} s", median < TARGET_S),
        Figure("  torch, zarr, dask, numpy imported by it", "none", imported, imported == "none"),
    ]


if __name__ == "__main__":
    print(figure_table(measure()))

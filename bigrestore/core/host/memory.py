"""Memory of the process: what a tile frees, the next one takes again.

By default the C library of Linux gives large arrays back to the system as soon as they are freed, and every thread has a
pool of its own. A tile frees and takes gigabytes, and the system clears each page anew: a third of the time of a run.
"""

from __future__ import annotations

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""Numbers of the options of glibc's `mallopt` (malloc.h)."""

KEPT_BELOW = 2**30
"""Larger arrays go back to the system at once, bytes."""


def keep_freed_memory() -> bool:
    """Keep freed memory in one pool of the process, where its C library is glibc; return whether it does.

    Call it before threads are started: those that run keep their pools. Settings of the environment (`MALLOC_...`) hold.
    """
    if not sys.platform.startswith("linux") or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    option = getattr(ctypes.CDLL(None), "mallopt", None)
    if option is None:
        return False
    never = -1
    wanted = {M_ARENA_MAX: 1, M_MMAP_THRESHOLD: KEPT_BELOW, M_TRIM_THRESHOLD: never}
    taken = [option(name, value) for name, value in wanted.items()]
    return taken == [1] * len(wanted)

"""A worker process: `python -m bigrestore.run.workers.main`, with its order as a line of JSON on standard input.

It is started as a module: `multiprocessing` would run the caller's script again. It answers by lines of JSON: ready,
tiles restored, log lines, a fatal error. Its blocks are seen in the journal. It pins itself to its processors before any
library counts them.

When its input ends its parent is dead. The process ends at once, to keep out of the way of a resumed run.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import threading
from typing import Any, TextIO

from bigrestore.core.host.memory import keep_freed_memory
from bigrestore.core.host.streams import keep_streams

ORPHANED = 75
"""Exit code of a stopped worker, or one without a parent."""


class Parent(logging.Handler):
    """Takes messages and log lines for the parent.

    Parameters
    ----------
    pipe : TextIO
        Where to.
    """

    def __init__(self, pipe: TextIO) -> None:
        super().__init__()
        self._pipe, self._one_at_a_time = pipe, threading.Lock()

    def send(self, **message: Any) -> None:
        """Write a message."""
        with self._one_at_a_time:
            self._pipe.write(json.dumps(message) + "\n")
            self._pipe.flush()

    def emit(self, record: logging.LogRecord) -> None:
        """Send a log line with its level."""
        with contextlib.suppress(OSError):  # the parent is gone, and with it whoever would read this
            self.send(log=[record.levelno, record.name, self.format(record)])


def run_worker() -> None:
    """Carry out the order."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    keep_freed_memory()
    keep_streams()
    parent = Parent(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)  # whatever a library prints goes to the log and not into the answers
    first = json.loads(sys.stdin.readline())
    threading.Thread(target=_leave_with_parent, name="parent-watch", daemon=True).start()
    if first["cpus"] and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, first["cpus"])
    logger = logging.getLogger("bigrestore")
    logger.addHandler(parent)
    logger.setLevel(first["log_level"])
    from bigrestore.core.host.signals import WARNINGS, handled
    from bigrestore.errors import GpuLostError
    from bigrestore.run.stop import StopFlag
    from bigrestore.run.workers.loop import Order, work

    flag = StopFlag()

    def stop(number: int, _: Any) -> None:
        flag.signal_number = number

    try:
        with handled(WARNINGS, stop):
            work(
                Order(**first["order"]),
                flag,
                lambda: parent.send(ready=os.getpid()),
                lambda block, tiles: parent.send(tiles=[block.z, block.row, block.column, tiles]),
            )
        code = ORPHANED if flag else 0
    except BrokenPipeError:
        code = ORPHANED
    except GpuLostError as error:  # its blocks are another process's, which takes over their locks
        logger.warning("%s", error)
        code = error.exit_code
    except Exception as error:
        logger.debug("The worker ends.", exc_info=True)
        parent.send(fatal=[type(error).__name__, str(error)])
        code = 1
    os._exit(code)  # a tile that is stuck in a library must not keep the process


def _leave_with_parent() -> None:
    """End this process when its parent is gone."""
    sys.stdin.read()
    os._exit(ORPHANED)


if __name__ == "__main__":
    run_worker()

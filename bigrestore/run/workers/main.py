"""A process that carries out blocks: `python -m bigrestore.run.workers.main`, fed through its standard input.

It is started as a module and not by `multiprocessing`, which would run the caller's script again in each of them. All
messages are one line of JSON. The first one is the order with the processors to run on, each one after it a block; the
answers are records of blocks, lines for the log, or why it ends. It pins itself before anything that counts processors
is imported.

When the input ends without a word its parent is dead: the process leaves at once, and what it had in hand stays
marked for the run that goes on. None is left behind to write into that run's blocks.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from bigrestore.core.geometry import Block
    from bigrestore.run.state.records import BlockRecord
    from bigrestore.run.stop import StopFlag
    from bigrestore.run.workers.worker import Feed, Order

ORPHANED = 75
"""Exit code of a worker whose parent is gone."""


class Sender:
    """Writes messages, one at a time.

    Parameters
    ----------
    sink : TextIO
        Where to.
    """

    def __init__(self, sink: TextIO) -> None:
        self._sink, self._lock = sink, threading.Lock()

    def send(self, **message: Any) -> None:
        """Write a message."""
        with self._lock:
            self._sink.write(json.dumps(message) + "\n")
            self._sink.flush()


class LogSender(logging.Handler):
    """Hands log lines to the parent, which writes them as its own."""

    def __init__(self, sender: Sender) -> None:
        super().__init__()
        self._sender = sender

    def emit(self, record: logging.LogRecord) -> None:
        """Send a line with its level."""
        try:
            self._sender.send(log=[record.levelno, record.name, self.format(record)])
        except OSError:  # the parent is gone, and with it whoever would read this
            return


def main() -> None:
    """Serve until there are no more blocks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    sender = Sender(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)  # whatever a library prints goes to the log and not into the answers
    first = json.loads(sys.stdin.readline())
    if first["cpus"] and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, first["cpus"])
    logger = logging.getLogger("bigrestore")
    logger.addHandler(LogSender(sender))
    logger.setLevel(first["log_level"])
    from bigrestore.run.workers.worker import Order

    try:
        serve(Order(**first["order"]), sender)
        code = 0
    except BrokenPipeError:
        code = ORPHANED
    except Exception as error:
        logger.debug("The worker ends.", exc_info=True)
        sender.send(fatal=[type(error).__name__, str(error)])
        code = 1
    os._exit(code)  # a tile that is stuck in a library must not keep the process


def serve(order: Order, sender: Sender) -> None:
    """Open the run and carry out what comes."""
    from bigrestore.core.signals import WARNINGS, handled
    from bigrestore.run.stop import StopFlag
    from bigrestore.run.workers.worker import Feed, Worker

    flag, feed = StopFlag(), Feed()
    grid_names: dict[str, int] = {}

    def stop(number: int, _: Any) -> None:
        flag.signal_number = number

    def done(record: BlockRecord, block: Block) -> None:
        import attrs

        sender.send(block=grid_names.pop(block.name), record=attrs.asdict(record))

    with handled(WARNINGS, stop):
        worker = Worker(order)
        grid = worker.ready.plan.grid

        def take(index: int) -> None:
            grid_names[grid.block_at(index).name] = index
            feed.put(index)

        threading.Thread(
            target=_listen, args=(take, feed, flag), name="bigrestore-listener", daemon=True
        ).start()
        sender.send(ready=os.getpid())
        worker.run(feed, flag, done)
    sender.send(ended=not flag)


def _listen(take: Callable[[int], None], feed: Feed, flag: StopFlag) -> None:
    """Take in what the parent says, until it is gone."""
    for line in sys.stdin:
        said = json.loads(line)
        if "block" in said:
            take(said["block"])
        elif "stop" in said:
            flag.signal_number = said["stop"]
        else:
            feed.close()
    os._exit(ORPHANED)


if __name__ == "__main__":
    main()

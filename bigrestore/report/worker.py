"""A scoring process: `python -m bigrestore.report.worker`, fed through its standard input.

Beside a GPU the scores must not take the interpreter's lock from the threads feeding the network, so they are computed
in processes of their own. They are started as a module and not by `multiprocessing`, because it would run the caller's
script again in each. The first message is the engine's specification, each one after it a strip; the answer to a strip
is its rows, or the exception. The end of the input is the end of the process, so none outlives its parent.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from typing import Any, BinaryIO

from bigrestore.core.host.streams import keep_streams
from bigrestore.report.table.tiles import EngineSpec, Strip, score_strip


def serve() -> None:
    """Serve until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    keep_streams()
    source = sys.stdin.buffer
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints goes to the log and not into the answers
    try:
        spec: EngineSpec = pickle.load(source)
        answer_strips(spec, source, sink)
    except (EOFError, BrokenPipeError):
        return


def answer_strips(spec: EngineSpec, source: BinaryIO, sink: BinaryIO) -> None:
    """Answer strip after strip."""
    engine = spec.create()
    while True:
        strip: Strip = pickle.load(source)
        try:
            answer: Any = score_strip(strip, engine)
        except Exception as error:  # noqa: BLE001 - it is the answer, and raised by the parent
            answer = error
        pickle.dump(answer, sink, protocol=5)
        sink.flush()


if __name__ == "__main__":
    serve()

"""Stands where `sys.executable` did: has the server beside it run `-c CODE` or `-m MODULE`, and ends as that ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time

MODULE = "import runpy; runpy.run_module({!r}, run_name='__main__', alter_sys=True)"
FORWARDED = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}


def main() -> None:
    """Send the request with the streams that are open, hand on signals, and take over the exit code."""
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    safe = sys.argv[1] == "-P"
    kind, what, *words = sys.argv[1 + safe :]
    open_streams = [
        number for number, stream in enumerate((sys.stdin, sys.stdout, sys.stderr)) if stream is not None
    ]
    request = {
        "code": {"-c": what, "-m": MODULE.format(what)}[kind],
        "argv": [kind, *words],
        "cwd": os.getcwd(),  # noqa: PTH109 - pathlib would take longer to import than all else
        "env": dict(os.environ),
        "safe": safe,
        "streams": open_streams,
        "closed": [number for number in range(3) if number not in open_streams],
        "executable": sys.argv[0],
    }
    connection = socket.socket(socket.AF_UNIX)
    for _ in range(3000):
        try:
            connection.connect(__file__.removesuffix("python") + "server")
            break
        except (FileNotFoundError, ConnectionRefusedError):
            time.sleep(0.02)
    line = json.dumps(request).encode() + b"\n"
    sent = socket.send_fds(connection, [line], open_streams)
    connection.sendall(line[sent:])
    answers = connection.makefile("rb")
    pid = int(answers.readline())
    for number in FORWARDED:
        signal.signal(number, lambda number, _: os.kill(pid, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    code = int(answers.readline())
    if code >= 0:
        os._exit(code)
    with contextlib.suppress(OSError):  # nobody handles SIGKILL
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)


main()

"""Python processes that are forked off one with the large libraries imported: a start costs 0.01 s of CPU, not 2.

The server imports no module of bigrestore, so what a test replaces in one is replaced before others import it. A process
ends like any other: its code runs at the end of the server's own script, threads are waited for, what was registered for
the end runs, and streams are flushed. Only a process that ends well does not take all its modules apart.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LIBRARIES = (
    "torch", "zarr", "dask.array", "scipy.ndimage", "scipy.fft", "tifffile", "imagecodecs", "PIL.Image",
    "psutil", "rich.console", "rich.progress", "typer", "attrs", "pydantic", "zoneinfo", "PIL.PngImagePlugin",
    "xml.etree.ElementTree", "importlib.metadata", "email.policy", "pydantic.type_adapter", "pyarrow.parquet",
    "pyarrow.csv", "multiprocessing.synchronize",
)  # fmt: skip


COMMAND_LINE = "import runpy; runpy.run_module('bigrestore', run_name='__main__', alter_sys=True)"


class WarmPython:
    """The server; `start` gives a process.

    `executable` is a file that takes `-c CODE` and `-m MODULE` as `sys.executable` does, for shells and `subprocess`.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="warm")
        self._address = f"{self._folder.name}/server"
        self.executable = f"{self._folder.name}/python"
        client = Path(__file__).with_name("warm_client.py").read_text()
        Path(self.executable).write_text(f"#!{sys.executable} -IS\n{client}")
        Path(self.executable).chmod(0o755)
        self._server = subprocess.Popen(
            [sys.executable, __file__, self._address], cwd=self._folder.name, env=_environment({})
        )

    def start(
        self,
        code: str,
        *words: str,
        cwd: Path,
        env: Mapping[str, str],
        streams: tuple[int, int, int] | None = None,
    ) -> WarmProcess:
        """Run code as `python -c CODE WORDS` does, in a folder, with further variables of the environment.

        `streams` are file descriptors for stdin, stdout and stderr, in a session of its own; without them `communicate`
        returns what is written.
        """
        connection = socket.socket(socket.AF_UNIX)
        while True:
            try:
                connection.connect(self._address)
                break
            except (FileNotFoundError, ConnectionRefusedError):
                assert self._server.poll() is None, "the server ended"
                time.sleep(0.02)
        outputs = () if streams else (tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+"))
        request = {
            "code": code,
            "argv": ["-c", *words],
            "cwd": str(cwd),
            "env": _environment(env),
            "streams": [0, 1, 2] if streams else [1, 2],
            "executable": self.executable,
        }
        socket.send_fds(
            connection,
            [json.dumps(request).encode() + b"\n"],
            streams or [output.fileno() for output in outputs],
        )
        return WarmProcess(connection, outputs)

    def bigrestore(
        self,
        *words: object,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        streams: tuple[int, int, int] | None = None,
    ) -> WarmProcess:
        """Run the command line as `python -m bigrestore WORDS` does."""
        return self.start(COMMAND_LINE, *map(str, words), cwd=cwd, env=env or {}, streams=streams)

    def close(self) -> None:
        """End the server."""
        self._server.terminate()
        self._server.wait()
        self._folder.cleanup()


class WarmProcess:
    """As much of `subprocess.Popen` as tests need."""

    def __init__(self, connection: socket.socket, outputs: tuple[Any, Any]) -> None:
        self._answers, self._connection, self._outputs = connection.makefile("rb"), connection, outputs
        self.pid = int(self._answers.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal, or None while it runs."""
        if self.returncode is None:
            try:
                self.wait(0.0)
            except subprocess.TimeoutExpired:
                return None
        return self.returncode

    def wait(self, timeout: float = 60.0) -> int:
        """Wait for its end; subprocess.TimeoutExpired after some seconds."""
        if self.returncode is None:
            with selectors.DefaultSelector() as selector:
                selector.register(self._connection, selectors.EVENT_READ)
                if not selector.select(timeout):
                    raise subprocess.TimeoutExpired("python", timeout)
            self.returncode = int(self._answers.readline())
            self._answers.close()
            self._connection.close()
        return self.returncode

    def communicate(self, timeout: float = 60.0) -> tuple[str, str]:
        """Wait for its end, and return what it wrote to stdout and stderr."""
        self.wait(timeout)
        texts = []
        for output in self._outputs:
            output.seek(0)
            texts.append(output.read())
            output.close()
        return texts[0], texts[1]

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it where it still runs."""
        self.send_signal(signal.SIGKILL)


def _environment(changes: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **changes}


def serve(address: str) -> dict[str, Any]:
    """Fork a process for each request, and report its end; return the request in the new process."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it would be ignored, in each process too
    for name in LIBRARIES:
        __import__(name)
    gc.freeze()  # or each process would look through, and copy, all that was imported when it ends
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(f"{address}.new")
    listening.listen()
    Path(f"{address}.new").rename(address)
    selector = selectors.DefaultSelector()
    selector.register(listening, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is listening:
                connection, _ = listening.accept()
                raw, files, *_ = socket.recv_fds(connection, 1 << 20, 3)
                while not raw.endswith(b"\n"):
                    raw += connection.recv(1 << 20)
                request: dict[str, Any] = json.loads(raw)
                if (pid := os.fork()) == 0:
                    for ours in (connection, *(one.fileobj for one in selector.get_map().values())):
                        if isinstance(ours, socket.socket):
                            ours.close()  # or it is closed when forgotten, and by then its number is another's
                    selector.close()
                    take_streams(request, files)
                    return request
                for file in files:
                    os.close(file)
                connection.sendall(b"%d\n" % pid)
                ended = os.pidfd_open(pid)
                selector.register(ended, selectors.EVENT_READ, (pid, connection))
                selector.register(connection, selectors.EVENT_READ, (pid, ended))
            elif key.fileobj in selector.get_map():  # not yet unregistered with the other of its pair
                pid, other = key.data
                selector.unregister(key.fileobj)
                selector.unregister(other)
                if isinstance(key.fileobj, socket.socket):  # who asked for it was killed
                    os.kill(pid, signal.SIGKILL)
                    connection, ended = key.fileobj, other
                else:
                    connection, ended = other, key.fd
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                os.close(ended)
                with contextlib.suppress(BrokenPipeError):
                    connection.sendall(b"%d\n" % code)
                connection.close()


def take_streams(request: Mapping[str, Any], files: Sequence[int]) -> None:
    """Put the streams of who asked in place of those of the server, and close those that are closed there."""
    for number, file in zip(request["streams"], files, strict=True):
        os.dup2(file, number)
    for number in request.get("closed", ()):
        os.close(number)
        name = ("stdin", "stdout", "stderr")[number]
        setattr(sys, name, None)
        setattr(sys, f"__{name}__", None)
    if 0 in request["streams"] or request.get("closed"):
        os.setsid()
    os.closerange(3, 256)


def leave(code: int) -> None:
    """End as the interpreter does, but for taking all modules apart, which takes 0.2 s of a forked process."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            try:
                stream.flush()
            except (OSError, ValueError):
                return  # the interpreter says so
    os._exit(code & 0xFF)


if __name__ == "__main__":
    request = serve(sys.argv[1])
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = request["argv"]
    sys.executable = request["executable"]  # for the processes that it starts
    paths = [path for path in request["env"].get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:1] = [*([] if request.get("safe") else [""]), *paths]
    try:
        exec(request["code"], {"__name__": "__main__"})
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            leave(end.code or 0)
        raise
    leave(0)

"""Every module of the package imports on a system without what POSIX alone has, such as Windows."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import bigrestore
from tests.warm_python import WarmPython

SCRIPT = """
import importlib, os, pkgutil, signal, sys
import bigrestore

def all_modules():
    names = [m.name for m in pkgutil.walk_packages(bigrestore.__path__, "bigrestore.")]
    return [name for name in names if name != "bigrestore.__main__"]

for name in all_modules():  # the libraries are those of this system
    importlib.import_module(name)
for name in [name for name in sys.modules if name.partition(".")[0] == "bigrestore"]:
    del sys.modules[name]
for name in ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog"):
    sys.modules[name] = None
for name in ("O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK", "O_DIRECTORY", "sched_getaffinity", "sched_setaffinity", "getuid",
             "geteuid", "killpg", "setsid", "uname", "statvfs", "fork", "mkfifo", "chown", "getloadavg", "fdatasync"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGUSR1", "SIGUSR2", "SIGHUP", "SIGKILL", "SIGALRM", "SIGPIPE", "SIGCHLD", "pthread_sigmask", "siginterrupt"):
    if hasattr(signal, name):
        delattr(signal, name)
import bigrestore
failed = {}
for name in all_modules():
    try:
        importlib.import_module(name)
    except Exception as error:
        failed[name] = repr(error)
print(len(all_modules()), failed)
sys.exit(bool(failed))
"""


def test_every_module_imports_without_what_posix_alone_has(warm_python: WarmPython) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(bigrestore.__file__).parents[1])}
    done = subprocess.run(
        [warm_python.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[0]) > 300

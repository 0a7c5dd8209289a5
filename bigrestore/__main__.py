"""The command line, by the script `bigrestore` or `python -m bigrestore`.

Signals are answered from here on: importing the commands takes a while on a slow file system.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from types import FrameType

from bigrestore.core.host.memory import keep_freed_memory
from bigrestore.core.host.signals import STOPPING, handled, signal_name, stop_code


def main() -> None:
    """Run the command line and end with its exit code."""
    keep_freed_memory()
    atexit.register(gc.freeze)  # or all that was imported is looked through for what can be freed: 0.5 s
    with handled(STOPPING, _leave_early):
        from bigrestore.cli.app import main as run_command
    run_command()


def _leave_early(number: int, _: FrameType | None) -> None:
    """End a process that has done nothing yet."""
    from bigrestore.cli.log import say_error, use_format

    if {"json", "--log-format=json"}.intersection(sys.argv):
        use_format("json")
    try:
        say_error(f"The command was stopped by {signal_name(number)}; start it again", stop_code(number))
    finally:
        os._exit(stop_code(number))


if __name__ == "__main__":
    main()

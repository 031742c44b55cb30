"""The entry point: python -m proof."""

import os
import signal
import sys
from types import FrameType

from proof import EXIT_INTERRUPTED


def _end(_signal: int, _frame: FrameType | None) -> None:
    os.write(sys.stderr.fileno(), b"\nInterrupted.\n")
    os._exit(EXIT_INTERRUPTED)


def run() -> None:
    """Run the proof and exit with its status.

    Ctrl-C works from here on: the imports below take most of a second, and no thread or process has
    started yet.
    """
    signal.signal(signal.SIGINT, _end)
    from proof.command import main  # noqa: PLC0415

    status = main()
    sys.stdout.flush()
    if status == EXIT_INTERRUPTED:
        os._exit(status)  # a normal exit waits for threads that may wait for the network
    sys.exit(status)


if __name__ == "__main__":
    run()

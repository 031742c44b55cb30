"""The entry point: `organiser`, or python -m organiser."""

import os
import signal
import sys
from types import FrameType

from organiser.errors import ExitStatus


def _end(_signal: int, _frame: FrameType | None) -> None:
    os.write(sys.stderr.fileno(), b"\nInterrupted.\n")
    os._exit(ExitStatus.INTERRUPTED)


def run() -> None:
    """Run a command and exit with its status.

    Ctrl-C works from here on, also during the imports, which take part of a second.
    """
    signal.signal(signal.SIGINT, _end)
    from organiser.command import main  # noqa: PLC0415

    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `organiser export 2 | head` is no error
    main()


if __name__ == "__main__":
    run()

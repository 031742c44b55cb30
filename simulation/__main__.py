"""The entry point: python -m simulation."""

import sys

from simulation import EXIT_INTERRUPTED


def run() -> int:
    """Run the command and return its exit status. Ctrl-C works from here on."""
    try:
        from simulation.command import main  # noqa: PLC0415

        return main()
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(run())

"""The entry point: python -m simulation."""

import sys

from simulation import run


def main() -> int:
    """Run the command. Ctrl-C works during the imports, too."""
    from simulation.command import main as command  # noqa: PLC0415

    return command()


if __name__ == "__main__":
    sys.exit(run(main))

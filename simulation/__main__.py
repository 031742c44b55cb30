"""The command: python -m simulation --seed 1."""

import argparse
import sys
from collections.abc import Sequence

from simulation.report import summary
from simulation.sale import Setting, simulate

EXIT_PASSED, EXIT_FAILED = 0, 1

DESCRIPTION = """\
Simulates a sale: the real use cases and handlers in many function environments, on a model of
DynamoDB with contention, in virtual time. One seed gives one history, byte for byte."""

EPILOG = """\
exit status:
  0   no guarantee is broken
  1   a guarantee is broken
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        "python -m simulation",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="(default: 1)")
    parser.add_argument(
        "--buyers", type=_at_least_one, default=200, metavar="N", help="(default: 200)"
    )
    options = parser.parse_args(arguments)
    sale = simulate(Setting.drawn(options.seed, options.buyers))
    print(summary(sale))
    return EXIT_FAILED if sale.violations else EXIT_PASSED


def _at_least_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


if __name__ == "__main__":
    sys.exit(main())

"""Mistakes that the checker caught in simulated sales: what `make mutants` found last."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

PATH: Final = Path(__file__).with_suffix(".json")


class Caught(Struct, frozen=True):
    """A mistake in the functions, and what the checker said of a simulated sale with it.

    file: below functions/ticketing. guarantee: that it breaks at least. seed: of the sale. rules:
    that it broke: "G1 oversold".
    """

    mistake: str
    file: str
    guarantee: str
    seed: int
    rules: Sequence[str]


def read() -> list[Caught]:
    """Return the mistakes, in their order in `simulation.mutants`. Raises OSError."""
    return msgspec.json.decode(PATH.read_bytes(), type=list[Caught])


def write(mistakes: Sequence[Caught]) -> None:
    """Keep them. Raises OSError."""
    PATH.write_bytes(msgspec.json.format(msgspec.json.encode(mistakes), indent=1) + b"\n")

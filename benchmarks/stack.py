"""The sale on the local stack against a function there that does nothing: requests a second."""

import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.crowd import Crowd
from benchmarks.process import ROOT
from benchmarks.report import Progress, Row, interleaved
from benchmarks.servers import Shop, StackSale
from local import sam
from local.ministack import worker_limit
from local.process import free_port
from local.stack import DOMAIN, STAGE, Stack

PAIRS: Final = 5
TEMPLATE: Final = ROOT / "benchmarks" / "nothing.yaml"
NOTHING: Final = "nothing"  # stack and base path of the function that does nothing
# As many requests at once as functions may run: the emulator answers 429 to more, as AWS does.
CROWDS: Final = {
    "storm": Crowd(buyers=1000, tickets=100, in_flight=worker_limit()),
    "sale": Crowd(buyers=600, tickets=300, in_flight=worker_limit()),
}
AT_LEAST: Final = 0.75  # the target
HOW: Final = (
    "requests answered in a second by the sale on the local stack, against a function on it that "
    "does nothing, through the same emulated API Gateway and Lambda. Storm: 1,000 buyers for 100 "
    "tickets; sale: 600 for 300; as many at once as functions may run"
)


def rows(progress: Progress, pairs: int = PAIRS) -> Iterator[Row]:
    """Measure on a stack of its own."""
    progress("the local stack: building")
    sam.build()
    with (
        tempfile.TemporaryDirectory() as directory,
        Stack(Path(directory) / "stack", free_port()) as stack,
    ):
        progress("the local stack: deploying")
        stack.deploy()
        yield from compared(stack, progress, pairs)


def compared(
    stack: Stack, progress: Progress, pairs: int, crowds: Mapping[str, Crowd] = CROWDS
) -> Iterator[Row]:
    """Measure on a deployed stack. Raises LocalError where it does not sell exactly its tickets."""
    nothing = _deploy_nothing(stack)
    shop = Shop(f"{stack.url}/buy_ticket", StackSale(stack))
    for name, crowd in crowds.items():
        all_buy = Crowd(crowd.buyers, crowd.buyers, crowd.in_flight)
        theirs = partial(all_buy.buy, nothing)
        ours = partial(shop.sell, crowd)
        progress(f"{name} on the local stack: warming up")
        ours()
        theirs()
        measured = []
        for pair in interleaved(ours, theirs, pairs):
            measured.append(pair)
            progress(f"{name} on the local stack: {len(measured)} of {pairs} pairs")
        yield Row.ratio(
            f"{name} on the local stack: a function that does nothing",
            measured,
            HOW,
            at_least=AT_LEAST,
        )


def _deploy_nothing(stack: Stack) -> str:
    """Deploy the function that does nothing, and return its URL."""
    sam.deploy(stack.endpoint, NOTHING, TEMPLATE, {"Architecture": sam.architecture()})
    stack.client("apigateway").create_base_path_mapping(
        domainName=DOMAIN,
        basePath=NOTHING,
        restApiId=stack.resource("Api", NOTHING),
        stage=STAGE,
    )
    return f"{stack.endpoint}/{NOTHING}/buy_ticket"

"""What the environments asked of the store, for reading: one line per call."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simulation.client import Failure


@dataclass(frozen=True, slots=True)
class Entry:
    """One call of the store. serving: the label of the request that it was made for.

    fault: what went wrong; None: nothing. answer: also a Failure, or the exception that was raised.
    """

    began_at: float
    ended_at: float
    environment: int
    serving: str
    operation: str
    request: Mapping[str, Any]
    fault: str | None
    answer: Any

    def line(self, origin: float) -> str:
        """Return the call as a line. origin: the instant that the times count from."""
        start, end = self.began_at - origin, self.ended_at - origin
        fault = f" [{self.fault}]" if self.fault else ""
        return (
            f"{start:.3f}-{end:.3f} s  environment {self.environment}  {self.operation} "
            f"{', '.join(_actions(self.request))}{fault} → {_said(self.answer)}"
        )


class Journal:
    """All calls of one run, in the order in which they ended."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def note(self, entry: Entry) -> None:
        """Add a call."""
        self.entries.append(entry)

    def about(self, text: str) -> Sequence[Entry]:
        """Return the calls made for the requests whose labels are in the text."""
        return [entry for entry in self.entries if entry.serving and entry.serving in text]


def _actions(request: Mapping[str, Any]) -> list[str]:
    """Return what a call is about: the keys, and the values of its expressions."""
    if "TransactItems" in request:
        pairs = [pair for entry in request["TransactItems"] for pair in entry.items()]
        if pairs[0][0] == "Get":
            return [f"{len(pairs)} items"]
        return [f"{kind} {_place(action)}" for kind, action in pairs]
    if "RequestItems" in request:
        return [f"{len(wanted['Keys'])} items" for wanted in request["RequestItems"].values()]
    return [_place(request)]


def _place(request: Mapping[str, Any]) -> str:
    key = request.get("Key") or request.get("Item") or {}
    values = {
        name: next(iter(value.values()))
        for name, value in request.get("ExpressionAttributeValues", {}).items()
        if "N" in value
    }
    bound = f" ({', '.join(f'{name}={value}' for name, value in values.items())})" if values else ""
    return f"{key['pk']['S'] if key else 'all'}{bound}"


def _said(answer: Any) -> str:
    if isinstance(answer, Failure):
        reasons = answer.more.get("CancellationReasons", [])
        codes = f" [{', '.join(reason['Code'] for reason in reasons)}]" if reasons else ""
        return answer.code + codes
    if not isinstance(answer, dict):
        return type(answer).__name__
    match answer.get("Responses"):
        case dict() as tables:
            items = [item for found in tables.values() for item in found]
        case list() as responses:
            items = [response.get("Item", {}) for response in responses]
        case _:
            items = [answer["Item"]] if "Item" in answer else []
    return "; ".join(_item(item) for item in items) or "done"


def _item(item: Mapping[str, Any]) -> str:
    numbers = {name: value["N"] for name, value in item.items() if "N" in value}
    shown = [
        f"{name} {numbers[name]}" for name in ("generation", "stock", "sold") if name in numbers
    ]
    return ", ".join(shown) or ("found" if item else "nothing")

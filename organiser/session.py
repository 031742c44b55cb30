"""What a command works with: the API's client and the output."""

import random
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from organiser.answers import body_of
from organiser.client import ApiClient, Target
from organiser.errors import (
    InterruptedChange,
    ServiceBusy,
    ServiceRefused,
    Unanswered,
    Unexpected,
)
from organiser.output import Output
from organiser.signing import signer_for

REPLAYED = "Idempotent-Replayed"


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """Where the API is and how its calls are signed: the options of every command."""

    target: Target
    region: str | None
    profile: str | None


class Session:
    """One command's calls of the API, and its output."""

    def __init__(self, client: ApiClient, output: Output) -> None:
        self.client = client
        self.output = output

    @property
    def url(self) -> str:
        """Return the URL of the API."""
        return self.client.target.url

    def read(self, path: str, *, signed: bool = False) -> Any:
        """Return the body of a GET."""
        response, _ = self.client.send("GET", path, signed=signed)
        return body_of(response, self.url, "GET", path)

    def inventory(self, item_id: int) -> dict[str, Any]:
        """Return the sale of an item as it is now."""
        body: dict[str, Any] = self.read(f"/inventory?item_id={item_id}")
        return body

    def find(self, item_id: int) -> dict[str, Any] | None:
        """Return the sale of an item as it is now; None where there is no such item."""
        try:
            return self.inventory(item_id)
        except ServiceRefused as error:
            if error.problem.get("status") == HTTPStatus.NOT_FOUND:
                return None
            raise

    def confirm(self, item_id: int, consequence: str) -> None:
        """Demand that the item's name is typed. Raises Unusable where it is not."""
        self.output.confirm(self.inventory(item_id)["item_name"], consequence)

    def change(
        self, method: str, path: str, body: Mapping[str, Any] | None, key: str | None
    ) -> dict[str, Any]:
        """Make a change once, and return the body of the answer. key: None for a fresh one.

        Where the outcome is not known, the remedy names the key with which it is safe to repeat.
        """
        key = key or str(uuid.uuid4())
        remedy = (
            f"It may have been carried out. Run it again with --key {key}: it takes effect once."
        )
        try:
            response, _ = self.client.send(method, path, body, key=key)
            changed: dict[str, Any] = body_of(response, self.url, method, path)
        except Unanswered as error:
            if error.is_sent:
                error.remedy = remedy
            raise
        except (ServiceBusy, Unexpected) as error:
            error.remedy = remedy
            raise
        except KeyboardInterrupt as interrupt:
            raise InterruptedChange("Interrupted.", remedy) from interrupt
        if REPLAYED in response.headers:
            self.output.say(
                "An earlier request with this key took effect. Nothing was changed twice."
            )
        return changed

    def repeatable(self, method: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make a change that needs no key, because it is a state to reach; return the answer."""
        response, _ = self.client.send(method, path, body)
        changed: dict[str, Any] = body_of(response, self.url, method, path)
        return changed

    def show_dry_run(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        changes: Mapping[str, Sequence[Any]],
        refusal: str | None = None,
    ) -> None:
        """Print what a dry run would send, and what that would change: by name, from and to.

        refusal: why the service would refuse it, as things stand; it would then change nothing.
        """
        changes = {} if refusal else changes
        if self.output.as_json:
            sent = {"method": method, "path": path, "body": body}
            self.output.json({"dry_run": True, **sent, "changes": changes, "refusal": refusal})
            return
        self.output.say(f"Dry run: {method} {path} would be sent. Nothing is changed.")
        if refusal:
            self.output.say(f"It would be refused: {refusal}")
        elif not changes:
            self.output.say("It would change nothing.")
        words = {
            name: ["-" if value is None else str(value) for value in values]
            for name, values in changes.items()
        }
        self.output.facts({name: f"{old} → {new}" for name, (old, new) in words.items()})


@contextmanager
def open_session(
    service: ServiceOptions, *, as_json: bool, signed: bool = True
) -> Iterator[Session]:
    """Open a session. signed: it calls routes that demand a signature. Raises NoCredentials."""
    output = Output(as_json=as_json)
    signer = signer_for(service.target.url, service.region, service.profile) if signed else None

    def on_wait(why: str, seconds: float) -> None:
        output.say(f"The service is busy ({why}). Trying again in {seconds:.0f} s.", "dim")

    with ApiClient(service.target, signer, random.Random(), on_wait) as client:
        yield Session(client, output)

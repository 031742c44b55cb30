"""What callers of a small world saw, and the verdict on it: three judges, of whom each has a veto.

`proof.checker` bounds what can have happened, `simulation.linearizability` looks for one order that
explains everything, and `simulation.observer` looks into the table, after every change of it.
"""

from collections.abc import Iterator, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from proof.checker import check
from proof.history import (
    Attempt,
    AuditReport,
    CapacityChange,
    History,
    HoldChange,
    Inventory,
    Kind,
    Lookup,
    PurchaseRequest,
    Receipt,
    Reset,
    Sample,
    Violation,
)
from proof.responses import (
    STATUS_CONFLICT,
    STATUS_OK,
    attempt_of,
    body_of,
    changed,
    problem_of,
)
from simulation.explorer import Explorer, State
from simulation.linearizability import is_linearizable
from simulation.observer import Observer
from simulation.service import Call, ServiceResponse, serve
from simulation.small_world import BUY, HOLD, purchase_id
from simulation.workload import HOLD_ROUTES, ITEM

INSTANT_SECONDS: Final = 1e-5  # between two groups of events
LOOK_SECONDS: Final = 2.0  # from the last purchase until all is looked at: longer than any cache
HOLD_ACTIONS: Final = MappingProxyType({route: action for action, route in HOLD_ROUTES.items()})


class Seen(NamedTuple):
    """An attempt as its caller saw it. response: None without one."""

    started_at: float
    ended_at: float
    response: ServiceResponse | None


class Rest(NamedTuple):
    """What is seen when all callers have ended. requests: that bought all tickets that were left.

    lookups: of all purchases that there may be.
    """

    requests: Sequence[PurchaseRequest]
    lookups: Sequence[Lookup]
    audit: AuditReport
    final: Sample


class Judges:
    """Judges the states of an explorer."""

    def __init__(self, explorer: Explorer) -> None:
        self._explorer = explorer
        self._small = explorer.small
        self._rests: dict[tuple[int, int], Rest] = {}
        self._changes: dict[tuple[int, int], Sequence[Violation]] = {}
        self._keys = {
            purchase_id(call): call.key or ""
            for calls in (self._small.begun, *self._small.callers)
            for call in calls
            if call.route in (BUY, HOLD)
        }

    def judge(self, state: State) -> Sequence[Violation]:
        """Return the violations of an end."""
        history = self.history(state)
        violations = check(history)
        if not is_linearizable(history):
            expected = "answers that one order of the requests explains"
            violations.append(Violation("G5", "not_linearizable", expected, "no such order"))
        return violations

    def judge_change(self, before: int, after: int) -> Sequence[Violation]:
        """Return the violations that a change of the table shows, from one to another."""
        if before == after:
            return []
        if (before, after) not in self._changes:
            self._changes[before, after] = self._observed(before, after)
        return self._changes[before, after]

    def _observed(self, before: int, after: int) -> Sequence[Violation]:
        old, new = (self._explorer.tables.tables.things[each] for each in (before, after))
        observer = Observer(ITEM)
        for key in sorted(old):
            observer.write(key, None, old[key], 0.0)
        for key in sorted(new):
            if old.get(key) != new[key]:
                observer.write(key, old.get(key), new[key], 1.0)
        return observer.judge(History((), (self._reset,)), self._keys)

    @property
    def _reset(self) -> Reset:
        body = self._small.begun[0].body or {}
        before = -4 * INSTANT_SECONDS
        return Reset(1, body["stock"], before, before, hold_seconds=body.get("hold_seconds", 600))

    @property
    def _begun(self) -> Iterator[PurchaseRequest]:
        """Yield what was bought and held before."""
        for call, response in zip(self._small.begun[1:], self._explorer.begun[1:], strict=True):
            seen = Seen(-2 * INSTANT_SECONDS, -INSTANT_SECONDS, response)
            yield _purchase(call, [seen])

    # --- the history of an end ---

    def history(self, state: State) -> History:
        """Return what the callers saw until an end, and what is seen after it."""
        rest = self._rest(state.table, state.passed)
        seen = [each for caller in self._seen(state) for each in caller]
        requests = [*self._begun]
        requests += [each for each in seen if isinstance(each, PurchaseRequest)]
        requests += rest.requests
        changes = [each for each in seen if isinstance(each, CapacityChange)]
        bought = {
            attempt.receipt.purchase_id
            for request in requests
            for attempt in request.attempts
            if attempt.receipt is not None
        }
        return History(
            requests=tuple(requests),
            resets=(self._reset,),
            changes=tuple(each for each in seen if isinstance(each, HoldChange)),
            capacity_changes=tuple(sorted(changes, key=lambda each: each.started_at)),
            lookups=tuple(each for each in rest.lookups if each.purchase_id in bought),
            final=rest.final,
            audit=rest.audit,
            cache_seconds=0.0,
        )

    def _seen(
        self, state: State
    ) -> Iterator[Iterator[PurchaseRequest | HoldChange | CapacityChange]]:
        sent: list[list[float]] = [[] for _ in state.nodes]
        answered: list[list[float]] = [[] for _ in state.nodes]
        for position, events in enumerate(state.events):
            for caller in events.callers:
                times = answered if events.are_answers else sent
                now = self._small.seconds(events.passed) + position * INSTANT_SECONDS
                times[caller].append(now)
        for caller, number in enumerate(state.nodes):
            attempts = self._explorer.nodes[number].answered
            by_request: dict[int, list[Seen]] = {}
            for start, end, each in zip(sent[caller], answered[caller], attempts, strict=True):
                by_request.setdefault(each.number, []).append(Seen(start, end, each.response))
            calls = self._small.callers[caller]
            yield (_request(calls[number], each) for number, each in by_request.items())

    def _rest(self, table: int, passed: int) -> Rest:
        if (table, passed) not in self._rests:
            self._explorer.tables.load(table)
            self._rests[table, passed] = self._at_rest(passed)
        return self._rests[table, passed]

    def _at_rest(self, passed: int) -> Rest:
        """Buy all tickets that are left, and look at everything."""
        now = self._small.seconds(passed) + self._small.resting
        tables, build = self._explorer.tables, self._explorer.build
        services = tables.services(build, now)
        inventory = Call("GET /inventory", query={"item_id": str(ITEM)})
        left = body_of(serve(inventory, services), Inventory).current_stock
        requests = []
        for number in range(left):
            call = Call(BUY, {"item_id": ITEM, "quantity": 1}, f"key-of-the-rest-{number:04}")
            seen = Seen(now, now + INSTANT_SECONDS, serve(call, services))
            requests.append(_purchase(call, [seen]))
            now += 2 * INSTANT_SECONDS
        ids = [each.last.receipt.purchase_id for each in requests if each.last.receipt is not None]
        ids += self._keys
        now += LOOK_SECONDS
        services = tables.services(build, now)
        item = {"item_id": str(ITEM)}
        return Rest(
            requests,
            [_looked_up(each, serve(_lookup(each), services)) for each in ids],
            body_of(
                serve(Call("GET /audit/{item_id}", path_parameters=item), services), AuditReport
            ),
            Sample(now, now, body_of(serve(inventory, services), Inventory)),
        )


def _lookup(purchase_id: str) -> Call:
    return Call("GET /purchases/{purchase_id}", path_parameters={"purchase_id": purchase_id})


def _looked_up(purchase_id: str, response: ServiceResponse) -> Lookup:
    is_found = response.status_code == STATUS_OK
    receipt = body_of(response, Receipt) if is_found else None
    return Lookup(purchase_id, response.status_code, receipt)


def _request(call: Call, seen: Sequence[Seen]) -> PurchaseRequest | HoldChange | CapacityChange:
    """Return what a caller saw of a request and its attempts."""
    if call.route in (BUY, HOLD):
        return _purchase(call, seen)
    return _hold_change(call, seen) if call.route in HOLD_ACTIONS else _capacity_change(call, seen)


def _purchase(call: Call, seen: Sequence[Seen]) -> PurchaseRequest:
    body, is_hold = call.body or {}, call.route == HOLD
    return PurchaseRequest(
        key=call.key or "",
        item_id=ITEM,
        quantity=body["quantity"],
        buyer_id=body.get("buyer_id"),
        attempts=tuple(
            Attempt(start, end, Kind.UNKNOWN, detail="killed")
            if response is None
            else attempt_of(response, start, end, is_hold=is_hold)
            for start, end, response in seen
        ),
        is_hold=is_hold,
    )


def _hold_change(call: Call, seen: Sequence[Seen]) -> HoldChange:
    change = HoldChange(
        (call.path_parameters or {})["hold_id"],
        HOLD_ACTIONS[call.route],
        seen[0].started_at,
        seen[-1].ended_at,
        done=None,
        payment_reference=(call.body or {}).get("payment_reference"),
    )
    for _, _, response in seen:
        change = change if response is None else changed(change, response)
    return change


def _capacity_change(call: Call, seen: Sequence[Seen]) -> CapacityChange:
    response = [each.response for each in seen if each.response is not None][-1]
    return CapacityChange(
        seen[0].started_at,
        seen[-1].ended_at,
        (call.body or {})["capacity"],
        {STATUS_OK: True, STATUS_CONFLICT: False}[response.status_code],
        problem_of(response).get("lowest_capacity"),
    )

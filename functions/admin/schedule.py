"""The audit by schedule: all items in one pass, and a metric on which an alarm fires."""

import time
from typing import Any, Final

from ticketing.api.telemetry import Telemetry
from ticketing.audit import Auditor
from ticketing.errors import TicketingError
from ticketing.limits import SCHEDULE_RESERVE_SECONDS

PROBLEMS_METRIC: Final = "AuditProblems"


class ScheduledAudit:
    """A Lambda function that audits all items. Call it as Lambda does."""

    def __init__(self, auditor: Auditor, telemetry: Telemetry) -> None:
        self._auditor = auditor
        self._telemetry = telemetry

    def __call__(self, _event: object, context: Any) -> None:
        """Audit all items, and report it: a line for each that has problems, and one in the end.

        The metric AuditProblems is their number, also where it is 0; without it, no audit came to
        its end. A time that is too short for the whole table counts as a problem.
        """
        started = time.perf_counter()
        seconds = context.get_remaining_time_in_millis() / 1000 - SCHEDULE_RESERVE_SECONDS
        try:
            audit = self._auditor.audit_all(seconds)
        except TicketingError as error:
            self._telemetry.write("audit", {"outcome": "failed"}, {}, is_error=True, fault=error)
            return
        for item in audit.items:
            if item.problems:
                about = {"item_id": item.sale.item_id, "generation": item.sale.generation}
                self._telemetry.write(
                    "audit of item", about | {"problems": item.problems}, {}, is_error=True
                )
        problems = audit.problems + (not audit.complete)
        line = {
            "outcome": "drift" if audit.problems else "agrees" if audit.complete else "incomplete",
            "items": len(audit.items),
            "records": audit.looked_at,
            "problems": list(audit.others),
            "duration_ms": round((time.perf_counter() - started) * 1000, 2),
        }
        self._telemetry.write("audit", line, {PROBLEMS_METRIC: problems}, is_error=problems > 0)

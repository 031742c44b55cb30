"""The entry point on Lambda. Everything is built here, once per environment."""

import boto3  # noqa: F401 - first, because its import from deeper costs a sixth of the start (D51)

from admin.app import HANDLERS
from admin.schedule import ScheduledAudit
from ticketing.api.serving import Function
from ticketing.api.telemetry import Telemetry
from ticketing.wiring import build_services

_SERVICES = build_services()
_TELEMETRY = Telemetry()

lambda_handler = Function(HANDLERS, _SERVICES, _TELEMETRY)
scheduled_audit = ScheduledAudit(_SERVICES.auditor, _TELEMETRY)

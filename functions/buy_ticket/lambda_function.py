"""The entry point on Lambda. Everything is built here, once per environment."""

import boto3  # noqa: F401 - first, because its import from deeper costs a sixth of the start (D51)

from buy_ticket.app import HANDLERS
from ticketing.api.serving import Function
from ticketing.wiring import build_services

lambda_handler = Function(HANDLERS, build_services())

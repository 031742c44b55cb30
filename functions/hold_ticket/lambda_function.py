"""The entry point on Lambda. Everything is built here, once per environment."""

from hold_ticket.app import HANDLERS
from ticketing.api.serving import Function
from ticketing.wiring import build_services

lambda_handler = Function(HANDLERS, build_services())

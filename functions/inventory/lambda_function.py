"""The entry point on Lambda. Everything is built here, once per environment."""

from inventory.app import ROUTES
from ticketing.http import Function
from ticketing.wiring import build_services

lambda_handler = Function(ROUTES, build_services())

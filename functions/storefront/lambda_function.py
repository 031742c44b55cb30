"""The entry point on Lambda. Everything is built here, once per environment. It has no store."""

from storefront.app import HANDLERS
from storefront.pages import Pages
from ticketing.api.serving import Function

lambda_handler = Function(HANDLERS, Pages.read())

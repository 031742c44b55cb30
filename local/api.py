"""Calls of the sale's API, as the organiser makes them."""

import json
import urllib.error
import urllib.request
from http import HTTPStatus
from typing import Any, Final

from botocore.credentials import Credentials

from local.ministack import CREDENTIALS, REGION, open_url
from local.process import LocalError
from organiser.signing import Signer

# The item of the original system, which is on sale after the first start.
FIRST_ITEM = {"stock": 100, "item_name": "Item A - Concert Ticket"}
ANSWER_SECONDS = 30.0
SIGNER: Final = Signer(Credentials(*CREDENTIALS.values()), REGION)


def call(
    method: str, url: str, body: dict[str, Any] | None = None, *, signed: bool = False
) -> tuple[int, str]:
    """Return status and body of one call. Raises LocalError without a response.

    signed: with SigV4.
    """
    content = None if body is None else json.dumps(body).encode()
    media_type = None if content is None else "application/json"
    headers = {} if media_type is None else {"Content-Type": media_type}
    if signed:
        headers |= SIGNER.headers(method, url, content or b"", media_type)
    message = urllib.request.Request(  # noqa: S310 -- the address is the stack's own
        url, content, headers, method=method
    )
    try:
        with open_url(message, timeout=ANSWER_SECONDS) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        raise LocalError(f"{method} {url}: {error}") from error


def create_first_item(url: str) -> None:
    """Put the first item on sale where there is none. An existing sale is never changed."""
    status, answer = call("GET", f"{url}/inventory")
    if status == HTTPStatus.NOT_FOUND:
        status, answer = call(
            "POST", f"{url}/reset", FIRST_ITEM | {"expected_generation": 0}, signed=True
        )
    if status not in {HTTPStatus.OK, HTTPStatus.CONFLICT}:  # 409: another process was first
        raise LocalError(f"The first item is not on sale: status {status}, {answer}")

"""What an answer means to an organiser: its body, or why there is none."""

import json
from http import HTTPStatus
from typing import Any, Final

import httpx

from organiser.address import permission_for
from organiser.client import BUSY_STATUSES, UNKNOWN_STATUSES
from organiser.errors import Denied, ServiceBusy, ServiceRefused, Unexpected

DETAIL_CHARACTERS_MAX: Final = 300
# What a problem document may say besides, and how it is shown.
FIELDS: Final = ("field", "left", "lowest_capacity", "opens_at", "closes_at", "request_id")


def body_of(response: httpx.Response, url: str, method: str, path: str) -> Any:
    """Return the JSON body of an answer with a status of 2xx.

    url: of the API. Raises Denied, ServiceRefused, ServiceBusy, Unexpected.
    """
    demand_success(response, url, method, path)
    try:
        return response.json()
    except (ValueError, RecursionError) as error:
        raise Unexpected(
            f"{method} {path} answers {excerpt(response)}",
            "Is it the API of the ticket sale? The URL ends in the stage, as in …/live.",
        ) from error


def demand_success(response: httpx.Response, url: str, method: str, path: str) -> None:
    """Raise Denied, ServiceRefused, ServiceBusy or Unexpected for a status other than 2xx."""
    status, problem = response.status_code, _problem_of(response)
    if response.is_success:
        return
    detail = str(problem.get("detail") or problem.get("message") or excerpt(response))
    named = [f"{name}: {problem[name]}" for name in FIELDS if name in problem]
    facts = [str(status), *([problem["code"]] if "code" in problem else []), *named]
    what = f"{detail} ({', '.join(facts)})"
    if status in {HTTPStatus.FORBIDDEN, HTTPStatus.UNAUTHORIZED}:
        # The gateway's own words for what IAM denies; its other refusals are about the signature.
        is_denied = "execute-api:Invoke" in detail
        permission = permission_for(url, method, path)
        raise Denied(what, f"Missing permission: {permission}" if is_denied else "", problem)
    if status in BUSY_STATUSES | UNKNOWN_STATUSES:
        raise ServiceBusy(what, "Try again later, or with more --patience.")
    if response.is_client_error and "code" in problem:
        raise ServiceRefused(what, problem=problem)
    raise Unexpected(
        f"{method} {path} answers {status}: {excerpt(response)}",
        "Check the URL: it ends in the stage, as in …/live.",
    )


def next_part(response: httpx.Response) -> str | None:
    """Return the query of the next part, from `Link` (RFC 8288); None in the last part."""
    link = response.links.get("next", {}).get("url")
    return None if link is None else link.removeprefix("?")


def excerpt(response: httpx.Response) -> str:
    """Return the start of a body, on one line."""
    text = " ".join(response.text.split())
    return text if len(text) <= DETAIL_CHARACTERS_MAX else text[:DETAIL_CHARACTERS_MAX] + "…"


def _problem_of(response: httpx.Response) -> dict[str, Any]:
    """Return the problem document, or AWS's own shape of an error; empty without either."""
    try:
        body = json.loads(response.content)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}

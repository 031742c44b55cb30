"""HTTP calls of the sale's API, each sent again until there is an answer."""

import random
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

import httpx

from organiser.address import is_loopback
from organiser.errors import Unanswered

if TYPE_CHECKING:  # processes of buyers sign nothing, and start faster without botocore
    from organiser.signing import Signer

CONNECT_SECONDS: Final = 5.0
PAUSE_BASE_SECONDS: Final = 0.1
PAUSE_CAP_SECONDS: Final = 4.0
# A longer `Retry-After` is shortened: the client's patience decides.
RETRY_AFTER_SECONDS_MAX: Final = 30.0
BUSY_STATUSES: Final = frozenset({429, 503})
# The request may have been carried out: 500 can come from any line, 502 and 504 from the gateway.
UNKNOWN_STATUSES: Final = frozenset({500, 502, 504})
# Without 500: that is a bug, and would be one again.
SENT_AGAIN: Final = BUSY_STATUSES | UNKNOWN_STATUSES - {500}


@dataclass(frozen=True, slots=True)
class Target:
    """The service and its time limits. timeout: of one attempt. patience: of all attempts."""

    url: str
    timeout_seconds: float = 30.0
    patience_seconds: float = 120.0

    @property
    def is_loopback(self) -> bool:
        """Return whether the service runs on this machine."""
        return is_loopback(self.url)

    def settings(self) -> dict[str, Any]:
        """Return the settings of every HTTP client for this service."""
        return {
            "base_url": self.url,
            "timeout": httpx.Timeout(
                self.timeout_seconds, connect=min(CONNECT_SECONDS, self.timeout_seconds)
            ),
            # No proxy for this machine.
            "trust_env": not self.is_loopback,
            # Without TLS there is nothing to verify, and loading certificates takes a process 0.1
            # s.
            "verify": httpx.URL(self.url).scheme == "https",
        }


class SigV4(httpx.Auth):
    """Signs a request when it is sent. Host and content type are signed as well."""

    requires_request_body = True

    def __init__(self, signer: "Signer") -> None:
        self._signer = signer

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response]:
        """Add the signature's headers."""
        signed = self._signer.headers(
            request.method, str(request.url), request.content, request.headers.get("Content-Type")
        )
        request.headers.update(signed)
        yield request


class HasHeaders(Protocol):
    """The part of a response that `retry_after_seconds` reads."""

    @property
    def headers(self) -> Mapping[str, str]: ...


def retry_after_seconds(response: HasHeaders) -> float | None:
    """Return `Retry-After` in seconds; None without one, or where it is a date."""
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() else None


def pause_seconds(attempts: int, retry_after: float | None, draw: random.Random) -> float:
    """Return the pause after the given number of attempts: `Retry-After` plus full jitter."""
    ceiling = min(PAUSE_CAP_SECONDS, PAUSE_BASE_SECONDS * 2 ** min(attempts, 20))
    return min(retry_after or 0.0, RETRY_AFTER_SECONDS_MAX) + draw.uniform(0, ceiling)


class ApiClient:
    """Calls of one API by one organiser.

    signer: None where only public routes are called. on_wait: is told why and how many seconds it
    waits before it sends a call again.
    """

    def __init__(
        self,
        target: Target,
        signer: "Signer | None",
        draw: random.Random,
        on_wait: Callable[[str, float], object] = lambda _why, _seconds: None,
    ) -> None:
        self.target = target
        self._http = httpx.Client(**target.settings())
        self._auth = None if signer is None else SigV4(signer)
        self._draw = draw
        self._on_wait = on_wait

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._http.close()

    def attempt(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        signed: bool = True,
        timeout_seconds: float | None = None,
    ) -> httpx.Response:
        """Make a call once. Raises httpx.RequestError without an answer."""
        return self._http.request(
            method,
            path,
            json=body,
            headers=headers,
            auth=self._auth if signed else None,
            timeout=timeout_seconds or self._http.timeout,
        )

    def send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        signed: bool = True,
    ) -> tuple[httpx.Response, int]:
        """Make a call; return the answer and the number of attempts. Raises Unanswered.

        It is sent again while the service is busy or does not answer, until the patience ends. So
        it must have a key or change nothing.
        """
        headers = {} if key is None else {"Idempotency-Key": key}
        deadline = time.monotonic() + self.target.patience_seconds
        attempts, is_sent = 0, False
        while True:
            attempts += 1
            response, lost = None, None
            try:
                response = self.attempt(method, path, body, headers=headers, signed=signed)
            except httpx.ConnectError as error:
                raise Unanswered(
                    f"No server answers at {self.target.url} ({error}).",
                    "Start it with `make start`, or set its address with --url."
                    if self.target.is_loopback
                    else "Check --url.",
                    is_sent=is_sent,
                ) from error
            except httpx.RequestError as error:
                lost, is_sent = error, True
            asked_for = None if response is None else retry_after_seconds(response)
            pause = pause_seconds(attempts, asked_for, self._draw)
            is_over = time.monotonic() + pause > deadline
            if response is not None and (is_over or response.status_code not in SENT_AGAIN):
                return response, attempts
            if is_over:
                what = f"{method} {path} got no answer: {type(lost).__name__} {lost}".strip()
                raise Unanswered(
                    what, "See the service's log, or raise --timeout.", is_sent=True
                ) from lost
            is_sent |= response is not None and response.status_code in UNKNOWN_STATUSES
            why = type(lost).__name__ if response is None else f"status {response.status_code}"
            self._on_wait(why, pause)
            time.sleep(pause)

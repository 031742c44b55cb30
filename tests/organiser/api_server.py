"""The API over HTTP: the real handlers on a store, one request at a time, with faults on cue."""

import json
import re
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

import simulation.world
from simulation.dynamodb import DynamoDB
from simulation.service import Call, FunctionLog, serve
from tests.support import World, create_table
from ticketing.api.routes import ROUTES, Route

STAGE = "/live"
LOST = None  # an answer that the client does not get


@dataclass(frozen=True)
class Answer:
    """An answer of the gateway, in the place of the function's."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Sent:
    """A request that came."""

    method: str
    path: str
    key: str | None
    body: Any


def world_on_model() -> World:
    """Return a fresh table on the simulation's model of DynamoDB."""
    client = DynamoDB(simulation.world.World(seed=1)).client()
    create_table(client)
    return World(client)


class ApiServer:
    """A service for the command line.

    instead: what the next requests are answered, without being carried out. after: what the next
    changes are answered when they have been; LOST for no answer. log: the functions' lines.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.sent: list[Sent] = []
        self.log: list[dict[str, Any]] = []
        self.instead: deque[Answer] = deque()
        self.after: deque[Answer | None] = deque()
        self._server = HTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}{STAGE}"
        self._server.timeout = 0.01

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._server.server_close()

    def serve_during[Result](self, work: Callable[[], Result]) -> Result:
        """Return what the work returns, which runs in a thread while this one serves.

        The model of DynamoDB knows the thread that made it, and no other.
        """
        with ThreadPoolExecutor(1) as pool:
            result = pool.submit(work)
            while not result.done():
                self._server.handle_request()
            return result.result()

    @property
    def changes(self) -> list[Sent]:
        """Return the requests that may have changed something."""
        return [each for each in self.sent if each.method != "GET"]

    def answer(self, sent: Sent, *, is_signed: bool) -> Answer | None:
        """Return the answer to a request."""
        self.sent.append(sent)
        if self.instead:
            return self.instead.popleft()
        found = _route(sent)
        if found is None or (found[0].is_signed and not is_signed):
            return Answer(403, {"message": "Missing Authentication Token"})
        route, parameters = found
        query = dict(parse_qsl(urlsplit(sent.path).query))
        call = Call(str(route), sent.body, sent.key, parameters, query)
        log = FunctionLog(self.world.clock, self.log)
        response = serve(call, self.world.services(), log)
        carried_out = Answer(response.status_code, response.content, response.headers)
        is_change = sent.method != "GET"
        return self.after.popleft() if self.after and is_change else carried_out

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                body = json.loads(content) if content else None
                key = self.headers.get("Idempotency-Key")
                signature = self.headers.get("Authorization", "")
                sent = Sent(self.command, self.path.removeprefix(STAGE), key, body)
                answer = api.answer(sent, is_signed=signature.startswith("AWS4-HMAC-SHA256 "))
                if answer is not LOST:
                    self.reply(answer)

            def reply(self, answer: Answer) -> None:
                is_raw = isinstance(answer.body, bytes)
                content = answer.body if is_raw else json.dumps(answer.body).encode()
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments: object) -> None:
                pass

            do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

        return Handler


def _route(sent: Sent) -> tuple[Route, dict[str, str]] | None:
    """Return the route of a request, and its path parameters."""
    path = urlsplit(sent.path).path
    for route in ROUTES:
        pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(route.path))
        match = re.fullmatch(pattern, path)
        if match and route.method == sent.method:
            return route, {name: unquote(value) for name, value in match.groupdict().items()}
    return None

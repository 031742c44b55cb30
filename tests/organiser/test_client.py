"""The organiser's client: credentials, signatures, pauses and repetitions."""

import random
import socket
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import httpx
import pytest

from organiser.address import permission_for, region_of
from organiser.client import PAUSE_CAP_SECONDS, ApiClient, SigV4, Target, pause_seconds
from organiser.errors import NoCredentials, Unanswered
from organiser.signing import Signer, signer_for
from tests.organiser.api_server import LOST, Answer, ApiServer

DRAW = random.Random(1)


def test_pause() -> None:
    """`Retry-After` plus full jitter."""
    draw = random.Random(1)
    assert all(
        0 <= pause_seconds(attempts, None, draw) <= PAUSE_CAP_SECONDS for attempts in range(1, 1000)
    )
    early = [pause_seconds(1, None, draw) for _ in range(1000)]
    assert min(early) < 0.01
    assert 0.19 < max(early) <= 0.2
    assert all(7 <= pause_seconds(3, 7.0, draw) <= 7.8 for _ in range(1000))


def test_signature() -> None:
    """Signed once by the client, once by botocore for the same instant."""
    credentials = botocore.credentials.Credentials("AKIDEXAMPLE", "secret", "session")
    request = httpx.Request(
        "POST", "https://x.execute-api.eu-west-1.amazonaws.com/live/reset", json={"stock": 7}
    )
    signed = next(SigV4(Signer(credentials, "eu-west-1")).auth_flow(request))
    authorization = signed.headers["Authorization"]
    assert "/eu-west-1/execute-api/aws4_request" in authorization
    assert "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token" in authorization
    assert signed.headers["X-Amz-Security-Token"] == "session"

    named = ("content-type", "x-amz-security-token", "x-amz-date")
    again = botocore.awsrequest.AWSRequest("POST", str(request.url), data=request.content)
    for name in named:
        again.headers[name] = signed.headers[name]
    again.context["timestamp"] = signed.headers["x-amz-date"]
    other = botocore.auth.SigV4Auth(credentials, "execute-api", "eu-west-1")
    expected = other.signature(other.string_to_sign(again, other.canonical_request(again)), again)
    assert authorization.endswith(f"Signature={expected}")
    now = datetime.now(UTC).strftime("%Y%m%d")
    assert now in authorization


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://abc.execute-api.eu-west-1.amazonaws.com/live", "eu-west-1"),
        ("https://abc.execute-api.cn-north-1.amazonaws.com.cn/live", "cn-north-1"),
        ("https://tickets.example/live", None),
        ("http://127.0.0.1:8000/live", None),
    ],
)
def test_region_of_url(url: str, region: str | None) -> None:
    assert region_of(url) == region


@pytest.fixture
def no_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without any AWS configuration."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.mark.usefixtures("no_configuration")
def test_credentials_on_loopback() -> None:
    assert signer_for("http://127.0.0.1:8000/live")


@pytest.mark.usefixtures("no_configuration")
def test_credentials_elsewhere() -> None:
    with pytest.raises(NoCredentials, match="credentials"):
        signer_for("https://abc.execute-api.eu-west-1.amazonaws.com/live")


@pytest.mark.usefixtures("no_configuration")
def test_unknown_profile() -> None:
    with pytest.raises(NoCredentials, match="nowhere"):
        signer_for("https://abc.execute-api.eu-west-1.amazonaws.com/live", None, "nowhere")


def test_custom_domain_needs_region(
    no_configuration: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with pytest.raises(NoCredentials, match="Region"):
        signer_for("https://tickets.example/live")
    assert signer_for("https://tickets.example/live", "eu-west-1")


@pytest.mark.parametrize(
    ("url", "permission"),
    [
        (
            "https://abc123.execute-api.eu-west-1.amazonaws.com/live",
            "arn:aws:execute-api:eu-west-1:*:abc123/live/PUT/items/2",
        ),
        ("https://tickets.example/v1", "arn:aws:execute-api:*:*:*/*/PUT/items/2"),
        ("http://127.0.0.1:8000/live", "arn:aws:execute-api:*:*:*/live/PUT/items/2"),
    ],
)
def test_permission(url: str, permission: str) -> None:
    """As a policy names it. A custom domain shows neither API nor stage."""
    assert permission_for(url, "PUT", "/items/2?x=1") == f"execute-api:Invoke on {permission}"


class TestSend:
    def client(self, api: ApiServer, **patience: float) -> ApiClient:
        target = Target(api.url, timeout_seconds=60.0, **patience)
        return ApiClient(target, signer_for(api.url), DRAW)

    def test_sent_again(self, api: ApiServer) -> None:
        """While it is busy, or its outcome is unknown, with the same key."""
        statuses = (429, 502, 503, 504)
        api.instead.extend(Answer(status, {}) for status in statuses)
        with self.client(api) as client:
            body = {"item_name": "a", "capacity": 1}
            sent = lambda: client.send("PUT", "/items/1", body, key="k" * 16)  # noqa: E731
            response, attempts = api.serve_during(sent)
        assert (response.status_code, attempts) == (201, len(statuses) + 1)
        assert {each.key for each in api.sent} == {"k" * 16}

    @pytest.mark.parametrize("status", [400, 403, 404, 409, 422, 500])
    def test_sent_once(self, api: ApiServer, status: int) -> None:
        api.instead.append(Answer(status, {}))
        with self.client(api) as client:
            response, attempts = api.serve_during(lambda: client.send("GET", "/inventory"))
        assert (response.status_code, attempts) == (status, 1)

    def test_end_of_patience(self, api: ApiServer) -> None:
        api.after.append(LOST)
        with self.client(api, patience_seconds=0.0) as client, pytest.raises(Unanswered) as caught:
            api.serve_during(lambda: client.send("POST", "/items/1/pause"))
        assert caught.value.is_sent

    @pytest.mark.parametrize(
        "answer", [b"HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 0\r\n\r\n", b""]
    )
    def test_server_ends(self, answer: bytes) -> None:
        """What was sent before there was no server any more may have been carried out."""
        server = socket.create_server(("127.0.0.1", 0))

        def answer_once() -> None:
            connection, _ = server.accept()
            server.close()
            with connection:
                connection.recv(10_000)
                connection.sendall(answer)

        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with ThreadPoolExecutor(1) as pool, ApiClient(Target(url), None, DRAW) as client:
            pool.submit(answer_once)
            with pytest.raises(Unanswered, match="No server answers") as caught:
                client.send("POST", "/items/1/pause")
        assert caught.value.is_sent

    def test_last_answer(self, api: ApiServer) -> None:
        """At the end of the patience a busy answer is the answer."""
        api.instead.append(Answer(503, {}, {"Retry-After": "9"}))
        with self.client(api, patience_seconds=1.0) as client:
            response, attempts = api.serve_during(lambda: client.send("GET", "/inventory"))
        assert (response.status_code, attempts) == (503, 1)

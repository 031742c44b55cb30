"""Lets schemathesis sign the organisers' routes with SigV4."""

from typing import Any

import requests
import schemathesis

from organiser.signing import LOOPBACK_CREDENTIALS, LOOPBACK_REGION, Signer

SIGNER = Signer(LOOPBACK_CREDENTIALS, LOOPBACK_REGION)


class SigV4(requests.auth.AuthBase):
    """Signs a request for API Gateway."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        assert request.method is not None
        assert request.url is not None
        body = request.body or b""
        content = body.encode() if isinstance(body, str) else body
        assert isinstance(content, bytes)
        content_type: Any = request.headers.get("Content-Type")
        request.headers.update(SIGNER.headers(request.method, request.url, content, content_type))
        return request


auth: Any = schemathesis.auth  # typed as a function, which it also is
auth.set_from_requests(SigV4()).apply_to(
    lambda context: "security" in context.operation.definition.raw
)

"""Lets schemathesis sign the organisers' routes with SigV4, with the environment's credentials."""

from typing import Any

import boto3
import requests
import schemathesis
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

SESSION = boto3.Session()
CREDENTIALS = SESSION.get_credentials()
assert CREDENTIALS is not None
SIGNER = SigV4Auth(CREDENTIALS, "execute-api", SESSION.region_name)


class SigV4(requests.auth.AuthBase):
    """Signs a request for API Gateway."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        headers = {
            name: value for name, value in request.headers.items() if name.lower() == "content-type"
        }
        unsigned = AWSRequest(request.method, request.url, headers, request.body or b"")
        SIGNER.add_auth(unsigned)
        request.headers.update(dict(unsigned.headers.items()))
        return request


auth: Any = schemathesis.auth  # typed as a function, which it also is
auth.set_from_requests(SigV4()).apply_to(
    lambda context: "security" in context.operation.definition.raw
)

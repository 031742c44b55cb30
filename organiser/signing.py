"""Signatures of API calls (SigV4), with the credentials that all AWS tools find.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html
"""

import os
from typing import Final

import botocore.auth
import botocore.awsrequest
import botocore.exceptions
import botocore.session
from botocore.credentials import Credentials

from organiser.address import is_loopback, region_of
from organiser.errors import NoCredentials

# The local stack takes any; these are valid nowhere else.
LOOPBACK_CREDENTIALS: Final = Credentials("test", "test")
LOOPBACK_REGION: Final = "us-east-1"


class Signer:
    """Signs calls of one API. Its credentials may be renewed between two calls."""

    def __init__(self, credentials: Credentials, region: str) -> None:
        self._auth = botocore.auth.SigV4Auth(credentials, "execute-api", region)
        self.region = region

    def headers(
        self, method: str, url: str, content: bytes = b"", content_type: str | None = None
    ) -> dict[str, str]:
        """Return the signature's headers, and the content type, which is signed as well."""
        headers = {} if content_type is None else {"Content-Type": content_type}
        draft = botocore.awsrequest.AWSRequest(method, url, headers, content)
        self._auth.add_auth(draft)
        return dict(draft.headers.items())


def signer_for(url: str, region: str | None = None, profile: str | None = None) -> Signer:
    """Return a signer with credentials of the normal chain; on loopback, test credentials will do.

    Raises NoCredentials where credentials or the Region are missing.
    """
    on_loopback = is_loopback(url)
    try:
        # botocore takes its defaults from the environment and the shared files, as all AWS tools
        # do.
        session = botocore.session.Session(profile=profile or os.environ.get("AWS_PROFILE"))
        if on_loopback:
            # Without this, a laptop without credentials waits for the metadata service of an EC2
            # instance.
            session.get_component("credential_provider").remove("iam-role")
        credentials = session.get_credentials()
        region = region or region_of(url) or session.get_config_variable("region")
    except botocore.exceptions.BotoCoreError as error:
        raise NoCredentials(
            f"No AWS credentials: {error}", "Check --profile and AWS_PROFILE."
        ) from error
    if on_loopback:
        credentials, region = credentials or LOOPBACK_CREDENTIALS, region or LOOPBACK_REGION
    if credentials is None:
        raise NoCredentials(
            "No AWS credentials: the organiser's calls must be signed.",
            "Log in, choose --profile, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
        )
    if region is None:
        raise NoCredentials("The Region of the API is not known.", "Set it with --region.")
    return Signer(credentials, region)

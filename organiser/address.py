"""What the URL of an API says."""

import re
from typing import Final
from urllib.parse import urlsplit

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


def is_loopback(url: str) -> bool:
    """Return whether the service runs on this machine."""
    return urlsplit(url).hostname in LOOPBACK


def region_of(url: str) -> str | None:
    """Return the Region in the host name of an API on AWS; None for a custom domain."""
    match = re.search(r"\.execute-api\.([a-z0-9-]+)\.amazonaws\.com", urlsplit(url).hostname or "")
    return match[1] if match else None


def permission_for(url: str, method: str, path: str) -> str:
    """Return the permission that IAM must grant for a call, as a policy names it.

    See "Control access for invoking an API" in API Gateway's developer guide.
    """
    parts = urlsplit(url)
    match = re.match(r"([a-z0-9]+)\.execute-api\.", parts.hostname or "")
    api, region = match[1] if match else "*", region_of(url) or "*"
    stage = parts.path.strip("/") if match or is_loopback(url) else ""
    resource = f"{stage or '*'}/{method}{path.partition('?')[0]}"
    return f"execute-api:Invoke on arn:aws:execute-api:{region}:*:{api}/{resource}"

"""What can end a call or a command, in one tree.

OrganiserError
├── NoCredentials      nothing to sign with
├── Unanswered         the service cannot be reached, or did not answer
├── ServiceRefused     a problem document of the service: nothing was changed
│   └── Denied         IAM, or API Gateway, did not let the call through
├── ServiceBusy        429 or 5xx, until the patience ended
├── Unexpected         an answer that the API does not promise
├── Unusable           an option, a file or a confirmation that will not do
└── InterruptedChange  Ctrl-C while a change was sent
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, ClassVar


class ExitStatus(IntEnum):
    """How the command line ends. DIFFERENCES: of an audit, a repair or an export."""

    DONE = 0
    DIFFERENCES = 1
    USAGE = 2
    REFUSED = 3
    DENIED = 4
    NO_ANSWER = 5
    INTERRUPTED = 130  # as a shell reports a program that Ctrl-C ended


class OrganiserError(Exception):
    """Ends a command. what: what happened. remedy: what to do about it; may be empty."""

    exit_status: ClassVar[ExitStatus]

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy


class NoCredentials(OrganiserError):
    """There are no credentials, or no Region, to sign with."""

    exit_status = ExitStatus.DENIED


class Unanswered(OrganiserError):
    """There is no answer. is_sent: the request may have been carried out."""

    exit_status = ExitStatus.NO_ANSWER

    def __init__(self, what: str, remedy: str, *, is_sent: bool) -> None:
        super().__init__(what, remedy)
        self.is_sent = is_sent


class ServiceRefused(OrganiserError):
    """The service refused. problem: its document (RFC 9457)."""

    exit_status = ExitStatus.REFUSED

    def __init__(
        self, what: str, remedy: str = "", problem: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(what, remedy)
        self.problem = problem or {}


class Denied(ServiceRefused):
    """The credentials may not call this route."""

    exit_status = ExitStatus.DENIED


class ServiceBusy(OrganiserError):
    """The service was busy or failed, until the patience ended."""

    exit_status = ExitStatus.NO_ANSWER


class Unexpected(OrganiserError):
    """The answer is not the API's."""

    exit_status = ExitStatus.NO_ANSWER


class InterruptedChange(OrganiserError):
    """Ctrl-C came while a change was sent: it may have been carried out."""

    exit_status = ExitStatus.INTERRUPTED


class Unusable(OrganiserError):
    """Wrong use: nothing was sent that changes anything."""

    exit_status = ExitStatus.USAGE

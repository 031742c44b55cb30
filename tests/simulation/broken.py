"""Use cases that are broken on purpose."""

import json
from typing import Any

from simulation.client import Client
from simulation.sale import Build
from ticketing.retry import Runtime
from ticketing.wiring import Services, build_services


def broken(right: str, wrong: str) -> Build:
    """Return what builds use cases whose requests to the store have another text in one place."""

    def build(client: Any, table_name: str, runtime: Runtime) -> Services:
        def send(operation: str, request: Any) -> Any:
            altered = json.loads(json.dumps(request).replace(right, wrong))
            return client._send(operation, altered)

        altered: Any = Client(send)
        return build_services(altered, table_name, runtime)

    return build

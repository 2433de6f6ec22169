"""What tests of the service share."""

from collections.abc import Iterator
from typing import Any

import pytest

from helpers.service_client import serving
from musetalk_runtime.service.service import Service


@pytest.fixture(scope="module")
def server(service: Service) -> Iterator[Any]:
    """A server of the module's own fixture `service`."""
    with serving(service) as running:
        yield running

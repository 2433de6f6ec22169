"""What tests of the service share."""

from collections.abc import Iterator
from typing import Any

import pytest

from helpers.browser import Page, browsing
from helpers.service_client import end_sessions, serving
from musetalk_runtime.service.service import Service


@pytest.fixture(scope="module")
def server(service: Service) -> Iterator[Any]:
    """A server of the module's own fixture `service`."""
    with serving(service) as running:
        yield running


@pytest.fixture(scope="module")
def browser_options() -> list[str]:
    """What a module needs of Chromium besides."""
    return []


@pytest.fixture(scope="module")
def tab(server: Any, browser_options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """Chromium on the page of the module's server, for all of its tests."""
    url = f"http://127.0.0.1:{server.port}/"
    with browsing(url, tmp_path_factory.mktemp("profile"), *browser_options) as opened:
        yield opened


@pytest.fixture
def page(tab: Page, service: Service, server: Any) -> Iterator[Page]:
    """The page, loaded anew, in which nothing may go wrong; afterwards no session runs."""
    tab.open(f"http://127.0.0.1:{server.port}/")
    yield tab
    assert tab.run("problems") == []
    tab.call("Emulation.clearDeviceMetricsOverride")
    end_sessions(service)

"""What tests of the agents' frameworks share. These are imported here, since they warn of what they use themselves."""

import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from helpers.service_client import Client, asking_by_token, end_sessions, until
from musetalk_runtime import Avatar, Bundle
from musetalk_runtime.service.service import Service
from musetalk_runtime.service.settings import Settings

with warnings.catch_warnings(), suppress(ModuleNotFoundError):
    warnings.simplefilter("ignore")
    import pipecat.pipeline.worker
    import pipecat.services.tts_service
    import pipecat.workers.runner  # noqa: F401

with warnings.catch_warnings(), suppress(ModuleNotFoundError):
    warnings.simplefilter("ignore")
    import livekit.agents.voice.avatar  # noqa: F401


@pytest.fixture(scope="module")
def service(bundle: Path, avatar: Path) -> Iterator[Service]:
    with Bundle.open(bundle) as b, Avatar.open(avatar) as a:
        yield Service(b, {"one": a}, Settings(sessions=1))


@pytest.fixture(scope="module")
def client(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Of a server of `service` that wants a token."""
    with asking_by_token(service, tmp_path_factory.mktemp("tokens")) as asking:
        yield asking
        end_sessions(service)


@pytest.fixture
def remote_stream(client: Client, service: Service) -> Iterator[Any]:
    """A ``RemoteAvatarStream`` of that server, at 25 frames a second; afterwards its session has ended."""
    from musetalk_runtime.integrations.remote_stream import RemoteAvatarStream

    token = client.authorization.removeprefix("Bearer ")
    yield RemoteAvatarStream(f"http://127.0.0.1:{client.port}/", "one", token, 25)
    until(lambda: not service.sessions.running, "its session is ended")

"""Two rooms that stand in for one of a LiveKit server: byte streams and calls of one come out in the other."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

from livekit import rtc


class StandInStream:
    """A byte stream: written at one end, read at the other."""

    def __init__(self, attributes: dict[str, str]) -> None:
        self.info = SimpleNamespace(attributes=attributes, stream_id="stream")
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def write(self, data: bytes) -> None:
        self._chunks.put_nowait(data)

    async def aclose(self) -> None:
        self._chunks.put_nowait(None)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if (chunk := await self._chunks.get()) is None:
            raise StopAsyncIteration
        return chunk


class StandInParticipant:
    """Of a room, the local one; in the other room it is remote. ``published``: the tracks, each with its options."""

    def __init__(self, identity: str) -> None:
        self.identity = identity
        self.kind = rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
        self.state = rtc.ParticipantState.PARTICIPANT_STATE_ACTIVE
        self.published: list[tuple[Any, rtc.TrackPublishOptions]] = []
        self.called: list[tuple[str, str]] = []  # methods that were called here, and what was sent
        self.track_publications: dict[str, Any] = {}
        self._rpc_handlers: dict[str, Any] = {}
        self.room: Any = None

    def register_rpc_method(self, name: str, handler: Any) -> None:
        self._rpc_handlers[name] = handler

    async def perform_rpc(self, *, destination_identity: str, method: str, payload: str) -> str:
        other = self.room.other.local_participant
        assert other.identity == destination_identity
        other.called.append((method, payload))
        if method not in other._rpc_handlers:
            raise rtc.RpcError(rtc.RpcError.ErrorCode.UNSUPPORTED_METHOD, method)
        call = rtc.RpcInvocationData(str(len(other.called)), self.identity, payload, 10.0)
        return str(other._rpc_handlers[method](call))

    async def stream_bytes(self, *, topic: str, attributes: dict[str, str], **_: Any) -> StandInStream:
        stream = StandInStream(attributes)
        self.room.other.byte_handlers[topic](stream, self.identity)
        return stream

    async def publish_track(self, track: Any, options: rtc.TrackPublishOptions) -> Any:
        self.published.append((track, options))
        publication = SimpleNamespace(kind=track.kind, subscribed=True, track=track, sid=track.sid)

        async def wait_for_subscription() -> None:
            """Somebody watches at once."""

        publication.wait_for_subscription = wait_for_subscription
        self.track_publications[str(len(self.published))] = publication
        self.room.other.emit("track_published", publication, self)
        return publication


class StandInRoom(rtc.EventEmitter[str]):
    """One participant's view."""

    name = "room"

    def __init__(self, identity: str) -> None:
        super().__init__()
        self.local_participant = StandInParticipant(identity)
        self.local_participant.room = self
        self.byte_handlers: dict[str, Any] = {}
        self.other: StandInRoom

    @property
    def remote_participants(self) -> dict[str, StandInParticipant]:
        return {self.other.local_participant.identity: self.other.local_participant}

    def isconnected(self) -> bool:
        return True

    def register_byte_stream_handler(self, topic: str, handler: Any) -> None:
        self.byte_handlers[topic] = handler


def stand_in_rooms(agent: str, avatar: str) -> tuple[StandInRoom, StandInRoom]:
    """The agent's and the avatar's."""
    rooms = StandInRoom(agent), StandInRoom(avatar)
    rooms[0].other, rooms[1].other = rooms[1], rooms[0]
    return rooms

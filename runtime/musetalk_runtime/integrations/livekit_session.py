"""LiveKit Agents: the agent's side of an avatar worker."""

import os
from typing import Any

from musetalk_runtime.audio.chunk import SOUND_RATE
from musetalk_runtime.core.errors import InvalidArgument, OutputError

try:
    import aiohttp
    from livekit import api, rtc
    from livekit.agents import AgentSession
    from livekit.agents.types import ATTRIBUTE_PUBLISH_ON_BEHALF
    from livekit.agents.voice.avatar import AvatarSession, DataStreamAudioOutput
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"{error}: pip install 'musetalk-edge[livekit]'", name=error.name) from None

IDENTITY = "musetalk-avatar"
LAUNCH_TIMEOUT_S = 30.0  # seconds in which a worker has to answer


class MuseTalkAvatarSession(AvatarSession[Any]):
    """Has the worker at `worker_url` join the agent's room as `identity`, and sends it what the agent says.

    The key and the secret sign the worker's token. They are LiveKit's ``LIVEKIT_API_KEY`` and ``LIVEKIT_API_SECRET``
    unless they are given; raises InvalidArgument where there are none.
    """

    def __init__(
        self, worker_url: str, identity: str = IDENTITY, api_key: str | None = None, api_secret: str | None = None
    ) -> None:
        super().__init__()
        self._worker_url, self._identity = worker_url.rstrip("/"), identity
        self._key = api_key or os.environ.get("LIVEKIT_API_KEY", "")
        self._secret = api_secret or os.environ.get("LIVEKIT_API_SECRET", "")
        if not self._key or not self._secret:
            raise InvalidArgument("LiveKit's key or secret is missing: set LIVEKIT_API_KEY and LIVEKIT_API_SECRET")

    @property
    def avatar_identity(self) -> str:
        """Of the participant that is the avatar."""
        return self._identity

    @property
    def provider(self) -> str:
        """For metrics."""
        return "musetalk-edge"

    async def start(self, agent_session: AgentSession[Any], room: rtc.Room) -> None:
        """Launch the worker and give it the agent's voice, before ``AgentSession.start``; raises OutputError."""
        await super().start(agent_session, room)
        token = avatar_token(self._key, self._secret, room.name, room.local_participant.identity, self._identity)
        await self._launch(token)
        agent_session.output.replace_audio_tail(
            DataStreamAudioOutput(
                room,
                destination_identity=self._identity,
                sample_rate=SOUND_RATE,
                wait_remote_track=rtc.TrackKind.KIND_VIDEO,
                wait_playback_start=True,
            )
        )

    async def _launch(self, token: str) -> None:
        timeout = aiohttp.ClientTimeout(total=LAUNCH_TIMEOUT_S)
        url = f"{self._worker_url}/launch"
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as client,
                client.post(url, json={"token": token}) as answer,
            ):
                if answer.status >= 300:
                    raise OutputError(f"{url}: the worker answered {answer.status}")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise OutputError(f"{url}: the worker cannot be reached: {error}") from None


def avatar_token(key: str, secret: str, room: str, agent: str, identity: str = IDENTITY) -> str:
    """A JWT with which a worker joins `room` as `identity`, and publishes on behalf of the participant `agent`."""
    token = api.AccessToken(key, secret).with_kind("agent").with_identity(identity).with_name(identity)
    token = token.with_grants(api.VideoGrants(room_join=True, room=room))
    return str(token.with_attributes({ATTRIBUTE_PUBLISH_ON_BEHALF: agent}).to_jwt())

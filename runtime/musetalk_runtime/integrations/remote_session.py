"""A live session of a running service, by HTTP."""

import asyncio
import json
from collections.abc import AsyncGenerator
from fractions import Fraction
from typing import Any

from musetalk_runtime.audio.chunk import SOUND_RATE
from musetalk_runtime.core.errors import OutputError

try:
    import aiohttp
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"{error}: pip install 'musetalk-edge[pipecat]' or [livekit]", name=error.name) from None

TIMEOUT_S = 30.0  # seconds for an answer
SILENCE_S = 15.0  # seconds without a byte of the stream after which it is lost
READ_BYTES = 1 << 16


class RemoteSession:
    """A session with `avatar` at the service of `url`, which `token` may begin. `open` first, `close` in the end.

    Everything raises OutputError where the service refuses, fails or is not there. Attributes, once it is open:
    ``width`` and ``height`` in pixels, ``fps``, ``poses`` (names).
    """

    def __init__(self, url: str, avatar: str, token: str | None, fps: str | float, bundle: str | None) -> None:
        self._url, self._avatar = url.rstrip("/"), avatar
        self._wanted = {"avatar": avatar, "fps": fps, "lead": 0, **({"bundle": bundle} if bundle else {})}
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client: aiohttp.ClientSession | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._answers: asyncio.Queue[str | OutputError] = asyncio.Queue()  # to what was said
        self._reading: asyncio.Task[None] | None = None
        self._path = ""

    async def open(self) -> None:
        """Begin the session."""
        self._client = aiohttp.ClientSession(headers=self._headers)
        try:
            await self._begin()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """End it. Twice is fine."""
        client, self._client = self._client, None
        if client is None:
            return
        try:
            if self._reading:
                self._reading.cancel()
            if self._socket:
                await self._socket.close()
            if self._path:
                async with client.delete(self._url + self._path, timeout=aiohttp.ClientTimeout(TIMEOUT_S)):
                    pass
        except (aiohttp.ClientError, asyncio.TimeoutError):
            pass  # a service that is gone has ended it
        finally:
            await client.close()

    async def say(self, pcm: bytes) -> None:
        """Say `pcm`, signed 16-bit little-endian, mono, 48 kHz. `said` has the answer."""
        socket = self._socket
        if socket is None:
            raise OutputError(f"{self._url}: the session is closed")
        try:
            await socket.send_bytes(pcm)
        except (aiohttp.ClientError, ConnectionError) as error:
            raise self._lost(error) from None

    async def said(self) -> tuple[float, float]:
        """Where in the stream the next of what was sent is said, from and to, in seconds; answers come in order."""
        try:
            answer = await asyncio.wait_for(self._answers.get(), TIMEOUT_S)
        except asyncio.TimeoutError as error:
            raise self._lost(error) from None
        if isinstance(answer, OutputError):
            raise answer
        told = json.loads(answer)
        return float(told["begin"]), float(told["end"])

    async def interrupt(self) -> float:
        """Drop what is said and waits; gives the stream's second from which the mouth is closed."""
        return float((await self._ask("POST", f"{self._path}/interrupt"))["at"])

    async def pose(self, name: str, repeat: bool) -> None:
        """Go over to another of its clips."""
        await self._ask("POST", f"{self._path}/pose", {"name": name, "repeat": repeat})

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The bytes of its fragmented MP4, as they come."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT_S, sock_read=SILENCE_S)
        try:
            async with self._open_client.get(
                f"{self._url}{self._path}/stream.mp4?live=true", timeout=timeout
            ) as answer:
                await self._check(answer)
                async for data in answer.content.iter_any():
                    yield data
        except (aiohttp.ClientError, asyncio.TimeoutError) as error:
            raise self._lost(error) from None

    async def _begin(self) -> None:
        avatars = await self._ask("GET", "/v1/avatars")
        found = next((one for one in avatars if one["name"] == self._avatar and one["state"] == "ready"), None)
        if found is None:
            names = ", ".join(one["name"] for one in avatars) or "none"
            raise OutputError(f"{self._url}: no avatar {self._avatar!r} is ready there, it has: {names}")
        self.width, self.height, self.poses = int(found["width"]), int(found["height"]), list(found["poses"])
        session = await self._ask("POST", "/v1/sessions", self._wanted)
        self._path = f"/v1/sessions/{session['id']}"
        self.fps = Fraction(session["fps"]).limit_denominator(1001)
        try:
            self._socket = await self._open_client.ws_connect(
                f"{self._url}{self._path}/audio", params={"rate": str(SOUND_RATE), "positions": "true"}
            )
        except (aiohttp.ClientError, asyncio.TimeoutError) as error:
            raise self._lost(error) from None

        self._reading = asyncio.create_task(self._read(self._socket))

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Take what the service sends at any time: aiohttp answers its pings then, and only then."""
        while (message := await socket.receive()).type is aiohttp.WSMsgType.TEXT:
            self._answers.put_nowait(message.data)
        reason = message.extra or f"it closed the connection ({socket.close_code})"
        self._answers.put_nowait(OutputError(f"{self._url}: the service hears no more: {reason}"))

    @property
    def _open_client(self) -> Any:
        if self._client is None:
            raise OutputError(f"{self._url}: the session is closed")
        return self._client

    async def _ask(self, method: str, path: str, content: Any = None) -> Any:
        timeout = aiohttp.ClientTimeout(TIMEOUT_S)
        try:
            async with self._open_client.request(method, self._url + path, json=content, timeout=timeout) as answer:
                await self._check(answer)
                return await answer.json()
        except (aiohttp.ClientError, asyncio.TimeoutError, json.JSONDecodeError) as error:
            raise self._lost(error) from None

    async def _check(self, answer: Any) -> None:
        if answer.status < 300:
            return
        try:
            message = (await answer.json())["error"]["message"]
        except (aiohttp.ClientError, ValueError, KeyError, TypeError):
            message = f"it answered {answer.status}"
        raise OutputError(f"{self._url}: {message}")

    def _lost(self, error: BaseException) -> OutputError:
        return OutputError(f"{self._url}: the service cannot be reached: {error or type(error).__name__}")

"""Requests to the service of a device, by HTTP, with tokens that are signed for it."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import aiohttp

from musetalk_runtime.fleet.directory import DeviceAddress
from musetalk_runtime.service.api.fleet import DeviceStatus
from musetalk_runtime.service.errors import ServiceError
from musetalk_runtime.service.security.signed_tokens import ANYONE, FRONT, SignedTokens, device_key
from musetalk_runtime.service.security.tokens import Token

STATUS_TIMEOUT_S = 2.0
TIMEOUT_S = 60.0  # for an answer to anything else: a clip is decoded first
CONNECT_TIMEOUT_S = 2.0
MAX_ANSWER_BYTES = 4 << 20
KEPT = ("Content-Type", "Retry-After", "Location")  # of a device's headers

JSON = {"Content-Type": "application/json"}

Body = bytes | BinaryIO | AsyncIterator[bytes]


class DeviceLost(Exception):
    """A device cannot be reached, or has not answered in time."""


@dataclass(frozen=True)
class Answer:
    """A device's answer: its status, its body, and those of its headers that a client may be given."""

    status: int
    body: bytes
    headers: dict[str, str]

    def json(self) -> Any:
        """The body as JSON; raises DeviceLost for what is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise DeviceLost("its answer is no JSON") from None

    def error(self) -> ServiceError:
        """The error that it is, to be passed on."""
        try:
            told = self.json()["error"]
            code, message = str(told["code"]), str(told["message"])
        except (DeviceLost, KeyError, TypeError):
            code, message = "device_error", f"the device answered with status {self.status}"
        retry = {name: value for name, value in self.headers.items() if name == "Retry-After"}
        return ServiceError(self.status, code, message, retry)


class DeviceClient:
    """Asks devices, whose tokens are signed with keys that `secret` gives. Open in an event loop, and close there."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._signers: dict[str, SignedTokens] = {}
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()

    async def status(self, device: DeviceAddress) -> DeviceStatus:
        """How the device is; raises DeviceLost."""
        answer = await self._send(device, "GET", "/v1/fleet/status", FRONT, timeout=STATUS_TIMEOUT_S)
        if answer.status != 200:
            raise DeviceLost(f"it answers its front end with status {answer.status}")
        try:
            return DeviceStatus.model_validate_json(answer.body)
        except ValueError as error:
            raise DeviceLost(f"it does not say how it is: {error}") from None

    async def admit(self, device: DeviceAddress, admits: bool) -> None:
        """Have the device let new sessions in, or not; raises DeviceLost."""
        body = json.dumps({"admits": admits}).encode()
        answer = await self._send(device, "PUT", "/v1/fleet/admission", FRONT, body=body, headers=JSON)
        if answer.status != 204:
            raise DeviceLost(str(answer.error()))

    async def adopt(self, device: DeviceAddress, avatar: str) -> None:
        """Have the device serve an avatar that lies in its folder; raises DeviceLost or ServiceError."""
        answer = await self._send(device, "POST", f"/v1/fleet/avatars/{avatar}", FRONT)
        if answer.status != 204:
            raise answer.error()

    async def ask(
        self,
        device: DeviceAddress,
        method: str,
        path: str,
        owner: Token | None,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """The answer to a request on behalf of `owner`; `path` may have a query. Raises DeviceLost."""
        sessions, uploads = (owner.sessions, owner.uploads.limit) if owner else (None, None)
        holder = owner.name if owner else ANYONE
        return await self._send(device, method, path, holder, sessions, uploads and uploads >> 20, body, headers)

    async def _send(
        self,
        device: DeviceAddress,
        method: str,
        path: str,
        holder: str,
        sessions: int | None = None,
        uploads: int | None = None,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT_S,
    ) -> Answer:
        token = self._signer(device.name).sign(holder, sessions, uploads)
        sent = {**(headers or {}), "Authorization": f"Bearer {token}"}
        limits = aiohttp.ClientTimeout(timeout, sock_connect=CONNECT_TIMEOUT_S)
        try:
            async with self._http.request(
                method, device.url + path, data=body, headers=sent, timeout=limits, allow_redirects=False
            ) as answer:
                content = await _read(answer)
                kept = {name: answer.headers[name] for name in KEPT if name in answer.headers}
                return Answer(answer.status, content, kept)
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            raise DeviceLost(f"{type(error).__name__}: {error}") from error

    def _signer(self, name: str) -> SignedTokens:
        if name not in self._signers:
            self._signers[name] = SignedTokens(device_key(self._secret, name))
        return self._signers[name]


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in answer.content.iter_chunked(1 << 16):
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise aiohttp.ClientPayloadError(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
    return bytes(body)

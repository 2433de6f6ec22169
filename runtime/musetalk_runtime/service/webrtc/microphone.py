"""A viewer's microphone: Opus over RTP that becomes a session's live speech."""

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np

from musetalk_runtime.audio.decode.opus import OpusDecoder
from musetalk_runtime.audio.speech_piece import SpeechPiece
from musetalk_runtime.core.errors import InvalidMedia
from musetalk_runtime.service.session.live_session import LiveSession

Spend = Callable[[int], bool]

MAX_QUIET_S = 0.06  # seconds that may wait to be said; with more, what is quiet is left out
MAX_QUEUED_S = 1.0  # seconds that may wait; with more, anything is left out
QUIET = 10 ** (-45 / 20) * 32768  # root mean square of 16-bit samples: -45 dBFS
RELEASE_S = 2.0  # seconds without a packet after which another may speak


class Microphone:
    """Says in `session` what comes by RTP, one voice at a time; `spend` charges the session's owner for it, in bytes.

    Packets are decoded as they come, in order: one that is late or twice there is left out. For the event loop.
    """

    def __init__(self, session: LiveSession, spend: Spend) -> None:
        self._session, self._spend = session, spend
        self._decode = OpusDecoder("opus")
        self._last: int | None = None  # sequence number
        self._heard_at = 0.0
        self._speaks = self._refused = self._closed = False
        self._release: asyncio.TimerHandle | None = None

    async def receive(self, packet: Any, **_: Any) -> None:
        """Hear aiortc's RTP `packet`; stands in for the method of its receiver that keeps four packets back."""
        if self._closed or not packet.payload or not self._is_next(packet.sequence_number):
            return
        if not self._speaks and not self._claim():
            return
        self._heard_at = asyncio.get_running_loop().time()
        try:
            piece = await asyncio.to_thread(self._decode, packet.payload)
        except InvalidMedia as error:
            self._give_up(str(error))
            return
        if not self._spend(2 * len(piece.speech)):
            self._give_up("this token has sent all that it may in an hour")
        elif not self._is_too_much(piece):
            self._session.say(piece)

    def close(self) -> None:
        """Hear no more. Closing twice is fine."""
        self._closed = True
        if self._release:
            self._release.cancel()
        if self._speaks:
            self._speaks = False
            self._session.release_audio_socket()

    def _is_next(self, number: int) -> bool:
        if self._last is not None and not 0 < (number - self._last) & 0xFFFF < 1 << 15:
            return False
        self._last = number
        return True

    def _claim(self) -> bool:
        self._speaks = self._session.claim_audio_socket()
        if self._speaks:
            self._watch()
        elif not self._refused:
            self._refused = True
            self._session.events.publish("warning", message="microphone: another voice speaks")
        return self._speaks

    def _watch(self) -> None:
        """Let others speak once nothing has come for a while."""
        loop = asyncio.get_running_loop()
        left = self._heard_at + RELEASE_S - loop.time() if self._heard_at else RELEASE_S
        if left > 0:
            self._release = loop.call_later(left, self._watch)
        else:
            self._speaks = self._refused = False
            self._heard_at = 0.0
            self._session.release_audio_socket()

    def _is_too_much(self, piece: SpeechPiece) -> bool:
        """Whether `piece` is left out, so that what is said does not fall behind what is spoken."""
        waiting = self._session.speech.queued
        quiet = not len(piece.speech) or np.sqrt(np.mean(np.square(piece.speech, dtype=np.float64))) < QUIET
        return waiting > (MAX_QUIET_S if quiet else MAX_QUEUED_S)

    def _give_up(self, reason: str) -> None:
        self._session.events.publish("warning", message=f"microphone: {reason}")
        self.close()

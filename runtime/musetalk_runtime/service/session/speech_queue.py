"""The queue of a live session's speech, handed out at the pace of playback, with silence between."""

import threading
import time
from collections.abc import Iterator

import numpy as np

from musetalk_runtime.core.model import SAMPLE_RATE
from musetalk_runtime.service.session.playback_clock import PlaybackClock

SAMPLE_BYTES = 2
MAX_QUEUED_S = 600.0  # seconds of speech that may wait
SPEECH_SAMPLES = SAMPLE_RATE // 5  # of speech handed out at once, at most
SILENCE_SAMPLES = SAMPLE_RATE // 10  # of silence handed out at once
FADED_SAMPLES = SAMPLE_RATE // 50  # of the queued speech that fade out after a cut
MOUTH_FADE_S = 0.1  # seconds the mouth takes to close after a cut
LOOKAHEAD_S = 0.12  # seconds of speech after a frame that it is generated from
SPEAKING_S = 0.3  # seconds after a push for which somebody counts as speaking
MAX_WAIT_S = 0.1  # seconds between two looks at the clock


class SpeechQueue:
    """An iterable of PCM (signed 16-bit little-endian, mono, 16 kHz): the speech that was pushed, otherwise silence.

    It paces the session: speech is handed out up to `lead` seconds ahead of `clock`, silence only `idle` seconds, since
    speech that is pushed next comes after it. `push` and `cut` are for any thread; they wait for nothing.
    """

    def __init__(self, clock: PlaybackClock, lead: float, idle: float) -> None:
        self._clock = clock
        self._lead = max(lead, idle)
        self._idle = idle
        self._queue = bytearray()
        self._handed_out = 0  # samples handed out
        self._changed = threading.Condition()
        self._ended = False
        self._complete = False
        self._pushed_at = -SPEAKING_S
        self._closing = float("inf")  # the stream time from which the mouth closes
        self._dropped = 0.0  # the stream time up to which speech was dropped by a cut
        self._opening = -float("inf")  # the stream time from which the mouth opens again

    def push(self, pcm: bytes, limit: float = MAX_QUEUED_S) -> bool:
        """Say `pcm`, whole samples, after what waits already; False, and nothing said, if more than `limit` s wait."""
        with self._changed:
            if len(self._queue) + len(pcm) > limit * SAMPLE_RATE * SAMPLE_BYTES:
                return False
            self._pushed_at = time.monotonic()
            self._queue += pcm
            self._changed.notify_all()
            return True

    def complete(self) -> None:
        """Nothing more is said after what waits: then the iteration ends."""
        with self._changed:
            self._complete = True
            self._changed.notify_all()

    def cut(self, made: float) -> tuple[float, float]:
        """Say no more: drop what waits, and what was handed out and is not in the `made` seconds of stream yet.

        Gives stream times in seconds: from which the mouth is closed, and where what was handed out ends. Playback is
        taken to go on from the first: viewers that can, skip what they have of the speech.
        """
        with self._changed:
            tail = np.frombuffer(bytes(self._queue[: FADED_SAMPLES * SAMPLE_BYTES]), "<i2")
            self._queue[:] = (tail * np.linspace(1, 0, len(tail))).astype("<i2").tobytes()
            self._pushed_at = -SPEAKING_S
            self._dropped = (self._handed_out + len(tail)) / SAMPLE_RATE
            self._closing, self._opening = min(made, self._dropped), float("inf")
            self._clock.jump(self._closing + MOUTH_FADE_S)
            self._changed.notify_all()
            return self._closing + MOUTH_FADE_S, self._dropped

    def interrupt(self) -> None:
        """End the iteration."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def mouth(self, seconds: float) -> float:
        """How far the mouth may open in the frame at `seconds`: 0 after a cut, until somebody speaks again."""
        closed = 1 - (seconds - self._closing) / MOUTH_FADE_S
        opened = (seconds + LOOKAHEAD_S - self._opening) / MOUTH_FADE_S
        return min(1.0, max(0.0, closed, opened))

    @property
    def queued(self) -> float:
        """Seconds of speech that wait."""
        return len(self._queue) / SAMPLE_BYTES / SAMPLE_RATE

    @property
    def handed_out(self) -> float:
        """Seconds handed out."""
        return self._handed_out / SAMPLE_RATE

    @property
    def speaking(self) -> bool:
        """Whether speech waits, or has been pushed just now."""
        return len(self._queue) > 0 or time.monotonic() - self._pushed_at < SPEAKING_S

    def __iter__(self) -> Iterator[bytes]:
        while pcm := self._next():
            yield pcm

    def _next(self) -> bytes:
        """What is handed out next, once playback is far enough; empty at the end."""
        with self._changed:
            while not (self._ended or (self._complete and not self._queue)):
                wanted = min(len(self._queue) // SAMPLE_BYTES, SPEECH_SAMPLES) or SILENCE_SAMPLES
                missing = self._handed_out + wanted - (self._clock.now() + self._limit()) * SAMPLE_RATE
                if missing <= 0:
                    return self._take(wanted)
                self._changed.wait(min(MAX_WAIT_S, missing / SAMPLE_RATE) if self._clock.running else MAX_WAIT_S)
            return b""

    def _limit(self) -> float:
        """Seconds that may be handed out ahead of playback."""
        if len(self._queue):
            return self._lead
        return self._idle / 2 if self.speaking else self._idle  # a push that is a little late leaves no gap

    def _take(self, count: int) -> bytes:
        pcm = bytes(self._queue[: count * SAMPLE_BYTES])
        del self._queue[: count * SAMPLE_BYTES]
        if pcm and self._opening == float("inf") and self.handed_out >= self._dropped:
            self._opening = self.handed_out
        self._handed_out += count
        return pcm or bytes(count * SAMPLE_BYTES)

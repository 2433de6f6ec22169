"""The queue of a live session's speech, handed out at the pace of playback, with silence between."""

import threading
import time
from collections import deque
from collections.abc import Generator
from typing import NamedTuple

from musetalk_runtime.audio.chunk import AudioChunk
from musetalk_runtime.audio.speech_piece import SpeechPiece, joined, silence
from musetalk_runtime.core.model import SAMPLE_RATE
from musetalk_runtime.service.session.playback_clock import PlaybackClock

MAX_QUEUED_S = 600.0  # seconds of speech that may wait
SPEECH_SAMPLES = SAMPLE_RATE * 2 // 5  # of speech handed out at once, at most: each time costs as much
PIECES_A_LEAD = 4  # at least: what is handed out last must be made while the rest is played
SILENCE_SAMPLES = SAMPLE_RATE // 5  # of silence handed out at once, at least; half, where more speech may come
LIVE_SAMPLES = SAMPLE_RATE // 50  # of either handed out at once, without a lead
FADED_SAMPLES = SAMPLE_RATE // 50  # of the queued speech that fade out after a cut
MOUTH_FADE_S = 0.1  # seconds the mouth takes to close after a cut
LOOKAHEAD_S = 0.12  # seconds of speech after a frame that it is generated from
SPEAKING_S = 0.3  # seconds after a push for which somebody counts as speaking
LATE_PUSH_S = 0.05  # seconds that a push may be late without a lead, until silence takes its place
MAX_WAIT_S = 0.1  # seconds between two looks at the clock


class Place(NamedTuple):
    """Where speech is said: from the stream's second `begin` on, after `before` seconds of speech that waited."""

    begin: float
    before: float


class SpeechQueue:
    """An ``AudioSource``: the speech that was pushed, otherwise silence.

    It paces the session: speech is handed out up to `lead` seconds ahead of `clock`, silence only `idle` seconds, since
    speech that is pushed next comes after it. Without a lead (0), speech too is handed out `idle` seconds ahead,
    and all of it in pieces of 20 ms. `push` and `cut` are for any thread; they wait for nothing.
    """

    live = True
    channels = 2

    def __init__(self, clock: PlaybackClock, lead: float, idle: float) -> None:
        self.warnings: list[str] = []
        self._clock = clock
        self._lead = self._idle = 0.0
        self._live = False
        self._queue: deque[SpeechPiece] = deque()
        self._queued = 0  # samples of speech that wait
        self._handed_out = 0  # samples handed out
        self._changed = threading.Condition()
        self._ended = False
        self._complete = False
        self._pushed_at = -SPEAKING_S
        self._closing = float("inf")  # the stream time from which the mouth closes
        self._dropped = 0.0  # the stream time up to which speech was dropped by a cut
        self._opening = -float("inf")  # the stream time from which the mouth opens again
        self.keep(lead, idle)

    def keep(self, lead: float, idle: float) -> None:
        """From now on, be so far ahead."""
        with self._changed:
            self._lead, self._idle, self._live = max(lead, idle), idle, lead == 0
            self._changed.notify_all()

    def push(self, piece: SpeechPiece, limit: float = MAX_QUEUED_S) -> Place | None:
        """Say `piece` after what waits already; None, and nothing said, if more than `limit` s wait."""
        with self._changed:
            place = Place(self.handed_out + self.queued, self.queued)
            if place.before + piece.seconds > limit:
                return None
            self._pushed_at = time.monotonic()
            self._append(piece)
            self._changed.notify_all()
            return place

    def complete(self) -> None:
        """Nothing more is said after what waits: then the iteration ends."""
        with self._changed:
            self._complete = True
            self._changed.notify_all()

    def finish(self) -> None:
        """What was pushed is whole, and silence may follow at once."""
        with self._changed:
            self._pushed_at = -SPEAKING_S
            self._changed.notify_all()

    def cut(self, made: float) -> tuple[float, float]:
        """Say no more: drop what waits, and what was handed out and is not in the `made` seconds of stream yet.

        Gives stream times in seconds: from which the mouth is closed, and where what was handed out ends. Playback is
        taken to go on from the first: viewers that can, skip what they have of the speech.
        """
        with self._changed:
            tail = self._dequeue(FADED_SAMPLES)
            self._queue.clear()
            self._queued = 0
            self._append(tail.faded_out())
            self._pushed_at = -SPEAKING_S
            self._dropped = self.handed_out + tail.seconds
            self._closing, self._opening = min(made, self._dropped), float("inf")
            if not self._live:  # else what is in the stream has been seen
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
        return self._queued / SAMPLE_RATE

    @property
    def handed_out(self) -> float:
        """Seconds handed out."""
        return self._handed_out / SAMPLE_RATE

    @property
    def speaking(self) -> bool:
        """Whether speech waits, or has been pushed just now."""
        return self._queued > 0 or time.monotonic() - self._pushed_at < SPEAKING_S

    def __iter__(self) -> Generator[AudioChunk, None, None]:
        while piece := self._next():
            yield piece.chunk()

    def close(self) -> None:
        """Nothing is held."""

    def _next(self) -> SpeechPiece | None:
        """What is handed out next, once playback is far enough; None at the end."""
        with self._changed:
            while not (self._ended or (self._complete and not self._queued)):
                room = int((self._clock.now() + self._limit()) * SAMPLE_RATE) - self._handed_out
                wanted = min(self._queued, self._most) or self._silence(room)
                if (missing := wanted - room) <= 0:
                    return self._take(wanted)
                self._changed.wait(self._patience(missing / SAMPLE_RATE))
            return None

    def _patience(self, missing: float) -> float:
        """Seconds to the next look, where playback has to go on for `missing` seconds."""
        if not self._clock.running:
            return MAX_WAIT_S
        fades = self.speaking and not self._queued  # nobody tells when that is over
        return min(MAX_WAIT_S, missing) if fades else missing

    @property
    def _most(self) -> int:
        """Samples of speech that may be handed out at once."""
        return LIVE_SAMPLES if self._live else min(SPEECH_SAMPLES, int(self._lead * SAMPLE_RATE / PIECES_A_LEAD))

    def _silence(self, room: int) -> int:
        """Samples of silence to hand out at once, where there is `room` for so many."""
        if self._live:
            return LIVE_SAMPLES
        least = SILENCE_SAMPLES // 2 if self.speaking else SILENCE_SAMPLES
        return max(least, min(room, int(self._idle * SAMPLE_RATE)) // LIVE_SAMPLES * LIVE_SAMPLES)

    def _limit(self) -> float:
        """Seconds that may be handed out ahead of playback."""
        if self._queued:
            return self._lead
        if not self.speaking:
            return self._idle
        return self._idle - LATE_PUSH_S if self._live else self._idle / 2  # a push that is a little late leaves no gap

    def _take(self, count: int) -> SpeechPiece:
        piece = self._dequeue(count)
        if len(piece.speech) and self._opening == float("inf") and self.handed_out >= self._dropped:
            self._opening = self.handed_out
        self._handed_out += count
        return piece if len(piece.speech) else silence(count)

    def _append(self, piece: SpeechPiece) -> None:
        if len(piece.speech):
            self._queue.append(piece)
            self._queued += len(piece.speech)

    def _dequeue(self, count: int) -> SpeechPiece:
        """The first `count` samples of speech that wait, or all."""
        parts: list[SpeechPiece] = []
        while count and self._queue:
            piece = self._queue.popleft()
            parts.append(piece.part(0, count))
            if len(piece.speech) > count:
                self._queue.appendleft(piece.part(count))
            count -= len(parts[-1].speech)
        taken = joined(parts)
        self._queued -= len(taken.speech)
        return taken

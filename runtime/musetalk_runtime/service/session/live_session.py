"""A live session: a stream that one thread generates once, for any number of viewers."""

import asyncio
import logging
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, Literal

from musetalk_runtime.audio.speech_piece import SpeechPiece
from musetalk_runtime.avatar.pose_player import PosePlayer
from musetalk_runtime.core.arrays import Floats
from musetalk_runtime.core.errors import MuseTalkEdgeError, one_line
from musetalk_runtime.output.video import AccessUnit, VideoOptions
from musetalk_runtime.service.catalog import Pairing
from musetalk_runtime.service.delivery.bit_rate import BitRate
from musetalk_runtime.service.delivery.event_stream import EventStream, ServerSentEvent
from musetalk_runtime.service.delivery.fragments import Fragment, Splitter
from musetalk_runtime.service.delivery.packet_feed import PacketFeed
from musetalk_runtime.service.delivery.window import Window
from musetalk_runtime.service.metrics import Metrics
from musetalk_runtime.service.security.tokens import Token
from musetalk_runtime.service.session.audience import Audience
from musetalk_runtime.service.session.lead import Lead, idle_lead
from musetalk_runtime.service.session.pace import Pace
from musetalk_runtime.service.session.playback_clock import PlaybackClock
from musetalk_runtime.service.session.push import Push
from musetalk_runtime.service.session.push_targets import PushTarget
from musetalk_runtime.service.session.speech_queue import MAX_QUEUED_S, MOUTH_FADE_S, Place, SpeechQueue
from musetalk_runtime.service.session.text_queue import TextQueue
from musetalk_runtime.service.session.turn_timer import TurnTimer
from musetalk_runtime.session import DEFAULT_VIDEO, Session

SessionState = Literal["starting", "idle", "speaking", "ended", "failed"]
PROCESS = secrets.token_hex(4)  # what the ids of all sessions of this process begin with
log = logging.getLogger(__name__)

OpenSession = Callable[["LiveSession"], Session]


class LiveSession:
    """Runs the session that `open_session` opens, from `start` until `stop` or an error, and publishes its events.

    It is made in the event loop. Its `owner` is the token it was begun with, and its stream is sent to `target`, if
    there is one. `video` says how it is encoded.

    Attributes: ``id`` (128 random bits and more), ``pairing`` (bundle and avatar), ``fps``, ``lead``, ``owner``,
    ``clock`` (of playback), ``poses`` (what plays the avatar's clips), ``speech`` (what is to be said), ``text`` (what
    is to be synthesized), ``window`` (the newest part of the stream), ``events``, ``state`` (starting, idle, speaking,
    ended or failed), ``error`` (one line), ``pace``, ``push``, ``audience`` (who watches), ``has_audio_socket``,
    ``packets`` (what is encoded, for WebRTC), ``turns`` (the latency of its turns).
    """

    def __init__(
        self,
        open_session: OpenSession,
        pairing: Pairing,
        fps: Fraction,
        lead: float,
        metrics: Metrics,
        clock: PlaybackClock,
        poses: PosePlayer,
        owner: Token | None = None,
        target: PushTarget | None = None,
        video: VideoOptions = DEFAULT_VIDEO,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.id = PROCESS + secrets.token_urlsafe(18)
        self.pairing, self.fps, self.owner = pairing, fps, owner
        self._rate = float(fps)
        self.clock, self.poses = clock, poses
        self.speech = SpeechQueue(clock, lead, idle_lead(fps))
        self.window = Window(loop)
        self.events = EventStream(loop)
        self.text = TextQueue(self.say, self.speech, self.events)
        poses.on_switch = self._switched
        self.pace = Pace(clock, fps, metrics, self.events)
        self.turns = TurnTimer(metrics, self.events)
        self.state: SessionState = "starting"
        self.error: str | None = None
        self.has_audio_socket = False
        self._open, self._video = open_session, video
        self.bit_rate = BitRate(video.kbps) if video.steered and video.kbps else None
        self._metrics = metrics
        self._session: Session | None = None  # while it runs
        self._frames = 0  # that it made, once it has ended
        self._counted = 0
        self._began = time.monotonic()
        self._spoken_at = time.monotonic()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="session", daemon=True)
        self.packets = PacketFeed(loop, fps, self.force_keyframe)
        self.lead = Lead(lead, fps, self.speech, clock, self.pace)
        self.audience = Audience(self.lead.follow)
        self.lead.follow(self.audience)
        watched = self.audience.touch
        self.push = Push(target, self.id, self.window, self.events, clock, watched) if target else None

    def start(self) -> None:
        """Begin to generate."""
        self._thread.start()
        self._log("begins")

    def stop(self) -> None:
        """End soon, with a whole file; returns at once. Safe from any thread."""
        self._stopping.set()
        self.text.clear()
        self.speech.interrupt()
        if session := self._session:
            session.stop()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end; whether it has come."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def abandon(self, error: MuseTalkEdgeError) -> None:
        """Fail, although the thread may never come back from where it is."""
        self.stop()
        self._fail(error)

    def say(self, piece: SpeechPiece, limit: float = MAX_QUEUED_S) -> Place | None:
        """Say `piece` after what waits already; None, and nothing said, if more than `limit` s wait."""
        if place := self.speech.push(piece, limit):
            self.turns.hear(piece, place.begin)
        return place

    def encoded(self, units: Sequence[AccessUnit], sound: Floats) -> None:
        """Take what is encoded of the next frames, as ``SessionHooks`` has it. For the session's thread."""
        self.packets.publish(units, sound)
        if self.bit_rate:
            self.bit_rate.sent(sum(len(unit.data) for unit in units))
        if units:
            self.lead.encoded()
            at = units[-1].index / self._rate
            self.turns.made(at, max(0.0, at - self.clock.now()) if self.audience.peers else 0.0)

    def silence(self) -> float:
        """Drop the speech that is queued or under way (barge-in); the stream time from which the mouth is closed."""
        self.pace.forgive()
        self.text.clear()
        made = float(self.frames / self.fps)
        at, end = self.speech.cut(made)
        if session := self._session:  # which may have made more meanwhile
            at = max(at, min(session.hush(end), end) + MOUTH_FADE_S)
        self.turns.interrupt(at)
        self.packets.hush()
        self._metrics.add("dropped_frames_total", max(0, int((end - made) * self.fps)))
        self.events.publish("interrupted", at=round(at, 3))
        return at

    def force_keyframe(self) -> None:
        """Make the next frame a keyframe. Safe from any thread. Viewers ask ``packets`` for one."""
        if session := self._session:
            session.force_keyframe()

    def claim_audio_socket(self) -> bool:
        """Take the one place of an audio socket, until `release_audio_socket`; False where another has it."""
        if self.has_audio_socket:
            return False
        self.has_audio_socket = True
        return True

    def release_audio_socket(self) -> None:
        """Leave the place to another audio socket."""
        self.has_audio_socket = False

    @property
    def unused(self) -> float:
        """Seconds since somebody watched it or spoke, or since it ended."""
        return min(self.audience.unwatched, time.monotonic() - self._spoken_at)

    def maintain(self) -> None:
        """Measure its pace, publish its buffer, and note who uses it; to be called each second."""
        self.pace.measure(self.frames, self.state == "speaking")
        self.events.publish("buffer", **self.figures())
        if self.audience.viewers:
            self.audience.touch()
        if self.speech.speaking:
            self._spoken_at = time.monotonic()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    @property
    def running(self) -> bool:
        """Whether it still makes frames."""
        return self.state not in ("ended", "failed")

    @property
    def frames(self) -> int:
        """Frames generated."""
        session = self._session
        return session.frames_made if session else self._frames

    @property
    def waiting(self) -> int:
        """Frames handed to the engines, finished or not, that are not in the stream yet."""
        session = self._session
        return session.waiting if session else 0

    def due(self, index: int) -> float:
        """When frame `index` is to be shown, by ``time.monotonic``. See ``Timetable``."""
        return time.monotonic() + index / self._rate - self.clock.now()

    def limit(self, index: int) -> float:
        """How far the mouth may open in frame `index`. See ``Timetable``."""
        return self.speech.mouth(index / self._rate)

    @property
    def ahead(self) -> float:
        """Seconds that generation is ahead of playback."""
        return float(self.frames / self.fps) - self.clock.now()

    def snapshot(self) -> ServerSentEvent:
        """Its state now, as an event."""
        error = {"error": self.error} if self.error else {}
        return ServerSentEvent("state", {"state": self.state, "at": round(float(self.frames / self.fps), 3), **error})

    def figures(self) -> dict[str, Any]:
        """Its buffer now, in seconds, and how many watch."""
        seconds = {"generated": float(self.frames / self.fps), "ahead": self.ahead, "queued": self.speech.queued}
        return {**{name: round(value, 2) for name, value in seconds.items()}, "viewers": self.audience.viewers}

    def _run(self) -> None:
        try:
            with self._open(self) as session:
                self._session = session
                if not self._stopping.is_set():
                    self._stream(session)
        except Exception as error:
            self._fail(error)
        else:
            self._finish("ended")
        finally:
            if self._session:
                self._frames, self._session = self._session.frames_made, None  # they refer to each other

    def _stream(self, session: Session) -> None:
        splitter = Splitter()
        for data in session.stream(video=self._video):
            begun = splitter.init is not None
            fragments = splitter.feed(data)
            if splitter.init is not None and not begun:
                self.window.begin(splitter.init)
            if fragments:
                self._publish(fragments)
        if splitter.init is not None:
            splitter.finish()

    def _publish(self, fragments: Sequence[Fragment]) -> None:
        self.window.append(*fragments)
        if not self.clock.running:
            self.clock.start()
            self._metrics.first_fragment(time.monotonic() - self._began)
        self._count()
        self._move("speaking" if self.turns.speaks(self.frames / self._rate) else "idle")
        self.pace.made(self.frames)

    def _count(self) -> None:
        frames = self.frames
        self._metrics.add("frames_total", frames - self._counted)
        self._counted = frames

    def _move(self, state: SessionState) -> None:
        if state != self.state:
            self.state = state
            event = self.snapshot()
            self.events.publish(event.name, **event.content)

    def _switched(self, pose: str, at: float) -> None:
        self.events.publish("pose", pose=pose, at=round(at, 3))

    def _log(self, what: str) -> None:
        """Log it, with no more of the id than tells sessions apart: whoever has all of the id can watch."""
        known = {"session": self.id[:6], "avatar": self.pairing.avatar, "frames": self.frames}
        log.info("session %s", what, extra=known)

    def _fail(self, error: Exception) -> None:
        if not self.running:  # it was abandoned, and its thread came back after all
            return
        known = isinstance(error, MuseTalkEdgeError)
        log.error("session failed: %s", error, exc_info=None if known else error)
        self.error = one_line(error) if known else f"the session failed: {type(error).__name__}"
        self._metrics.add("errors_total")
        self._finish("failed")

    def _finish(self, state: SessionState) -> None:
        if not self.running:
            return
        self._count()
        self.audience.touch()
        self._move(state)
        self.events.end()
        self.packets.end()
        self.window.end(self.error)
        self._log(state)

"""The service: all sessions of one process, from their admission to their end."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fractions import Fraction
from typing import Literal

from musetalk_runtime.audio.speech_piece import SpeechPiece
from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.bundle import Bundle
from musetalk_runtime.core.errors import InvalidArgument, MuseTalkEdgeError
from musetalk_runtime.frame_rate import parse_rate
from musetalk_runtime.service.avatars.store import AvatarStore
from musetalk_runtime.service.catalog import Catalog, Pairing
from musetalk_runtime.service.errors import RETRY_SOON, EngineFailed, ServiceError
from musetalk_runtime.service.metrics import Metrics
from musetalk_runtime.service.scheduling.admission import Admission, Admitted
from musetalk_runtime.service.scheduling.remeasurement import Remeasurement
from musetalk_runtime.service.scheduling.session_starter import SessionStarter
from musetalk_runtime.service.scheduling.warm_up import warm_up
from musetalk_runtime.service.security.tokens import Token
from musetalk_runtime.service.session.live_session import LiveSession
from musetalk_runtime.service.session.pace import MIN_FPS
from musetalk_runtime.service.session.playback_clock import PlaybackClock
from musetalk_runtime.service.session.push_targets import PushTarget
from musetalk_runtime.service.sessions import Sessions
from musetalk_runtime.service.settings import Settings, check_lead
from musetalk_runtime.tts.process import SynthesizerProcess
from musetalk_runtime.tts.synthesizer import why_missing

DEFAULT_BUNDLE = "default"  # the name of a bundle that is given without one
CLOSE_TIMEOUT_S = 8.0  # seconds in which all threads have to end
ADVICE = "end other work on it, or take smaller engines, a smaller picture or a GPU; it is measured again when idle"
WORKER_THREADS = 4  # threads that read and decode uploads
MAX_UPLOADS = {"clip": 8, "avatar": 4}  # at once: a clip is soon over, and waits for no avatar

log = logging.getLogger(__name__)


class Service:
    """Sessions of `bundles`, by name or a lone one, for `avatars` by name. `playback_clock` makes their clocks.

    Methods are for the event loop. Only `maintain`, `delete_avatar` and `shut_down` wait. `measure` comes first, before
    the event loop runs. Raises AvatarMismatch for an avatar that goes with no bundle, InvalidArgument for a name out of
    form, and what ``AvatarStore`` does.

    Attributes: ``catalog`` (bundles and avatars), ``admission``, ``sessions``, ``starter`` (of sessions), ``engines``
    (what that has of them, by the names of their bundles), ``store`` (of uploaded avatars; None without
    ``settings.avatar_folder``), ``settings``, ``metrics``, ``workers`` (a small thread pool for files and codecs),
    ``draining`` (whether it is about to end, and refuses new sessions), ``admits`` (whether new sessions are let in;
    those that run go on), ``hung`` (whether a thread did not end).
    """

    def __init__(
        self,
        bundles: Bundle | Mapping[str, Bundle],
        avatars: Mapping[str, Avatar],
        settings: Settings,
        playback_clock: Callable[[], PlaybackClock] = PlaybackClock,
    ) -> None:
        self.catalog = Catalog({DEFAULT_BUNDLE: bundles} if isinstance(bundles, Bundle) else bundles, avatars)
        self.admission = Admission(self.catalog, settings.sessions)
        self.remeasurement = Remeasurement(self.catalog, self.admission)
        self.settings = settings
        self.sessions = Sessions(lambda: self.settings)
        self.metrics = Metrics()
        self.workers = ThreadPoolExecutor(WORKER_THREADS, "service")
        self.store = self._open_store()
        self._synthesizer: SynthesizerProcess | None = None
        self.draining = False
        self.admits = True
        self.hung = False
        self.starter = SessionStarter(self.catalog, self.metrics, playback_clock)
        self.engines = self.starter.engines
        self._uploads: Counter[str] = Counter()
        self._alive_at = time.monotonic()

    def measure(self) -> list[str]:
        """Load and start what sessions need, and find what they cost; gives what the operator should know, in lines.

        Raises what a session would.
        """
        warnings = []
        for pairing in self.catalog.pairings():
            cost = warm_up(self.catalog.bundles[pairing.bundle], self.catalog.avatars[pairing.avatar])
            self.admission.costs[pairing] = cost
            rate = self.admission.rate([], pairing, None)
            if rate and (shortfall := self.admission.shortfall([(rate, pairing)])):
                warnings.append(f"avatar {pairing.avatar} at {float(rate):g} fps: {shortfall}; {ADVICE}")
        if not self._hardware_encoder:
            self.starter.encoders.prepare(self.admission.room([]))
        return warnings

    def open(
        self,
        avatar: str,
        fps: str = "auto",
        lead: float | None = None,
        bundle: str | None = None,
        speech: SpeechPiece | None = None,
        owner: Token | None = None,
        target: PushTarget | None = None,
    ) -> LiveSession:
        """Begin a session. It says `speech` and ends; without it, it is live.

        `owner` is the token it is begun with; its stream is sent to `target`. Raises ServiceError or InvalidArgument.
        """
        pairing = self.catalog.find(avatar, bundle)
        lead = self.settings.lead if lead is None else lead
        check_lead(lead)
        wanted = None if fps == "auto" else parse_rate(fps, self.catalog.bundles[pairing.bundle])
        if wanted is not None and wanted < MIN_FPS:
            raise InvalidArgument(f"fps {fps} is out of range: expected {MIN_FPS} or more")
        rate = self._admit(pairing, wanted)
        self.remeasurement.cancel()
        others = len(self.sessions.running)
        session = self.starter.make(pairing, rate, lead, others, self._hardware_encoder, owner, target)
        if shortfall := self.admission.shortfall([*self._admitted, (rate, pairing)]):
            session.speech.warnings.append(shortfall)
        if speech is not None:
            session.say(speech)
            session.speech.complete()
        self.sessions.add(session)
        self.metrics.add("sessions_total")
        session.start()
        return session

    def require_store(self) -> AvatarStore:
        """The store of uploaded avatars; raises ServiceError where this service takes none."""
        if self.store is None:
            raise ServiceError(403, "no_uploads", "this service takes no avatars: it was started without --avatars")
        return self.store

    @property
    def why_no_text(self) -> str | None:
        """Why this service speaks no text, in one line; None where it does."""
        return why_missing(self.settings.tts)

    def require_synthesizer(self) -> SynthesizerProcess:
        """The engine that text is spoken by; raises ServiceError where there is none."""
        if reason := self.why_no_text:
            raise ServiceError(403, "no_text", reason)
        self._synthesizer = self._synthesizer or SynthesizerProcess(self.settings.tts)
        return self._synthesizer

    async def load_synthesizer(self) -> None:
        """Load the engine that text is spoken by, where that is to be done at once; the log has what went wrong."""
        if self.settings.load_tts and not self.why_no_text:
            try:
                await self.require_synthesizer().start()
            except MuseTalkEdgeError as error:
                log.warning("text cannot be spoken: %s", error)

    async def delete_avatar(self, name: str) -> None:
        """Delete an uploaded avatar that no session uses, or end its making; raises ServiceError."""
        try:
            self.remeasurement.cancel()
            await asyncio.to_thread(self.remeasurement.join)
            await self.require_store().delete(name, self._avatars_in_use)
        finally:
            if name not in self.catalog.avatars:
                self.admission.forget(name)

    @contextmanager
    def upload(self, kind: Literal["clip", "avatar"]) -> Iterator[None]:
        """Count an upload while it is under way; raises ServiceError where too many of its kind are."""
        if self._uploads[kind] >= MAX_UPLOADS[kind]:
            raise ServiceError(503, "too_many_uploads", f"{self._uploads[kind]} uploads are under way", RETRY_SOON)
        self._uploads[kind] += 1
        try:
            yield
        finally:
            self._uploads[kind] -= 1

    @property
    def avatars(self) -> dict[str, Avatar]:
        """The avatars, by name."""
        return self.catalog.avatars

    @property
    def free(self) -> int:
        """How many more sessions fit now."""
        if self.draining or not self.admits or len(self.failed) == len(self.engines):
            return 0
        return self.admission.room(self._admitted)

    @property
    def failed(self) -> dict[str, str]:
        """What went wrong with engines that failed, by the names of their bundles."""
        return {name: worker.error for name, worker in self.engines.items() if worker.error is not None}

    @property
    def dead(self) -> bool:
        """Whether engines have failed, no session runs any more, and everybody has had time to be told."""
        if not self.failed or self.sessions.running:
            self._alive_at = time.monotonic()
        return time.monotonic() - self._alive_at > self.settings.grace

    def drain(self) -> None:
        """Refuse what is new and end what runs."""
        self.draining = True
        self.sessions.stop()

    async def maintain(self) -> None:
        """Each second, publish every session's buffer, end unused sessions, and forget those that ended; for ever."""
        while True:
            try:
                self._maintain_all()
            except Exception:  # a bug in one thing must not let all sessions live for ever
                log.exception("sessions were not looked after")
            await asyncio.sleep(1.0)

    async def shut_down(self) -> None:
        """Drain, and wait until every session's thread has ended; ``hung`` if one has not in time."""
        self.drain()
        self.remeasurement.cancel()
        if self.store:
            await self.store.close()
        until = time.monotonic() + CLOSE_TIMEOUT_S
        if not await asyncio.to_thread(self.remeasurement.join, CLOSE_TIMEOUT_S):
            self.hung = True
        if not await self.sessions.wait_ended(until):
            self.hung = True
        for worker in self.engines.values():
            if not await asyncio.to_thread(worker.end, max(0.0, until - time.monotonic())):
                self.hung = True
        self.starter.encoders.close()
        if self._synthesizer:
            await self._synthesizer.close()
        self.workers.shutdown(wait=False, cancel_futures=True)

    def _open_store(self) -> AvatarStore | None:
        settings = self.settings
        if settings.avatar_folder is None:
            return None
        return AvatarStore(
            settings.avatar_folder,
            self.catalog,
            self.workers,
            settings.face_model,
            settings.upload_limits,
            settings.detail,
        )

    @property
    def _avatars_in_use(self) -> set[str]:
        measured = {self.remeasurement.avatar} if self.remeasurement.avatar else set()
        return measured | {session.pairing.avatar for session in self.sessions.running}

    @property
    def _admitted(self) -> list[Admitted]:
        return [(session.fps, session.pairing) for session in self.sessions.running]

    @property
    def _hardware_encoder(self) -> bool:
        return any(cost.encoder for cost in self.admission.costs.values())

    def _admit(self, pairing: Pairing, wanted: Fraction | None) -> Fraction:
        """The rate of a new session; raises ServiceError."""
        if self.draining:
            raise ServiceError(503, "shutting_down", "the service is about to end", RETRY_SOON)
        if not self.admits:
            raise ServiceError(503, "closed", "this device takes no new sessions at the moment", RETRY_SOON)
        if (error := self.engines[pairing.bundle].error) is not None:
            raise EngineFailed(error)
        rate = self.admission.rate(self._admitted, pairing, wanted)
        if rate is None:
            self.metrics.add("refused_total")
            self.sessions.want_place(None)
            many = len(self.sessions.running)
            message = f"{many} session{'s run' if many > 1 else ' runs'}, this machine holds no more"
            raise ServiceError(503, "no_capacity", message, RETRY_SOON)
        return rate

    def _maintain_all(self) -> None:
        for name, worker in self.engines.items():
            if worker.check():
                for session in self.sessions.running:
                    if session.pairing.bundle == name:
                        session.abandon(EngineFailed(worker.error or ""))
        self.sessions.maintain()
        if not self.sessions.running and not self.draining:
            self.remeasurement.idle()
        self.starter.encoders.maintain()
        if self.store:
            self.store.release_idle(self._avatars_in_use)

"""What a new session of a service is made of: engines, an encoder, a clock, and the hooks between them."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.avatar.pose_player import PosePlayer
from musetalk_runtime.backends.crossfade import CrossfadeRenderer
from musetalk_runtime.backends.interface import Renderer
from musetalk_runtime.core.timings import Timings
from musetalk_runtime.output.video import VideoOptions
from musetalk_runtime.service.catalog import Catalog, Pairing
from musetalk_runtime.service.delivery.bit_rate import most_kbps
from musetalk_runtime.service.metrics import Metrics
from musetalk_runtime.service.scheduling.engine_worker import EngineWorker
from musetalk_runtime.service.scheduling.repeating_renderer import RepeatingRenderer
from musetalk_runtime.service.scheduling.session_encoders import SessionEncoders
from musetalk_runtime.service.security.tokens import Token
from musetalk_runtime.service.session.live_session import LiveSession
from musetalk_runtime.service.session.playback_clock import PlaybackClock
from musetalk_runtime.service.session.push_targets import PushTarget
from musetalk_runtime.session import Session
from musetalk_runtime.session_hooks import OpenMuxer, SessionHooks

TIMED_FRAMES = 100  # frames of each stage that a session keeps the times of: they are counted in metrics


class SessionStarter:
    """Makes the sessions of `catalog`, which share its engines.

    Attributes: ``engines`` (an ``EngineWorker`` for each bundle, by name), ``encoders``, ``playback_clock`` (makes the
    clock of a session).
    """

    def __init__(self, catalog: Catalog, metrics: Metrics, playback_clock: Callable[[], PlaybackClock]) -> None:
        self._catalog, self._metrics = catalog, metrics
        self.playback_clock = playback_clock
        self.engines = {
            name: EngineWorker(bundle, self._timings(), metrics.batch) for name, bundle in catalog.bundles.items()
        }
        self.encoders = SessionEncoders(catalog.bundles.values())

    def make(
        self,
        pairing: Pairing,
        rate: Fraction,
        lead: float,
        others: int,
        by_hardware: bool,
        owner: Token | None,
        target: PushTarget | None,
    ) -> LiveSession:
        """A session that is not started yet, beside so many `others`, encoded `by_hardware` where it has a lead."""
        pack = self._catalog.avatars[pairing.avatar]
        video = VideoOptions(threads=self.encoders.threads(others))
        if not lead:  # NVENC holds three frames back, libx264 none
            most = most_kbps(pack.width, pack.height, rate)
            video = replace(video, encoder="x264", kbps=most, steered=True)
        open_muxer = None if lead and by_hardware else self.encoders.muxer(others)
        clock, poses = self.playback_clock(), PosePlayer(pack, rate)

        def start(session: LiveSession) -> Session:
            return self._open(session, open_muxer)

        return LiveSession(start, pairing, rate, lead, self._metrics, clock, poses, owner, target, video)

    def _open(self, session: LiveSession, open_muxer: OpenMuxer | None) -> Session:
        """What makes the frames of `session`, in its thread."""
        bundle = self._catalog.bundles[session.pairing.bundle]
        worker = self.engines[session.pairing.bundle]

        def renderer(face: Avatar, _: Timings) -> Renderer:
            shared = CrossfadeRenderer(worker.renderer(face, session), bundle.engines.new_frame)
            return RepeatingRenderer(shared, lambda: session.pace.share)

        rate_now = session.bit_rate.now if session.bit_rate else None
        hooks = SessionHooks(
            mouth=session.speech.mouth,
            renderer=renderer,
            renderer_shared=True,
            muxer=open_muxer,
            timings=self._timings(),
            encoded=session.encoded,
            poses=session.poses,
            kbps=rate_now,
        )
        return Session(bundle, self._catalog.avatars[session.pairing.avatar], session.speech, session.fps, hooks)

    def _timings(self) -> Timings:
        return Timings(self._metrics.stage, TIMED_FRAMES)

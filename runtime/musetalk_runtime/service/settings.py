"""The settings of a service."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from musetalk_runtime.core.detail import Detail
from musetalk_runtime.core.errors import InvalidArgument
from musetalk_runtime.service.avatars.upload import UploadLimits
from musetalk_runtime.service.session.clip import MAX_CLIP_BYTES, MAX_CLIP_SECONDS
from musetalk_runtime.service.session.push_targets import PushTarget, check_targets, unknown_target
from musetalk_runtime.service.webrtc.ice_server import IceServer
from musetalk_runtime.tts.synthesizer import HIBARI, why_missing

LEADS_S = (0.5, 10.0)  # seconds: the least and the greatest lead
MAX_SESSIONS = 1000
MIN_IDLE_S, MAX_IDLE_S = 0.1, 86_400.0


@dataclass(frozen=True)
class Settings:
    """How a service is set up. Raises InvalidArgument.

    - `sessions`: how many may run at once, None for as many as this machine is measured to hold
    - `lead`: seconds of stream generated ahead of playback; 0 for viewers by WebRTC: a frame and 20 ms
    - `idle`: seconds after which a session without viewers and speech ends; where another is refused meanwhile, it is
      ended 30 s after its last viewer left, whether it speaks or not
    - `grace`: seconds that running streams have to end in
    - `viewers`: how many may watch at once, and `peers`: how many of them by WebRTC
    - `ice_servers`: STUN and TURN servers, for this service and its viewers by WebRTC
    - `targets`: URLs, by name, that streams may be sent to, where ``{id}`` stands for the session's id
    - `avatar_folder`: where uploaded avatars are kept, None to take no uploads; `upload_limits` is what they may cost,
      and `face_model` the face detector, by default the bundle's; `detail`: how they are opened, see ``Avatar.open``
    - `tts`: the engine that text is spoken by, see ``open_synthesizer``; `load_tts`: load it at once, and not for the
      first text
    - `clip_bytes`, `clip_seconds`: the limits of an uploaded clip of speech
    - `hls_wait`: seconds that an HLS player may wait for what is not there yet
    - `head_timeout`, `body_timeout`: seconds in which the head of a request, and each piece of its JSON, has to come
    - `upload_rate`: bytes a second that an upload has to bring; it may be `body_timeout` seconds behind that
    - `push_retry_waits`: seconds before a reconnection to a media server, by how many have failed one after another;
      then it is given up. `push_stall_timeout`: seconds in which a server has to take something
    """

    sessions: int | None = None
    lead: float = 2.0
    idle: float = 300.0
    grace: float = 10.0
    viewers: int = 256
    peers: int = 64
    ice_servers: tuple[IceServer, ...] = ()
    targets: Mapping[str, str] = field(default_factory=dict)
    avatar_folder: Path | None = None
    face_model: Path | None = None
    detail: Detail = "auto"
    upload_limits: UploadLimits = field(default_factory=UploadLimits)
    tts: str = HIBARI
    load_tts: bool = False
    clip_bytes: int = MAX_CLIP_BYTES
    clip_seconds: float = MAX_CLIP_SECONDS
    hls_wait: float = 3.0
    head_timeout: float = 20.0
    body_timeout: float = 10.0
    upload_rate: int = 16 << 10
    push_retry_waits: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0)
    push_stall_timeout: float = 10.0

    def __post_init__(self) -> None:
        check_lead(self.lead)
        check_targets(self.targets)
        if self.tts != HIBARI and (reason := why_missing(self.tts)):
            raise InvalidArgument(reason)
        if not MIN_IDLE_S <= self.idle <= MAX_IDLE_S:
            raise InvalidArgument(f"idle {self.idle:g} is out of range [{MIN_IDLE_S:g}, {MAX_IDLE_S:g}] s")
        if self.sessions is not None and not 1 <= self.sessions <= MAX_SESSIONS:
            raise InvalidArgument(f"sessions {self.sessions} is out of range [1, {MAX_SESSIONS}]")

    def target(self, name: str) -> PushTarget:
        """The media server that the operator named so; raises ServiceError for none."""
        if name not in self.targets:
            raise unknown_target(name)
        return PushTarget(name, self.targets[name], self.push_retry_waits, self.push_stall_timeout)


def check_lead(lead: float) -> None:
    """Raise InvalidArgument for a lead out of range."""
    if lead != 0 and not LEADS_S[0] <= lead <= LEADS_S[1]:
        raise InvalidArgument(f"lead {lead:g} is out of range [{LEADS_S[0]:g}, {LEADS_S[1]:g}] s, and not 0")

"""The JSON of the API's requests and answers."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from musetalk_runtime.service.avatars.new_avatar import AvatarState
from musetalk_runtime.service.session.live_session import SessionState
from musetalk_runtime.service.session.push import PushState

MAX_TEXT_CHARACTERS = 5_000  # of one request

Seconds = Annotated[float, Field(description="seconds")]
Before = Annotated[float, Field(description="seconds of what waited to be said before it")]
Warnings = Annotated[
    tuple[str, ...],
    Field(
        description="what was wrong with the file that was sent, and is left out or changed",
        examples=[["the audio ends at 1.4 s, its header says 2.0 s"]],
    ),
]


class SessionSettings(BaseModel):
    """A session to begin."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"avatar": "anna"}, {"avatar": "anna", "fps": 25, "lead": 1.0}]}
    )

    avatar: Annotated[str, Field(max_length=64, description="a name that `GET /v1/avatars` lists")]
    fps: Annotated[
        Annotated[str, Field(max_length=16)] | int | float,
        Field(description="frames a second, a number or a fraction; auto: what this machine can hold"),
    ] = "auto"
    bundle: Annotated[
        str | None, Field(max_length=64, description="whose engines; needed where the avatar goes with several bundles")
    ] = None
    lead: Annotated[
        float | None,
        Field(
            description="seconds that speech sent at once is generated ahead of playback: less lets a viewer that "
            "cannot skip hear an interruption sooner. 0 is for WebRTC: a frame is begun a frame and 20 ms ahead"
        ),
    ] = None
    push: Annotated[
        str | None,
        Field(max_length=64, description="a media server to send the stream to: a name that the operator gave it"),
    ] = None


class FileSession(SessionSettings):
    """A session to begin that says a file first."""

    then: Annotated[
        Literal["end", "listen"], Field(description="what it does after the file: it ends, or idles as a live session")
    ] = "end"


class LiveSession(SessionSettings):
    """A session to begin that is spoken to while it runs."""

    audio: Annotated[Literal["live"], Field(description="speech is sent while the session runs")] = "live"


class IceServerAnswer(BaseModel):
    """A STUN or TURN server, in the form of a browser's RTCIceServer."""

    urls: str
    username: str | None = None
    credential: str | None = None


class SessionAnswer(BaseModel):
    """A session. Without tokens, whoever knows its id may watch it and speak. With tokens it is its token's alone, and
    its addresses are signed: each works for an hour, for whoever has it, without a header.
    """

    id: str
    avatar: str
    bundle: str
    fps: Annotated[float, Field(description="frames made a second: fewer than at first while the machine is too slow")]
    state: SessionState
    error: str | None = None
    generated: Annotated[float, Field(description="seconds of the stream there are")]
    queued: Annotated[float, Field(description="seconds of speech that wait")]
    viewers: int
    pose: Annotated[str, Field(description="which of the avatar's poses plays, or fades in")]
    poses: Annotated[tuple[str, ...], Field(description="the poses of its avatar, the first plays by default")]
    push: Annotated[PushState | None, Field(description="how the sending to a media server is")] = None
    warnings: Warnings = ()
    stream: Annotated[str, Field(description="fragmented MP4", examples=["/v1/sessions/ID/stream.mp4"])]
    whep: Annotated[
        str | None,
        Field(
            description="WebRTC, as WHEP has it, to watch and to speak: POST an offer. Null without the extra",
            examples=["/v1/sessions/ID/whep"],
        ),
    ]
    ice_servers: Annotated[
        tuple[IceServerAnswer, ...], Field(description="STUN and TURN servers, for RTCPeerConnection")
    ] = ()
    hls: Annotated[str, Field(description="the same as HLS", examples=["/v1/sessions/ID/hls/stream.m3u8"])]
    events: Annotated[str, Field(description="server-sent events", examples=["/v1/sessions/ID/events"])]
    audio: Annotated[str, Field(description="speech: POST a file, or a WebSocket", examples=["/v1/sessions/ID/audio"])]


class FileSessionAnswer(SessionAnswer):
    """A session that was begun with a file."""

    seconds: Annotated[float, Field(description="how long the file is, in seconds")]
    before: Before


class AvatarProgress(BaseModel):
    """How far the preparation of an avatar is."""

    stage: str
    done: Annotated[int, Field(description="frames")]
    total: Annotated[int, Field(description="of how many")]


class AvatarAnswer(BaseModel):
    """An avatar: once it is ready, its size in pixels, the frames of its clips, how many of them have a face, where the
    face is in the picture, from x0, y0 to x1, y1, and the bundles it goes with.
    """

    name: str
    state: AvatarState
    uploaded: Annotated[bool, Field(description="whether it came by `POST /v1/avatars`, and can be deleted")]
    width: int | None = None
    height: int | None = None
    frames: int | None = None
    faces: int | None = None
    face_box: tuple[int, int, int, int] | None = None
    poses: Annotated[list[str], Field(description="the names of its clips, the first plays by default")] = []
    bundles: list[str] = []
    progress: AvatarProgress | None = None
    warnings: Warnings = ()
    error: str | None = None
    events: Annotated[str, Field(description="server-sent events", examples=["/v1/avatars/NAME/events"])]
    picture: Annotated[str, Field(description="JPEG", examples=["/v1/avatars/NAME/picture.jpg"])]


class LimitsAnswer(BaseModel):
    """What may be sent: a clip of speech, and an avatar's photo or video, none if that is 0 bytes; whether its face is
    found, or its box has to be given; and the characters of a text, none if that is 0, with the reason.
    """

    clip_bytes: int
    clip_seconds: Seconds
    avatar_bytes: int
    finds_faces: bool
    text_characters: int
    no_text: str | None = None


class ClipAnswer(BaseModel):
    """Speech that was taken, what waited before it, and both together, in seconds."""

    seconds: Seconds
    before: Before
    queued: Seconds
    warnings: Warnings


class Text(BaseModel):
    """Text to say."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"text": "Hello. I say what you write"}]})

    text: Annotated[str, Field(min_length=1, max_length=MAX_TEXT_CHARACTERS, description="plain text")]


class TextAnswer(BaseModel):
    """Text that was taken: how many sentences it has, and the characters of all text that waits now."""

    sentences: int
    queued: int


class Pose(BaseModel):
    """A pose to go over to."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"name": "wave"}]})

    name: Annotated[str, Field(max_length=64, description="one of the avatar's `poses`")]
    repeat: Annotated[
        bool, Field(description="it plays on until another is asked for; otherwise once, and then the first pose again")
    ] = False


class PoseAnswer(BaseModel):
    """The pose that plays or fades in now. The event `pose` tells when the one that was asked for does."""

    pose: str


class CutAnswer(BaseModel):
    """An interruption: the mouth is closed from the stream's second `at` on, and a viewer may skip to there.

    What was generated up to there has been sent, or is about to be; nothing after it is shown or heard of the speech.
    """

    at: Seconds


class ErrorContent(BaseModel):
    """`code` is for programs, `message` for people."""

    code: Annotated[str, Field(examples=["unknown_session"])]
    message: Annotated[str, Field(examples=["no such session: it has ended, or its id is wrong"])]


class ErrorAnswer(BaseModel):
    """Every answer that is an error."""

    error: ErrorContent

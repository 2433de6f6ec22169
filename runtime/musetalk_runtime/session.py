"""A session: an avatar that says one piece of audio, as frames or as a stream."""

import sys
import threading
import time
import warnings
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

from musetalk_runtime.audio.decode.file import AudioFile
from musetalk_runtime.audio.live import LivePcm
from musetalk_runtime.audio.mute import Mute
from musetalk_runtime.audio.source import AudioSource
from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.avatar.pose_player import PosePlayer
from musetalk_runtime.backends.crossfade import own_alpha, own_frame
from musetalk_runtime.backends.interface import FrameRequest, OnGpu
from musetalk_runtime.bundle import Bundle
from musetalk_runtime.core.arrays import NV12
from musetalk_runtime.core.closable import Closable
from musetalk_runtime.core.errors import InvalidArgument, MachineError
from musetalk_runtime.core.timings import peak_memory_mb
from musetalk_runtime.frame import Frame, GpuFrame, mixed
from musetalk_runtime.frame_rate import parse_rate
from musetalk_runtime.output.muxer import Muxer
from musetalk_runtime.output.pieces import Pieces
from musetalk_runtime.output.relay_process import RelayProcess
from musetalk_runtime.output.video import Picture, VideoOptions
from musetalk_runtime.output.webm import WebmMuxer
from musetalk_runtime.output.writable import Writable
from musetalk_runtime.session_hooks import SessionHooks
from musetalk_runtime.speech_renderer import SpeechRenderer

T = TypeVar("T")

DEFAULT_VIDEO = VideoOptions()
PUSH_LEAD_S = 1.0  # seconds that a push to a URL runs ahead of real time


class Session(Closable):
    """Makes frames, or a stream's bytes, while audio is read. Iterate `frames`, `gpu_frames`, `stream` or `push`, once.

    `audio` is a file that FFmpeg reads, or live speech: PCM bytes (signed 16-bit little-endian, mono, 16 kHz) or an
    iterable of them, such as a ``PipeReader``; if it can wait for long, it needs an ``interrupt()`` like that one's.
    `fps` is ``auto``, a number or a fraction; `direction` is for who runs the session while it runs. Raises
    InputNotFound, InvalidMedia, InvalidArgument or AvatarMismatch. When iterated it raises InvalidMedia for live audio
    that ends before its first sample, and InvalidArgument for an item that is no bytes, or where `bundle` or `avatar`
    was closed.

    Attributes: ``fps`` (Fraction), ``frames_made``, ``encoder`` (its name, once a stream began),
    ``first_fragment_seconds`` (from the opening, once there is one), ``stopping`` (an Event, set once it is to end).

    Two threads make the audio tokens and the frames, a few frames ahead; `close` ends them. Use ``with``: one that is
    dropped unclosed gives a ResourceWarning, and its threads end a moment later.
    """

    _closed = True

    def __init__(
        self,
        bundle: Bundle,
        avatar: Avatar,
        audio: str | Path | bytes | Iterable[bytes] | AudioSource,
        fps: str | float | Fraction = "auto",
        direction: SessionHooks | None = None,
    ) -> None:
        self._started = time.perf_counter()
        avatar.check(bundle.spec)
        self.avatar = avatar
        self.fps = parse_rate(str(fps), bundle)
        self._direction = direction or SessionHooks()
        self.timings = self._direction.timings
        self.frames_made = 0
        self.encoder: str | None = None
        self.first_fragment_seconds: float | None = None
        self._poses = self._direction.poses or PosePlayer(avatar, self.fps)
        self._mute = Mute()
        self._keyframe = threading.Event()
        self.stopping = threading.Event()
        with self.timings.measure("open_audio", 0):
            self.audio = _source(audio)
        self._rendered = SpeechRenderer(bundle, avatar, self.audio, self.fps, self._poses, self._direction)
        self._closed = False

    def frames(self) -> Iterator[Frame]:
        """The frames in order, until the audio ends or `stop` is called."""
        for frame, _ in self._frames():
            yield frame

    def gpu_frames(self) -> Iterator[GpuFrame]:
        """As `frames`, but left on the GPU, each until the next one is asked for; raises MachineError for the CPU's.

        What the application does with a frame on the ``stream`` that it gave to ``Bundle.open`` is waited for; what it
        does on another stream must be over when it asks for the next one. Poses are not crossfaded here: one follows
        the other where they are most alike.
        """
        for batch, rendering in self._rendered:
            if not isinstance(rendering, OnGpu):
                raise MachineError("frames on the GPU need a bundle for one: run build-engines on a machine with a GPU")
            for request, nv12 in self._made(batch, rendering.arrays()):
                speech = request.speech
                yield GpuFrame(speech.index, speech.index / self.fps, nv12, self._mute.pass_on(speech.sound))
            rendering.release()

    def stream(self, container: str = "mp4", video: VideoOptions = DEFAULT_VIDEO) -> Generator[bytes, None, None]:
        """The bytes of a stream in the FFmpeg format `container`, piece by piece as they are made.

        H.264 and AAC, or VP9 and Opus in ``webm``, which keeps an avatar's transparency. Raises MachineError for an
        encoder that this machine has not.
        """
        pieces = Pieces()
        with closing(self._mux(pieces, container, video)) as frames:
            for _ in frames:
                if data := pieces.take():
                    if self.first_fragment_seconds is None and (container != "mp4" or b"moof" in data):
                        self.first_fragment_seconds = self.elapsed
                    yield data
        if self.frames_made and (data := pieces.take()):
            yield data

    def push(self, url: str, video: VideoOptions = DEFAULT_VIDEO) -> Generator[Frame, None, None]:
        """Send the stream to an output `url` at the pace of real time; gives each frame once it is sent.

        Raises InvalidArgument for what is no URL of an output, and OutputError where it cannot be opened or takes
        nothing for 10 s.
        """
        start = None
        with RelayProcess(url, self.stopping) as relay, closing(self._mux(relay, "mp4", video)) as frames:
            for frame in frames:
                start = time.perf_counter() if start is None else start
                self.stopping.wait(max(0.0, start + float(frame.pts) - PUSH_LEAD_S - time.perf_counter()))
                yield frame

    def stop(self) -> None:
        """End early: what iterates ends after the frame in hand, and a stream with a whole container. Thread-safe."""
        self.stopping.set()
        self._rendered.stop()

    def hush(self, until: float) -> float:
        """Drop the sound from here to the stream's second `until`; gives where here is. Times stay. Thread-safe."""
        return self._mute.silence(until)

    def pose(self, name: str, repeat: bool = False, at: float = 0.0) -> None:
        """Go over to the avatar's clip `name` soon, but not before the stream's second `at`. Thread-safe.

        It fades in where it is most like what plays, within half a second. The first clip and one that is to `repeat`
        play on; any other plays once, and then the first one again. Raises InvalidArgument for a name that is none of
        ``Avatar.poses``, and where 256 wait.
        """
        self._poses.ask(name, repeat, at)

    def force_keyframe(self) -> None:
        """Make the next frame of the stream a keyframe, so that a new viewer can start there. Thread-safe."""
        self._keyframe.set()

    def close(self) -> None:
        """End the threads and close the audio. Closing twice is fine."""
        self.stop()
        self._rendered.close()
        self._closed = True

    def __del__(self) -> None:
        if not self._closed and not sys.is_finalizing():  # by then its stages have ended
            with suppress(RuntimeError):  # no thread begins any more
                threading.Thread(target=self._rendered.close, name="close", daemon=True).start()
            warnings.warn(f"{self!r} was not closed", ResourceWarning, stacklevel=2, source=self)

    @property
    def elapsed(self) -> float:
        """Seconds since the session was opened."""
        return time.perf_counter() - self._started

    @property
    def waiting(self) -> int:
        """Finished frames that nobody has taken yet."""
        return self._rendered.frames - self.frames_made

    def report(self) -> dict[str, Any]:
        """Figures so far: frames, seconds, fps, real-time factor, first fragment, milliseconds by stage, memory.

        ``stages`` has milliseconds a frame, ``first_ms`` what the first call of each stage took in all, ``first_at_ms``
        when it was over, from the opening on; stages overlap.
        """
        elapsed = self.elapsed
        seconds = float(self.frames_made / self.fps)
        first = self.first_fragment_seconds
        return {
            "frames": self.frames_made,
            "stream_fps": float(self.fps),
            "stream_seconds": round(seconds, 3),
            "elapsed_seconds": round(elapsed, 3),
            "fps": round(self.frames_made / elapsed, 2),
            "real_time_factor": round(seconds / elapsed, 3),
            "first_fragment_seconds": None if first is None else round(first, 4),
            "first_ms": dict(self.timings.first_ms),
            "first_at_ms": dict(self.timings.first_at_ms),
            "encoder": self.encoder,
            "stages": self.timings.to_json(),
            "peak_memory_mb": round(peak_memory_mb(), 1),
            "warnings": self.audio.warnings,
        }

    def _frames(self) -> Iterator[tuple[Frame, bool]]:
        """As `frames`, each with whether another one is there already."""
        for batch, rendering in self._rendered.for_host():
            for request, nv12 in self._made(batch, rendering.wait()):
                speech = request.speech
                sound = self._mute.pass_on(speech.sound)
                shown, alpha = self._shown(request, nv12), own_alpha(request)
                yield Frame(speech.index, speech.index / self.fps, shown, sound, alpha), request is not batch[-1]

    def _made(self, batch: list[FrameRequest], pictures: list[T]) -> Iterator[tuple[FrameRequest, T]]:
        """Each frame of `batch` with its picture, counted, until `stop`."""
        for request, picture in zip(batch, pictures, strict=True):
            if self.stopping.is_set():
                return
            self.frames_made += 1
            yield request, picture

    def _shown(self, request: FrameRequest, nv12: NV12) -> NV12:
        """`nv12`, made with the weight in `request`, with the mouth as far open as it may be now."""
        weight, limit = request.speech.weight, self._rendered.limit(request.speech)
        return nv12 if weight <= limit else mixed(own_frame(request), nv12, limit / weight)

    def _mux(self, target: Writable, container: str, video: VideoOptions) -> Generator[Frame, None, None]:
        picture = Picture(self.avatar.width, self.avatar.height, self.fps)
        with self.timings.measure("open_output", 0):  # while the first frames are made
            make = self._direction.muxer or (WebmMuxer if container == "webm" else Muxer)
            opened = make(target, container, picture, self.audio.channels, video, self.timings)
        with opened as muxer:
            self.encoder = muxer.encoder
            for frame, more in self._frames():
                keyframe = self._keyframe.is_set()
                if keyframe:  # else a wish that has just come would be dropped
                    self._keyframe.clear()
                kbps = self._direction.kbps() if self._direction.kbps else None
                units = muxer.put(frame, keyframe, kbps, more)
                if self._direction.encoded:
                    self._direction.encoded(units, frame.sound)
                yield frame


def _source(audio: str | Path | bytes | Iterable[bytes] | AudioSource) -> AudioSource:
    if isinstance(audio, (str, Path)):
        return AudioFile(Path(audio))
    if isinstance(audio, AudioSource):
        return audio
    if isinstance(audio, (bytes, bytearray, memoryview)):
        return LivePcm([bytes(audio)])
    if isinstance(audio, Iterable):
        return LivePcm(audio)
    raise InvalidArgument(f"audio is {type(audio).__name__}: expected a file's path, PCM bytes or an iterable of them")

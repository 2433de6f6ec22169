"""LiveKit Agents: an avatar worker, which joins the agent's room and publishes H.264 as it is encoded here."""

import asyncio
import logging
import time

from musetalk_runtime.audio.chunk import SOUND_RATE
from musetalk_runtime.integrations.annex_b import AnnexBEncoder
from musetalk_runtime.integrations.live_avatar import AvatarFrame, LiveAvatar
from musetalk_runtime.integrations.livekit import audio_frame, mono_samples
from musetalk_runtime.integrations.livekit_playback import Playback
from musetalk_runtime.output.video import LEAST_KBPS, MOST_KBPS, Picture, VideoOptions

try:
    from livekit import rtc
    from livekit.agents.voice.avatar import AudioReceiver, AudioSegmentEnd
    from livekit.rtc._proto.room_pb2 import ENCODER_BACKEND_PRE_ENCODED
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"{error}: pip install 'musetalk-edge[livekit]'", name=error.name) from None

AUDIO_QUEUE_MS = 100  # milliseconds of sound that wait in LiveKit's source
KEYFRAME_INTERVAL_S = 0.5  # seconds between keyframes that are asked for, at least
RATE_INTERVAL_S = 2.0  # seconds between changes of the bit rate, at least: each begins with a keyframe
RATE_CHANGE = 1.25  # times that the rate asked for differs from the encoder's
log = logging.getLogger(__name__)


class AvatarWorker:
    """Says by `avatar` what `audio` receives, and publishes pictures and sound in `room`, which is connected.

    `audio` is a ``DataStreamAudioReceiver``, or another receiver. It is told that playback has started when the first
    sample of a segment is played, and that it has finished when the last one was: not when they came. `clear_buffer`
    silences at once. `start` opens the avatar and publishes; `close` ends both.

    Attributes: ``source`` (the ``EncodedVideoSource``), ``kbps`` (what the encoder was last told, None at first).
    """

    def __init__(self, room: rtc.Room, audio: AudioReceiver, avatar: LiveAvatar) -> None:
        self._room, self._audio, self._avatar = room, audio, avatar
        self.kbps: int | None = None
        self._playback = Playback(audio)
        self._tasks: list[asyncio.Task[None]] = []
        self._keyframe_at = self._rate_at = -RATE_INTERVAL_S
        self._wants_keyframe = False
        self._interruptions = 0
        self._encoder: AnnexBEncoder | None = None

    async def start(self) -> None:
        """Open the avatar, publish its tracks and begin; raises what ``LiveAvatar.open`` does."""
        await self._avatar.open()
        self.source = rtc.EncodedVideoSource(self._avatar.width, self._avatar.height)
        self._sound = rtc.AudioSource(SOUND_RATE, 1, queue_size_ms=AUDIO_QUEUE_MS)
        self._encoder = self._new_encoder()
        await self._audio.start()
        self._audio.on("clear_buffer", self._clear)
        await self._publish()
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._show())]

    async def wait(self) -> None:
        """Until it ends; raises what ended it."""
        await asyncio.gather(*self._tasks)

    async def close(self) -> None:
        """End. Twice is fine."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._playback.close()
        await self._avatar.close()
        if self._encoder:
            self._audio.off("clear_buffer", self._clear)
            await self._audio.aclose()
            await self.source.aclose()
            await self._sound.aclose()
            self._encoder.close()
            self._encoder = None

    async def _publish(self) -> None:
        participant = self._room.local_participant
        sound = rtc.LocalAudioTrack.create_audio_track("avatar_audio", self._sound)
        await participant.publish_track(sound, rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE))
        video = rtc.LocalVideoTrack.create_video_track("avatar_video", self.source)
        options = rtc.TrackPublishOptions(
            source=rtc.TrackSource.SOURCE_CAMERA,
            video_codec=rtc.VideoCodec.H264,
            video_encoder=ENCODER_BACKEND_PRE_ENCODED,
            simulcast=False,
        )
        await participant.publish_track(video, options)

    async def _listen(self) -> None:
        async for frame in self._audio:
            if isinstance(frame, AudioSegmentEnd):
                self._playback.received_end()
                self._avatar.flush()
            else:
                self._playback.received()
                self._avatar.push(mono_samples(frame), frame.sample_rate)

    async def _show(self) -> None:
        async for frame in self._avatar.frames():
            self._heed_feedback()
            self._send(frame)
            if frame.speaking:
                interruptions = self._interruptions
                self._playback.began(self._sound.queued_duration)
                await self._sound.capture_frame(sound := audio_frame(frame.sound))
                if interruptions != self._interruptions:
                    self._sound.clear_queue()
                    continue
                self._playback.played(sound.duration)
            for _ in range(frame.ended):
                self._playback.ended(self._sound.queued_duration)

    def _send(self, frame: AvatarFrame) -> None:
        if self._encoder is None:
            return
        wanted, self._wants_keyframe = self._wants_keyframe, False
        for unit in self._encoder.encode(frame, wanted):
            kind = rtc.EncodedFrameType.ENCODED_FRAME_KEY if unit.keyframe else rtc.EncodedFrameType.ENCODED_FRAME_DELTA
            at = time.monotonic_ns() // 1000
            encoded = rtc.EncodedVideoFrame(
                unit.data, self._avatar.width, self._avatar.height, rtc.VideoCodec.H264, kind, at
            )
            self.source.capture_frame(encoded)

    def _heed_feedback(self) -> None:
        """Give viewers the keyframe that they ask for, and the network the bit rate that it holds."""
        feedback, now = self.source.take_feedback(), time.monotonic()
        if feedback.keyframe_requested and now - self._keyframe_at > KEYFRAME_INTERVAL_S:
            self._wants_keyframe, self._keyframe_at = True, now
        if feedback.rate_control is None or now - self._rate_at < RATE_INTERVAL_S:
            return
        kbps = min(max(feedback.rate_control.target_bitrate_bps // 1000, LEAST_KBPS), MOST_KBPS)
        if self.kbps is None or not 1 / RATE_CHANGE < kbps / self.kbps < RATE_CHANGE:
            log.debug("video at %d kbit/s", kbps)
            self.kbps, self._rate_at = kbps, now
            if self._encoder:
                self._encoder.close()
            self._encoder = self._new_encoder()

    def _new_encoder(self) -> AnnexBEncoder:
        picture = Picture(self._avatar.width, self._avatar.height, self._avatar.fps)
        return AnnexBEncoder(picture, VideoOptions("x264", self.kbps))

    def _clear(self) -> None:
        self._interruptions += 1
        self._avatar.interrupt()
        self._playback.cleared(self._sound.queued_duration)
        self._sound.clear_queue()

"""An incremental Opus decoder."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import av

from musetalk_runtime.audio.chunk import SOUND_RATE, Resampler
from musetalk_runtime.audio.decode.ogg import OggPackets
from musetalk_runtime.audio.decode.samples import SampleReader
from musetalk_runtime.audio.speech_piece import Aligner, SpeechPiece, joined
from musetalk_runtime.core.errors import InvalidMedia

MAX_PIECE_SECONDS = 10.0  # seconds in one piece: a few bytes can stand for minutes


class OpusDecoder:
    """Decodes Opus pieces of a stream, each one packet (``opus``) or any part of an Ogg stream (``ogg``).

    Raises InvalidMedia; then it is to be used no more.
    """

    def __init__(self, codec: Literal["opus", "ogg"]) -> None:
        self._ogg = OggPackets() if codec == "ogg" else None
        self._headers = 2 if self._ogg else 0  # OpusHead and OpusTags are still to come
        self._decoder: Any = av.CodecContext.create("opus", "r")
        self._decoder.sample_rate, self._decoder.layout = SOUND_RATE, "stereo"
        self._read = SampleReader("an Opus packet")
        self._resample, self._align = Resampler(channels=2), Aligner()

    def __call__(self, data: bytes) -> SpeechPiece:
        """The speech in the next piece, maybe none yet."""
        packets = self._ogg.feed(data) if self._ogg else [data]
        pieces, seconds = [], 0.0
        for frame in self._frames(self._sound(packets)):
            pieces.append(self._align(self._resample(self._read(frame), frame.sample_rate)))
            seconds += pieces[-1].seconds
            if seconds > MAX_PIECE_SECONDS:
                raise InvalidMedia(f"a piece of Opus holds more than {MAX_PIECE_SECONDS:g} s")
        return joined(pieces)

    def _sound(self, packets: Iterable[bytes]) -> Iterator[bytes]:
        """Those after the headers."""
        for packet in packets:
            if self._headers:
                magic = b"OpusHead" if self._headers == 2 else b"OpusTags"
                if not packet.startswith(magic):
                    raise InvalidMedia(f"an Ogg stream without {magic.decode()}: it is no Opus")
                self._headers -= 1
            else:
                yield packet

    def _frames(self, packets: Iterable[bytes]) -> Iterator[Any]:
        for packet in packets:
            if not packet:
                raise InvalidMedia("an empty Opus packet")
            try:
                yield from self._decoder.decode(av.Packet(packet))
            except av.FFmpegError as error:
                raise InvalidMedia(f"no Opus packet: {error.strerror}") from None

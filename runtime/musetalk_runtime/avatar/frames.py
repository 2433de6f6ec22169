"""The stored frames of an avatar: H.264 with keyframes only, so that any frame decodes by itself."""

import threading
from pathlib import Path

import av
import av.error
import numpy as np
from av.video.codeccontext import VideoCodecContext

from musetalk_runtime.core.arrays import NV12
from musetalk_runtime.core.closable import Closable
from musetalk_runtime.core.errors import InvalidArgument, InvalidFolder
from musetalk_runtime.core.media import open_media

CACHE_BYTES = 512 << 20


class FrameStore(Closable):
    """Frames of one video file by index, decoded when asked for. Safe to share between threads.

    The coded packets are held in memory (the file's size). Decoded frames are kept while they fit in `cache_bytes`
    and are not evicted: an avatar is played from end to end and back, where evicting the oldest hits no more often
    than keeping the first, and costs an allocation a frame.
    """

    def __init__(self, path: Path, width: int, height: int, cache_bytes: int = CACHE_BYTES) -> None:
        """Read the packets of `path`; raises InvalidFolder unless it is all-intra H.264."""
        self._path = path
        self._shape = (height * 3 // 2, width)
        self._packets, extradata = _read_packets(path)
        self._decoder: VideoCodecContext | None = _decoder(extradata)
        self._cache: dict[int, NV12] = {}
        self._room = self._cache_bytes = cache_bytes
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._packets)

    def __getitem__(self, index: int) -> NV12:
        """Frame `index` as read-only NV12 uint8 ``[H * 3 / 2, W]``, BT.709 limited range; raises InvalidFolder."""
        if self._decoder is None:
            raise InvalidArgument(f"{self._path.parent}: the avatar is closed")
        if not 0 <= index < len(self._packets):
            raise IndexError(f"frame {index} is out of range [0, {len(self._packets)})")
        with self._lock:
            if index in self._cache:
                return self._cache[index]
            frame = self._decode(index)
            if frame.nbytes <= self._room:
                self._cache[index] = frame
                self._room -= frame.nbytes
            return frame

    def rest(self) -> None:
        """Drop the decoded frames that are kept."""
        with self._lock:
            self._cache.clear()
            self._room = self._cache_bytes

    def close(self) -> None:
        """Drop the packets, the cache and the decoder. Closing twice is fine."""
        with self._lock:
            self._packets, self._decoder = [], None
            self._cache.clear()

    def _decode(self, index: int) -> NV12:
        if self._decoder is None:  # by another thread
            raise InvalidArgument(f"{self._path.parent}: the avatar is closed")
        try:
            decoded = self._decoder.decode(av.Packet(self._packets[index]))
        except av.error.FFmpegError as error:
            raise InvalidFolder(f"{self._path}: frame {index} does not decode: {error.strerror}") from None
        if len(decoded) != 1:
            raise InvalidFolder(f"{self._path}: packet {index} gives {len(decoded)} frames, expected 1")
        picture = decoded[0]
        found = (picture.format.name, picture.height * 3 // 2, picture.width)
        if found != ("yuv420p", *self._shape):
            raise InvalidFolder(f"{self._path}: frame {index} is {found}, expected {('yuv420p', *self._shape)}")
        return _nv12(picture)


def _read_packets(path: Path) -> tuple[list[bytes], bytes]:
    try:
        with open_media(path, "mov") as container:
            if len(container.streams) != 1 or not container.streams.video:
                raise InvalidFolder(f"{path}: expected one video stream, found {len(container.streams)} streams")
            stream = container.streams.video[0]
            packets = [packet for packet in container.demux(stream) if packet.size]
            codec, extradata = stream.codec_context.name, stream.codec_context.extradata
            if codec != "h264" or extradata is None or not all(packet.is_keyframe for packet in packets):
                raise InvalidFolder(f"{path}: expected H.264 with keyframes only, found {codec}")
            return [bytes(packet) for packet in packets], extradata
    except av.error.FFmpegError as error:
        raise InvalidFolder(f"{path}: not a readable MP4 file: {error.strerror}") from None


def _decoder(extradata: bytes) -> VideoCodecContext:
    decoder = av.CodecContext.create("h264", "r")
    decoder.extradata = extradata
    decoder.thread_type = "NONE"  # a thread a frame would hold frames back: one packet in, one frame out
    decoder.thread_count = 1
    return decoder


def _nv12(picture: av.VideoFrame) -> NV12:
    planar: NV12 = np.asarray(picture.to_ndarray(), np.uint8)
    width, luma = picture.width, picture.height
    nv12 = np.empty_like(planar)
    nv12[:luma] = planar[:luma]
    chroma = nv12[luma:].reshape(luma // 2, width // 2, 2)
    chroma[..., 0], chroma[..., 1] = planar[luma:].reshape(2, luma // 2, width // 2)
    nv12.setflags(write=False)
    return nv12

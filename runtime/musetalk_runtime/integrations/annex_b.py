"""An encoder of H.264 without a container."""

import io

import av

from musetalk_runtime.core.closable import Closable
from musetalk_runtime.integrations.live_avatar import AvatarFrame
from musetalk_runtime.output.encoder import Encoder, open_encoder
from musetalk_runtime.output.video import AccessUnit, Picture, VideoOptions


class AnnexBEncoder(Closable):
    """H.264 as access units with start codes, each complete, and parameter sets before each keyframe."""

    def __init__(self, picture: Picture, options: VideoOptions) -> None:
        self._container = av.open(io.BytesIO(), "w", format="h264")
        self._encoder: Encoder = open_encoder(self._container, picture, options)
        self._index = 0

    def encode(self, frame: AvatarFrame, keyframe: bool) -> list[AccessUnit]:
        """The access units of the next `frame`."""
        packets = self._encoder.encode(self._index, frame.nv12, keyframe)
        self._index += 1
        return [AccessUnit(packet.pts, bytes(packet), packet.is_keyframe) for packet in packets]

    def close(self) -> None:
        """End it. Twice is fine."""
        self._container.close()

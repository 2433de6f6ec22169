"""An incremental Ogg demuxer.

FFmpeg's demuxer pulls its bytes, and so would want a waiting thread for every socket.
"""

import struct
from collections.abc import Iterator

from musetalk_runtime.core.errors import InvalidMedia

HEADER = struct.Struct("<4sBBqIIIB")  # magic, version, flags, position, serial, number, checksum, count of lengths
MAX_PACKET_BYTES = 1 << 16  # bytes of a packet


class OggPackets:
    """Gives the packets of the one logical stream, as they become whole. Raises InvalidMedia for what is no Ogg.

    It holds no more than a page of 64 KiB and a packet. Checksums are not looked at: TCP has its own.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._packet = bytearray()
        self._serial: int | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The packets that end in `data`, the next bytes of the stream."""
        self._buffer += data
        while page := self._next_page():
            lengths, body = page
            at = 0
            for length in lengths:
                self._packet += body[at : at + length]
                at += length
                if len(self._packet) > MAX_PACKET_BYTES:
                    raise InvalidMedia(f"an Ogg packet is larger than {MAX_PACKET_BYTES} bytes")
                if length < 255:
                    packet = bytes(self._packet)
                    self._packet.clear()
                    yield packet

    def _next_page(self) -> tuple[bytes, bytes] | None:
        """The lengths and the content of the next page, once it is whole."""
        if self._buffer[:4] != b"OggS"[: len(self._buffer)]:
            raise InvalidMedia("no Ogg stream: a page does not begin with 'OggS'")
        if len(self._buffer) < HEADER.size:
            return None
        _, version, _, _, serial, _, _, count = HEADER.unpack_from(self._buffer)
        self._serial = serial if self._serial is None else self._serial
        if version or serial != self._serial:
            raise InvalidMedia("an Ogg stream of another version, or of more than one stream")
        start = HEADER.size + count
        lengths = bytes(self._buffer[HEADER.size : start])
        end = start + sum(lengths)
        if len(lengths) < count or len(self._buffer) < end:
            return None
        body = bytes(self._buffer[start:end])
        del self._buffer[:end]
        return lengths, body

"""A buffer between a muxer that writes and an iterator that is read."""


class Pieces:
    """What a muxer wrote and nobody has taken yet."""

    def __init__(self) -> None:
        self._data = bytearray()

    def write(self, data: bytes) -> int:
        self._data += data
        return len(data)

    def take(self) -> bytes:
        data = bytes(self._data)
        self._data.clear()
        return data

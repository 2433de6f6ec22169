"""EXIF in a JPEG, PNG or WebP: where the format puts it, whatever else the file holds."""

from collections.abc import Iterator

JPEG, PNG, WEBP = b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"WEBP"
JPEG_MARK = b"Exif\0\0"
APP1, START_OF_SCAN = 0xE1, 0xDA


def exif_in(data: bytes) -> bytes:
    """The bytes from the TIFF header of the EXIF on, empty for none."""
    if data.startswith(JPEG):
        found = (part[len(JPEG_MARK) :] for part in _segments(data) if part.startswith(JPEG_MARK))
    elif data.startswith(PNG):
        found = (part for name, part in _png_chunks(data) if name == b"eXIf")
    elif data[8:12] == WEBP:
        parts = (part for name, part in _riff_chunks(data) if name == b"EXIF")
        found = (part.removeprefix(JPEG_MARK) for part in parts)
    else:
        return b""
    return next(found, b"")


def _segments(data: bytes) -> Iterator[bytes]:
    """Of a JPEG, those of applications before its picture."""
    at = len(JPEG)
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != START_OF_SCAN:
        if data[at + 1] == 0xFF:  # filler
            at += 1
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == APP1:
            yield data[at + 4 : at + 2 + length]
        at += 2 + length


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at, name = len(PNG), b""
    while at + 8 <= len(data) and name != b"IEND":
        length, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        yield name, data[at + 8 : at + 8 + length]
        at += 12 + length


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 12
    while at + 8 <= len(data):
        name, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        yield name, data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2

"""WAV files byte by byte, as programs write them that nobody else's library would."""

import struct

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
SUBFORMAT = b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71"  # after the two bytes of the format
RF64_LENGTH = 0xFFFFFFFF


def wav(
    data: bytes,
    kind: int = PCM,
    channels: int = 1,
    bits: int = 16,
    valid_bits: int = 0,
    mask: int = 0,
    long_length: int | None = None,
) -> bytes:
    """16 kHz; extensible with `valid_bits` or a `mask`; RF64 with a `long_length` of the data, in bytes."""
    align = channels * bits // 8
    extensible = bool(valid_bits or mask)
    layout = struct.pack("<HHIIHH", EXTENSIBLE if extensible else kind, channels, 16_000, 16_000 * align, align, bits)
    if extensible:
        layout += struct.pack("<HHIH", 22, valid_bits or bits, mask, kind) + SUBFORMAT
    chunks = b"fmt " + struct.pack("<I", len(layout)) + layout
    if long_length is None:
        chunks += b"data" + struct.pack("<I", len(data)) + data
        return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks
    lengths = struct.pack("<qqqI", long_length, long_length, 0, 0)
    chunks = b"ds64" + struct.pack("<I", len(lengths)) + lengths + chunks
    return b"RF64\xff\xff\xff\xffWAVE" + chunks + b"data\xff\xff\xff\xff" + data

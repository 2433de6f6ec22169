"""Media files told by their first bytes."""

HEAD_BYTES = 12  # bytes that tell
SIGNATURES = {  # FFmpeg's name, by what stands at an offset
    (0, b"RIFF"): "WAV",
    (0, b"RF64"): "WAV",
    (0, b"ID3"): "MP3",
    (0, b"OggS"): "Ogg",
    (0, b"fLaC"): "FLAC",
    (4, b"ftyp"): "MP4",
    (0, b"\x1aE\xdf\xa3"): "Matroska",
    (8, b"AIFF"): "AIFF",
    (0, b"caff"): "CAF",
    (0, b"#!AMR"): "AMR",
}
MP3_KBPS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)  # of MPEG-1 layer III
MP3_RATES = (44_100, 48_000, 32_000)  # ISO/IEC 11172-3, 2.4.2.3


def media_format(head: bytes) -> str | None:
    """The format of the file that begins with `head`, None where it looks like none: raw PCM has no signature."""
    for (offset, magic), name in SIGNATURES.items():
        if head[offset:].startswith(magic):
            return name
    if _is_adts(head):
        return "AAC"
    return "MP3" if _is_mp3(head) else None


def _is_adts(head: bytes) -> bool:
    """Two headers, the second where the first says: one alone could be two samples."""
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        return False
    length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return length > 7 and head[length : length + 2] == head[:2]


def _is_mp3(head: bytes) -> bool:
    """The same, for MPEG-1 layer III."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xFE != 0xFA:
        return False
    rate, bits = head[2] >> 2 & 3, head[2] >> 4
    if rate == 3 or bits in {0, 15}:
        return False
    length = 144_000 * MP3_KBPS[bits] // MP3_RATES[rate] + (head[2] >> 1 & 1)
    return head[length : length + 2] == head[:2]

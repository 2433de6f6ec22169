"""One of the media files that an audio file was joined of; most are one alone."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from musetalk_runtime.audio.decode.wav import WavHeader, is_wav, read_header
from musetalk_runtime.core.file_part import FilePart
from musetalk_runtime.core.media import open_media

FORMATS = (  # those that name other files, such as playlists, are left out
    "wav,w64,aiff,caf,au,mp3,aac,ac3,eac3,flac,ogg,amr,asf,wv,tta,ape,"
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,mpeg,mpegts"
)
# By itself FFmpeg reads many small packets of a WAV ahead, to see whether its PCM is another codec's bits.
# One larger packet does for that, and 5 s of speech are decoded in a third of the time.
WAV_OPTIONS = {"max_size": "32768", "max_probe_packets": "1"}


@contextmanager
def open_part(path: Path, begin: int = 0, end: int | None = None) -> Iterator[tuple[Any, str]]:
    """PyAV's container of what lies between two offsets in a file, and what is to be told of it.

    Raises av.FFmpegError or OSError.
    """
    wav = is_wav(path, begin)
    last = path.stat().st_size if end is None else end
    header = read_header(path, begin, last) if wav else WavHeader()
    options = WAV_OPTIONS if wav else {}
    with ExitStack() as opened:
        source: Path | FilePart = path
        if begin or end is not None or header.changed:
            source = opened.enter_context(closing(FilePart(path, begin, last, header.changed)))
        yield opened.enter_context(open_media(source, FORMATS, **options)), header.missing

"""The relay process: fragmented MP4 on stdin, sent on to a URL (``python -m musetalk_runtime.output.relay``).

The first line is the URL, so that a stream's key is on no command line. On stdout it says ``started``, ``connected``,
and why it failed. A process of its own, because FFmpeg can wait for a server for ever, and only a process can be ended.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from fractions import Fraction
from typing import Any, BinaryIO

import av

from musetalk_runtime.core.errors import InvalidArgument, OutputError
from musetalk_runtime.output.url import url_container

STARTED, CONNECTED = "started", "connected"
# Without skip_trailer FFmpeg keeps 40 bytes a fragment and track, for an index at the end that no stream needs.
MP4_FLAGS = "empty_moov+default_base_moof+frag_keyframe+skip_trailer"
PROBE_OPTIONS = {"probesize": "32"}  # bytes: the header tells all
READ_BYTES = 4096  # bytes read at once


def relay(source: BinaryIO, url: str, connected: Callable[[], None]) -> None:
    """Send the packets in `source` to `url`, timed from 0 on; raises av.FFmpegError, OSError or InvalidArgument."""
    with (
        av.open(source, "r", format="mp4", options=PROBE_OPTIONS, buffer_size=READ_BYTES) as stream,
        _opened(url) as target,
    ):
        tracks = {track.index: target.add_stream_from_template(track) for track in stream.streams}
        target.start_encoding()
        connected()
        start: Fraction | None = None
        for packet in stream.demux():
            if packet.dts is None or packet.pts is None:
                continue
            if start is None:
                start = packet.dts * packet.time_base
            shift = round(start / packet.time_base)
            packet.dts, packet.pts = packet.dts - shift, packet.pts - shift
            if packet.dts >= 0:  # sound may begin a little before the keyframe
                packet.stream = tracks[packet.stream.index]
                target.mux(packet)


@contextmanager
def _opened(url: str) -> Iterator[Any]:
    """PyAV's container that writes to `url`."""
    container = url_container(url)
    options = {"flush_packets": "1", **({"movflags": MP4_FLAGS} if container == "mp4" else {})}
    if not url.lower().startswith(("http:", "https:")):
        with av.open(url, "w", format=container, options=options) as target:
            yield target
        return
    from musetalk_runtime.output.http_upload import HttpUpload  # 6 MB that others do not need

    with closing(HttpUpload(url)) as upload:
        try:
            with av.open(upload, "w", format=container, options=options) as target:
                yield target
        except av.FFmpegError:
            raise upload.error or OutputError("its container cannot be written") from None
        upload.finish()


class _Source:
    """A descriptor that gives what is there, and cannot seek."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self, size: int) -> bytes:
        return os.read(self._descriptor, size)


def _read_line(source: Any) -> str:
    line = b""
    while (byte := source.read(1)) not in (b"\n", b""):
        line += byte
    return line.decode()


def _end_with(parent: int) -> None:
    """End once the process that started this one is gone: it may be in FFmpeg's hands, and wait for ever."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def main() -> int:
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    print(STARTED, flush=True)
    source: Any = _Source(0)
    url = _read_line(source)
    try:
        relay(source, url, lambda: print(CONNECTED, flush=True))
    except (BrokenPipeError, ConnectionResetError) as error:
        print(f"the server ended the connection: {error.strerror}", flush=True)
        return 1
    except InvalidArgument:
        print("not a URL that a stream can be sent to", flush=True)
        return 1
    except (av.FFmpegError, OSError) as error:
        print(error.strerror or error, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

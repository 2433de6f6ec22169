"""``musetalk-edge stream``: speech and an avatar to a file, a pipe or a URL."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from musetalk_runtime.cli.command import die_by, ending_signals
from musetalk_runtime.cli.engine_arguments import (
    add_bundle_argument,
    add_detail_argument,
    add_tts_argument,
    open_bundle,
)
from musetalk_runtime.cli.progress import StatusLine
from musetalk_runtime.core.errors import InvalidArgument
from musetalk_runtime.demo import AVATAR, SPEECH
from musetalk_runtime.frame_rate import RATES, generation_rate, parse_rate
from musetalk_runtime.output.url import url_container
from musetalk_runtime.output.video import ENCODERS, VideoOptions

if TYPE_CHECKING:
    from musetalk_runtime.audio.live import PipeReader
    from musetalk_runtime.avatar.pack import Avatar
    from musetalk_runtime.avatar.pose_player import PosePlayer
    from musetalk_runtime.bundle import Bundle
    from musetalk_runtime.session import Session
    from musetalk_runtime.tts.text_audio import TextAudio

EXAMPLES = """\
examples:
  musetalk-edge stream -o talk.mp4                  # the demo: a drawn person, who introduces herself
  musetalk-edge stream --text 'Hello. I say what you write.' -o talk.mp4
  musetalk-edge stream --audio speech.mp3 -o talk.mp4
  musetalk-edge stream -b BUNDLE -a AVATAR --audio speech.mp3 -o talk.mp4
  musetalk-edge stream -b BUNDLE -a AVATAR --audio speech.wav -o - | ffplay -
  musetalk-edge stream -b BUNDLE -a AVATAR --audio speech.wav --pose wave@1.5 -o talk.mp4
  arecord -t raw -f S16_LE -r 16000 -c 1 | musetalk-edge stream -b BUNDLE -a AVATAR --audio - -o rtmp://host/live/key

The output is fragmented MP4 (MPEG-TS where its name ends in .ts; VP9 in WebM in .webm, which keeps the transparency
of an avatar that was prepared with --background alpha): a viewer can start while it is made. A file
appears under its name when it is whole; links are followed, and /dev/stdout, FIFOs and devices are written as they
stand, so that an error leaves them half written. SIGINT, SIGTERM and a closed terminal end the stream early, with a
playable file."""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "stream",
        help="make an avatar say something, as a stream",
        description="Make an avatar say a piece of audio, as H.264 and AAC.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_bundle_argument(parser)
    parser.add_argument(
        "-a", "--avatar", type=Path, default=AVATAR, help="the face, from musetalk-edge prepare (default: the demo's)"
    )
    add_detail_argument(parser)
    said = parser.add_mutually_exclusive_group()
    said.add_argument(
        "--audio",
        default=str(SPEECH),
        metavar="FILE|-",
        help="any audio or video file; - for live s16le 16 kHz mono on stdin (default: the demo's)",
    )
    said.add_argument("--text", help="text to say, in English unless --tts speaks another language")
    add_tts_argument(parser)
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="-|FILE|URL",
        help="stdout, a file, FIFO or /dev/fd/N, or rtmp, rtsp, udp, tcp, http, or srt where PyAV has it",
    )
    parser.add_argument(
        "--pose",
        dest="poses",
        type=_pose,
        action="append",
        default=[],
        metavar="NAME@S[,repeat]",
        help="go over to another of the avatar's poses at second S: once, or for good with ,repeat; may be repeated",
    )
    rates = ", ".join(map(str, RATES))
    parser.add_argument(
        "--fps", default="auto", help=f"frame rate; auto (the default): the highest of {rates} this machine can hold"
    )
    parser.add_argument(
        "--encoder", choices=ENCODERS, default="auto", help="H.264 encoder; auto (the default): NVENC where it works"
    )
    parser.add_argument("--bitrate", type=int, metavar="KBPS", help="video kbit/s; default: constant quality")
    parser.add_argument("--cbr", action="store_true", help="keep the bit rate constant, for links that need it")
    parser.add_argument("--no-cuda-graph", action="store_true", help="a way out for drivers that hang, see doctor")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write figures of the run to FILE, as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Stream; end by the signal that stopped it, if one did."""
    from musetalk_runtime.avatar.pack import Avatar
    from musetalk_runtime.session import Session
    from musetalk_runtime.session_hooks import SessionHooks
    from musetalk_runtime.storage.destination import check_distinct
    from musetalk_runtime.storage.output_file import OutputFile

    container = _container(args.output)
    video = VideoOptions(args.encoder, args.bitrate, args.cbr)
    for option, value, stream in (("--audio -", args.audio, sys.__stdin__), ("-o -", args.output, sys.__stdout__)):
        if value == "-" and stream is None:
            raise InvalidArgument(f"{option}: that stream is closed")
    files = (("--audio", args.audio), ("-o", args.output), ("--report", args.report))
    check_distinct(
        *((option, Path(name)) for option, name in files if name not in {None, "-"} and "://" not in str(name))
    )
    audio = _audio(args)
    with (
        OutputFile(args.report) if args.report else nullcontext() as report_file,  # now: later all would be for nothing
        open_bundle(args.bundle, cuda_graph=not args.no_cuda_graph) as bundle,
        Avatar.open(args.avatar, args.detail) as avatar,
        Session(bundle, avatar, audio, args.fps, SessionHooks(poses=_player(args, bundle, avatar))) as session,
        _graceful(session) as signals,
    ):
        _warn_if_slow(bundle, session)
        _send(session, args.output, container, video)
        report = session.report()
        for warning in report["warnings"]:
            print(f"musetalk-edge: warning: {warning}", file=sys.stderr)
        if report_file:
            report_file.write(json.dumps(report, indent=1).encode() + b"\n")
    if signals:
        die_by(signals[0])
    return 0


def _player(args: argparse.Namespace, bundle: Bundle, avatar: Avatar) -> PosePlayer:
    """What plays the avatar's clips, with the poses that are wanted."""
    from musetalk_runtime.avatar.pose_player import PosePlayer

    player = PosePlayer(avatar, parse_rate(args.fps, bundle))
    for pose, at, repeats in args.poses:
        player.ask(pose, repeats, at)
    return player


def _audio(args: argparse.Namespace) -> str | PipeReader | TextAudio:
    """What is to be said, as ``Session`` takes it."""
    if args.text is not None:
        from musetalk_runtime.tts.synthesizer import open_synthesizer
        from musetalk_runtime.tts.text_audio import TextAudio

        return TextAudio(args.text, open_synthesizer(args.tts))
    if "://" in args.audio:
        raise InvalidArgument(f"{args.audio}: is a URL, and no file")
    if args.audio != "-":
        return str(args.audio)
    from musetalk_runtime.audio.live import PipeReader

    return PipeReader(sys.stdin.fileno())


def _send(session: Session, output: str, container: str, video: VideoOptions) -> None:
    from musetalk_runtime.output.sink import open_sink

    with StatusLine(terminal_only=True) as status:
        if "://" in output:
            for _ in session.push(output, video):
                status.update(_status(session))
            return
        with open_sink(output, session.stopping) as sink:
            for data in session.stream(container, video):
                sink.write(data)
                status.update(_status(session))


def _status(session: Session) -> str:
    fps, target = session.frames_made / session.elapsed, float(session.fps)
    return (
        f"frame {session.frames_made}  {fps:.1f} fps  {fps / target:.2f}x real time  "
        f"buffer {session.waiting / target:.1f} s"
    )


def _container(output: str) -> str:
    """The FFmpeg format for `output`: by a URL's scheme, or by a file's suffix."""
    if "://" not in output:
        return {".ts": "mpegts", ".webm": "webm"}.get(Path(output).suffix.lower(), "mp4")
    return url_container(output)


def _warn_if_slow(bundle: Bundle, session: Session) -> None:
    rate = generation_rate(bundle)
    if rate < session.fps:
        print(
            f"musetalk-edge: warning: this bundle makes {rate:.1f} frames a second here, less than the {session.fps} "
            "of the stream: it will not keep up with real time",
            file=sys.stderr,
        )


def _pose(text: str) -> tuple[str, float, bool]:
    """The name of a pose, the second at which it is to begin, and whether it is to go on."""
    found = re.fullmatch(r"([A-Za-z0-9_-]+)@(\d{1,6}(?:\.\d+)?)(,repeat)?", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME@SECONDS or NAME@SECONDS,repeat, such as wave@1.5")
    return found[1], float(found[2]), bool(found[3])


@contextmanager
def _graceful(session: Session) -> Iterator[list[int]]:
    """SIGINT, SIGTERM and SIGHUP end `session` early; they are listed in order. A second ends the process at once."""
    received: list[int] = []

    def handle(number: int, _: Any) -> None:
        if received:
            os._exit(128 + number)
        received.append(number)
        threading.Thread(target=session.stop).start()  # a handler must not take the locks it interrupted

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, *ending_signals())}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

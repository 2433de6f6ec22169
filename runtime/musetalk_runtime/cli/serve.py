"""``musetalk-edge serve``: live sessions over HTTP, and a page to watch them."""

import argparse
import gc
import logging
import os
import sys
import tempfile
from collections.abc import Collection
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from socket import socket
from typing import TYPE_CHECKING, Any, NoReturn

from musetalk_runtime.cli.access import add_access_arguments, read_access
from musetalk_runtime.cli.engine_arguments import add_detail_argument, add_tts_argument, must_certify, open_bundle
from musetalk_runtime.cli.logs import log_json
from musetalk_runtime.core.errors import InvalidArgument, MachineError, MuseTalkEdgeError, one_line
from musetalk_runtime.demo import AVATAR, BUNDLE

if TYPE_CHECKING:
    from musetalk_runtime.service.security.access import Access
    from musetalk_runtime.service.settings import Settings

log = logging.getLogger(__name__)

EXAMPLES = """\
examples:
  musetalk-edge serve                               # the demo's person
  musetalk-edge serve -b BUNDLE -a anna=ANNA.avatar -a ben=BEN.avatar
  musetalk-edge serve -b BUNDLE --avatars /var/lib/musetalk-edge --face-model face_detection_yunet.onnx
  musetalk-edge serve -b fast=SMALL.bundle -b fine=LARGE.bundle -a anna=ANNA.avatar
  curl -X POST -H 'Content-Type: application/json' -d '{"avatar": "anna"}' http://127.0.0.1:8787/v1/sessions
  musetalk-edge token anna --tokens tokens.txt
  musetalk-edge serve -b BUNDLE -a anna=ANNA.avatar --host 0.0.0.0 --tokens tokens.txt --allow-host face.example
  musetalk-edge serve -b BUNDLE -a anna=ANNA.avatar --push 'studio=rtmp://media.example/live/{id}'

The page is at http://127.0.0.1:8787/, the API at /api.html and /v1/openapi.json. SIGTERM refuses what is new and ends
running streams with a whole file. Engines that fail end their sessions with an error; once no session runs, the service
ends with status 3: let a supervisor start it again, as scripts/appliance/systemd does."""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "serve",
        help="serve live sessions and a page, over HTTP",
        description="Serve live sessions over HTTP: speech in, fragmented MP4 out, for any number of viewers.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_faces(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8787, help="port to listen on, 0 for a free one (default: 8787)")
    _add_bounds(parser)
    _add_connections(parser)
    parser.add_argument("--grace", type=float, default=10.0, help="seconds for streams to end in (default: 10)")
    parser.add_argument(
        "--log-format", choices=("text", "json"), default="text", help="of what is told on stderr (default: text)"
    )
    parser.add_argument(
        "--demo-meanwhile",
        action="store_true",
        help="while engines are certified for this machine, serve the demo's person in the avatars' place, on the CPU",
    )
    add_access_arguments(parser)
    parser.add_argument("--no-cuda-graph", action="store_true", help="a way out for drivers that hang, see doctor")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until a signal; the address is told on stderr once requests are taken."""
    if args.log_format == "text":
        return _serve(args)
    log_json()
    try:
        return _serve(args)
    except (MuseTalkEdgeError, OSError) as error:
        log.critical(one_line(error), exc_info=args.verbose)
        return error.exit_status if isinstance(error, MuseTalkEdgeError) else MuseTalkEdgeError.exit_status
    except Exception:
        log.critical("a bug", exc_info=True)
        return 1


def _serve(args: argparse.Namespace) -> int:
    from musetalk_runtime.avatar.pack import Avatar
    from musetalk_runtime.storage.durable import hold
    from musetalk_runtime.update.trial import trial

    try:
        from musetalk_runtime.service.http.server import SupervisedServer, listen
        from musetalk_runtime.service.service import DEFAULT_BUNDLE, Service
    except ModuleNotFoundError as error:
        raise MachineError(f"serve needs {error.name}: pip install 'musetalk-edge[serve]'") from None
    if not args.bundle and not args.avatar and not args.avatars:
        args.avatar = [("demo", AVATAR)]
    args.bundle = args.bundle or [("", BUNDLE)]
    settings = _settings(args)
    tempfile.gettempdir()  # found now: the first call passes over a disk that is full, and files would go elsewhere
    access = read_access(args)
    named = _distinct("bundles", [(name or DEFAULT_BUNDLE, path) for name, path in args.bundle])
    faces = _distinct("avatars", args.avatar)
    with ExitStack() as stack:
        listener = stack.enter_context(listen(args.host, args.port))
        with trial([*named.values(), *faces.values()]):
            with _demo_meanwhile(args, named, faces, listener, access):
                bundles = {
                    name: stack.enter_context(open_bundle(path, cuda_graph=not args.no_cuda_graph))
                    for name, path in named.items()
                }
            avatars = {name: stack.enter_context(Avatar.open(path, args.detail)) for name, path in faces.items()}
            for folder in [opened.path for opened in bundles.values()] + [opened.path for opened in avatars.values()]:
                stack.callback(os.close, hold(folder, shared=True))
            service = Service(bundles, avatars, settings)
            warnings = service.measure()
            gc.collect()
            gc.freeze()  # what is loaded stays: a full collection would look at it, and all threads wait for that
        _announce(args, listener, service.free)
        for warning in warnings:
            log.warning("%s", warning)
        SupervisedServer(service, access).run(sockets=[listener])
        for name, reason in service.failed.items():
            failure = MachineError(f"the engines of bundle {name} have failed ({reason}): start the service again")
            if service.hung:
                _exit_now(args, failure)
            raise failure
    return 0


def _settings(args: argparse.Namespace) -> "Settings":
    """Raises InvalidArgument for arguments that do not go together."""
    from musetalk_runtime.service.settings import Settings
    from musetalk_runtime.service.webrtc.ice_server import IceServer

    if not args.avatar and not args.avatars:
        raise InvalidArgument("no avatar: give one by -a NAME=AVATAR, or --avatars DIR to take uploads")
    if args.face_model and not args.avatars:
        raise InvalidArgument("--face-model is for --avatars DIR")
    return Settings(
        args.sessions,
        args.lead,
        args.idle,
        args.grace,
        targets=dict(args.push),
        avatar_folder=args.avatars,
        face_model=args.face_model,
        detail=args.detail,
        tts=args.tts,
        load_tts=True,
        ice_servers=tuple(map(IceServer.parse, args.ice_server)),
    )


def _announce(args: argparse.Namespace, listener: socket, free: int) -> None:
    """Tell where the service is, and how many sessions it holds."""
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
    if args.log_format == "text":
        print(f"musetalk-edge: {url} holds {free} session{'' if free == 1 else 's'}", file=sys.stderr, flush=True)
    log.info("%s holds %d sessions", url, free, extra={"url": url, "sessions": free})


def _demo_meanwhile(
    args: argparse.Namespace, bundles: dict[str, Path], faces: Collection[str], listener: socket, access: "Access"
) -> AbstractContextManager[None]:
    """The demo is served in the context, where that is wanted and one of `bundles` must be certified."""
    from musetalk_runtime.service.http.demo_server import demo_served
    from musetalk_runtime.service.settings import Settings

    if args.demo_meanwhile and any(map(must_certify, bundles.values())):
        return demo_served(listener, faces or ["demo"], Settings(args.sessions, grace=args.grace), access)
    return nullcontext()


def _exit_now(args: argparse.Namespace, failure: MachineError) -> NoReturn:
    """End the process although a thread of it, in the hands of a driver, does not end."""
    if args.log_format == "json":
        log.critical("%s", failure)
    else:
        print(f"musetalk-edge: error: {failure}", file=sys.stderr, flush=True)
    os._exit(failure.exit_status)


def _named(text: str) -> tuple[str, Path]:
    name, _, path = text.partition("=")
    if not name or not path:
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=AVATAR")
    return name, Path(path)


def _target(text: str) -> tuple[str, str]:
    name, _, url = text.partition("=")
    if not name or "://" not in url:
        raise argparse.ArgumentTypeError("expected NAME=URL")
    return name, url


def _bundle(text: str) -> tuple[str, Path]:
    """A name, perhaps empty, and a path: one with a slash before its = has no name."""
    name, equals, path = text.partition("=")
    return (name, Path(path)) if equals and "/" not in name else ("", Path(text))


def _distinct(what: str, named: list[tuple[str, Path]]) -> dict[str, Path]:
    by_name = dict(named)
    if len(by_name) < len(named):
        raise InvalidArgument(f"two {what} have one name: {', '.join(name for name, _ in named)}")
    return by_name


def _add_faces(parser: argparse.ArgumentParser) -> None:
    """What is shown."""
    parser.add_argument(
        "-b",
        "--bundle",
        type=_bundle,
        action="append",
        default=[],
        metavar="[NAME=]BUNDLE",
        help="the engines, from build-engines; may be given several times, each with a name (default: the demo's)",
    )
    parser.add_argument(
        "-a",
        "--avatar",
        type=_named,
        action="append",
        default=[],
        metavar="NAME=AVATAR",
        help="a face, from musetalk-edge prepare, and its name; may be given several times (default, without -b and "
        "--avatars: the demo's)",
    )
    parser.add_argument(
        "--avatars", type=Path, metavar="DIR", help="take photos and videos, and keep the avatars made of them in DIR"
    )
    parser.add_argument(
        "--face-model", type=Path, metavar="FILE", help="a YuNet face detector for --avatars; default: the bundle's"
    )
    add_detail_argument(parser)


def _add_bounds(parser: argparse.ArgumentParser) -> None:
    """How far ahead, how many and how long."""
    parser.add_argument(
        "--lead",
        type=float,
        default=2.0,
        help="seconds that speech is generated ahead of playback, 0 for WebRTC: a frame and 20 ms (default: 2)",
    )
    parser.add_argument(
        "--sessions",
        type=int,
        metavar="N",
        help="sessions at once; default: what this machine holds, measured at start and again when idle",
    )
    parser.add_argument(
        "--idle",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="end a session after so long without viewers and speech (default: 300); where another is refused "
        "meanwhile, after 30 s without viewers at most",
    )


def _add_connections(parser: argparse.ArgumentParser) -> None:
    """Where streams go to and come from."""
    parser.add_argument(
        "--push",
        type=_target,
        action="append",
        default=[],
        metavar="NAME=URL",
        help="a media server (rtmp, rtsp, or srt where PyAV has it) that a session may be sent to by that name, {id} "
        "in it being the session's id; may be given several times",
    )
    add_tts_argument(parser)
    parser.add_argument(
        "--ice-server",
        action="append",
        default=[],
        metavar="URL[,USER,PASSWORD]",
        help="a STUN or TURN server for WebRTC across networks: stun:HOST[:PORT] or turn:HOST[:PORT],USER,PASSWORD; "
        "viewers are told of it; may be given several times",
    )

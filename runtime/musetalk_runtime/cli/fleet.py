"""``musetalk-edge fleet``: many devices behind one front end, on a Ray cluster."""

import argparse
import random
import shlex
import socket
import time
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NoReturn

from musetalk_runtime.cli.engine_arguments import say
from musetalk_runtime.cli.fleet_steering import add_steering, prepare_ray
from musetalk_runtime.core.errors import InvalidArgument, MachineError

STATE = Path("/var/lib/musetalk-edge/fleet")
POLL_S = 0.5
RESTART_WAITS_S = (2.0, 15.0)  # from the end of Ray on this machine to another start; not on all machines at once

EXAMPLES = """\
examples:
  openssl rand -hex 32 > secret                                             # the same file on every machine
  musetalk-edge fleet head --secret secret --tokens tokens.txt
  musetalk-edge fleet device gb10-1 --secret secret --head 10.0.0.1:6379 --ray-host 10.0.0.11 --host 10.0.0.11 \\
      --registry s3://faces/fleet --bundle student=student-gb10
  musetalk-edge fleet publish s3://faces/fleet bundle student-gb10 STUDENT.bundle
  musetalk-edge fleet drain gb10-1 --secret secret

See docs/fleet.md."""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "fleet",
        help="many devices behind one front end, on a Ray cluster",
        description="Run the front end or a device of a fleet, and steer it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="WHAT")
    _add_head(commands)
    _add_device(commands)
    add_steering(commands)
    for command in commands.choices.values():
        command.add_argument("--verbose", action="store_true", help="add the traceback to an error")


def _add_head(commands: Any) -> None:
    parser = commands.add_parser("head", help="run Ray's head, and the front end")
    add = parser.add_argument
    _add_common(add)
    add("--tokens", type=Path, metavar="FILE", help="let in who has a token of FILE, see 'musetalk-edge token --help'")
    add("--host", default="127.0.0.1", help="address of the front end (default: 127.0.0.1)")
    add("--port", type=int, default=8000, help="port of the front end (default: 8000)")
    add("--ray-port", type=int, default=6379, help="port that devices join by (default: 6379)")
    add("--allow-host", action="append", default=[], metavar="NAME", help="a name that the front end goes by")
    add("--allow-origin", action="append", default=[], metavar="ORIGIN", help="let pages of ORIGIN use it (CORS)")
    add("--registry", metavar="URL", help="a folder or object store by which avatars spread")
    add("--spare", type=int, metavar="N", help="ask Ray's autoscaler for room for N more sessions than run")
    add("--processes", type=int, default=1, metavar="N", help="processes of the front end (default: 1)")
    parser.set_defaults(run=_run_head)


def _add_device(commands: Any) -> None:
    parser = commands.add_parser("device", help="join this machine to a fleet")
    add = parser.add_argument
    add("name", nargs="?", default=socket.gethostname().partition(".")[0], help="its name (default: the host's)")
    _add_common(add)
    add("--head", default="127.0.0.1:6379", metavar="HOST:PORT", help="where Ray's head is (default: 127.0.0.1:6379)")
    add("--host", default="127.0.0.1", help="address that the service listens on (default: 127.0.0.1)")
    add("--port", type=int, default=8787, help="port that the service listens on (default: 8787)")
    add("--public-url", metavar="URL", help="where viewers reach the service (default: by a proxy, at /d/NAME)")
    add("--registry", metavar="URL", help="a folder or object store with bundles and avatars")
    add(
        "--bundle",
        type=_bundle,
        action="append",
        default=[],
        metavar="[NAME=]ENTRY",
        help="a bundle of the registry, and what sessions call it; may be given several times",
    )
    add("--serve-options", default="", metavar="WORDS", help="more options for 'musetalk-edge serve'")
    parser.set_defaults(run=_run_device)


def _add_common(add: Any) -> None:
    add("--secret", type=Path, required=True, metavar="FILE", help="the fleet's secret: 32 bytes or more")
    add("--state", type=Path, default=STATE, metavar="DIR", help="folder that is written (default: %(default)s)")
    add("--ray-host", type=_ip, default="127.0.0.1", metavar="IP", help="of this machine, for Ray (default: 127.0.0.1)")
    add("--ray-options", default="", metavar="WORDS", help="more options for 'ray start'")


def _run_head(args: argparse.Namespace) -> NoReturn:
    prepare_ray(args.secret, args.ray_host)
    from musetalk_runtime.fleet.cluster.deployment import FrontSettings
    from musetalk_runtime.service.security.access import is_loopback

    if not (args.tokens or is_loopback(args.host)):
        raise InvalidArgument(f"--host {args.host} lets everybody in who reaches it: give --tokens FILE")

    settings = FrontSettings(
        args.secret.absolute(),
        args.tokens.absolute() if args.tokens else None,
        args.host,
        args.port,
        tuple(args.allow_host),
        tuple(args.allow_origin),
        args.processes,
        args.registry,
        args.spare,
    )
    settings.access()
    _for_ever(partial(_be_head, args, settings))


def _be_head(args: argparse.Namespace, settings: Any) -> None:
    """Be the head and the front end as long as Ray runs; raises MachineError."""
    from musetalk_runtime.fleet.cluster.connection import joined
    from musetalk_runtime.fleet.cluster.deployment import deploy
    from musetalk_runtime.fleet.cluster.node import check_running, head_node

    with head_node(args.ray_host, args.ray_port, args.state, shlex.split(args.ray_options)) as node:
        with joined(f"{args.ray_host}:{args.ray_port}"):
            deploy(settings)
        say(f"http://{args.host}:{args.port}/ is the front end")
        while True:
            check_running(node, args.state)
            time.sleep(POLL_S)


def _run_device(args: argparse.Namespace) -> NoReturn:
    prepare_ray(args.secret, args.ray_host)
    from musetalk_runtime.fleet.device.service_process import ServiceProcess
    from musetalk_runtime.fleet.device.settings import DeviceSettings

    settings = DeviceSettings(
        args.name,
        args.state.absolute(),
        args.secret.absolute(),
        args.host,
        args.port,
        args.public_url,
        args.registry,
        tuple(args.bundle),
        tuple(shlex.split(args.serve_options)),
    )
    try:
        _for_ever(partial(_be_device, args, settings))
    finally:
        ServiceProcess(settings.state).stop()


def _be_device(args: argparse.Namespace, settings: Any) -> None:
    """Be a node of the cluster as long as Ray runs; raises MachineError, or InvalidArgument where the name is taken."""
    import ray

    from musetalk_runtime.fleet.cluster.actor import check_name, start_actor
    from musetalk_runtime.fleet.cluster.connection import joined
    from musetalk_runtime.fleet.cluster.node import check_running, device_node

    options = shlex.split(args.ray_options)
    with device_node(settings.name, args.head, args.ray_host, settings.state, options) as node:
        with joined(args.head):
            check_name(settings.name)
            actor = start_actor(settings)
            ray.get(actor.address.remote())
            say(f"device {settings.name} has joined: its service is at {settings.address.url}")
        while True:
            check_running(node, settings.state)
            time.sleep(POLL_S)


def _for_ever(work: Callable[[], None]) -> NoReturn:
    """Do `work`, which Ray's end ends, again and again."""
    while True:
        try:
            work()
        except MachineError as error:
            say(f"{error}: starting again")
        time.sleep(random.uniform(*RESTART_WAITS_S))  # noqa: S311


def _ip(text: str) -> str:
    """Ray takes addresses, and no names."""
    try:
        return str(ip_address(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected an IP address of this machine") from None


def _bundle(text: str) -> tuple[str, str]:
    name, equals, entry = text.partition("=")
    return (name, entry) if equals else (text, text)

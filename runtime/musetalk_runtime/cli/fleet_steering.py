"""The parts of ``musetalk-edge fleet`` that steer one that runs: drain, reopen, update, remove, publish."""

import argparse
from pathlib import Path
from typing import Any

from musetalk_runtime.cli.engine_arguments import say
from musetalk_runtime.core.errors import InvalidArgument, MachineError


def add_steering(commands: Any) -> None:
    for name, does in {
        "drain": "let no new sessions in at a device; those that run go on",
        "reopen": "let new sessions in again",
        "remove": "end a device's service and sessions, and forget the device",
    }.items():
        parser = commands.add_parser(name, help=does)
        parser.add_argument("device", metavar="DEVICE", help="its name")
        _add_cluster(parser.add_argument)
        parser.set_defaults(run=_steer, what=name)
    _add_update(commands)
    _add_publish(commands)


def _add_update(commands: Any) -> None:
    parser = commands.add_parser(
        "update",
        help="bring a new bundle to all devices, one after the other",
        description="Put BUNDLE into the registry, and bring it to one device after the other: each lets its sessions "
        "end, tries the bundle out, and serves it. It stops at the first that fails, which then serves as before. Once "
        "all have it, it is current in the registry, for devices to come.",
    )
    add = parser.add_argument
    add("entry", metavar="ENTRY", help="the registry's name of the bundle")
    add("bundle", type=Path, metavar="BUNDLE", help="the new bundle")
    add("--registry", required=True, metavar="URL", help="a folder or object store with bundles and avatars")
    add("--device", action="append", default=[], metavar="DEVICE", help="only this one; may be given several times")
    add("--patience", type=float, default=3600.0, help="seconds for a device's sessions to end in (default: 3600)")
    _add_cluster(add)
    parser.set_defaults(run=_update)


def _add_publish(commands: Any) -> None:
    parser = commands.add_parser("publish", help="put a bundle or an avatar into the registry, as its current version")
    add = parser.add_argument
    add("registry", metavar="URL", help="a folder or object store")
    add("kind", choices=("bundle", "avatar"))
    add("name", metavar="NAME", help="its name there")
    add("folder", type=Path, metavar="FOLDER", help="the bundle or avatar")
    add("--copies", type=int, metavar="N", help="on how many devices an avatar is wanted (default: all)")
    parser.set_defaults(run=_publish)


def _add_cluster(add: Any) -> None:
    add("--secret", type=Path, required=True, metavar="FILE", help="the fleet's secret")
    add("--head", default="127.0.0.1:6379", metavar="HOST:PORT", help="where Ray's head is (default: 127.0.0.1:6379)")


def _steer(args: argparse.Namespace) -> int:
    prepare_ray(args.secret, args.head.rpartition(":")[0])
    from musetalk_runtime.fleet.cluster.connection import joined
    from musetalk_runtime.fleet.cluster.remote_device import RemoteDevice

    with joined(args.head):
        device = RemoteDevice(args.device)
        {"drain": device.drain, "reopen": device.reopen, "remove": device.stop}[args.what]()
    return 0


def _update(args: argparse.Namespace) -> int:
    prepare_ray(args.secret, args.head.rpartition(":")[0])
    from musetalk_runtime.fleet.cluster.actor import device_names
    from musetalk_runtime.fleet.cluster.connection import joined
    from musetalk_runtime.fleet.cluster.remote_device import RemoteDevice
    from musetalk_runtime.fleet.registry import Registry
    from musetalk_runtime.fleet.rolling_update import rolling_update

    registry = Registry(args.registry)
    version = registry.add("bundle", args.entry, args.bundle)
    with joined(args.head):
        named = map(RemoteDevice, args.device or device_names())
        devices = [device for device in named if args.entry in device.entries()]
        if not devices:
            raise InvalidArgument(f"no device serves {args.entry!r} of the registry")
        rolling_update(devices, args.entry, version, args.patience, say)
    if not args.device:
        registry.point("bundle", args.entry, version)
    say(f"{len(devices)} devices serve the new {args.entry}, version {version}")
    return 0


def _publish(args: argparse.Namespace) -> int:
    from musetalk_runtime.fleet.registry import Registry

    if args.copies is not None and (args.kind != "avatar" or args.copies < 1):
        raise InvalidArgument("--copies is a whole number above 0, and for an avatar")
    registry = Registry(args.registry)
    if args.copies is not None:
        registry.set_copies(args.name, args.copies)
    version = registry.publish(args.kind, args.name, args.folder)
    say(f"{args.kind} {args.name} is there, version {version}")
    return 0


def prepare_ray(secret: Path, host: str) -> None:
    """Read the secret and set Ray's environment, on a machine whose address for Ray is `host`; raises MachineError
    without the extra.
    """
    from importlib.util import find_spec

    from musetalk_runtime.service.security.signed_tokens import read_secret

    if find_spec("ray") is None:
        raise MachineError("fleet needs ray: pip install 'musetalk-edge[fleet]'")
    from musetalk_runtime.fleet.cluster.environment import set_environment

    set_environment(read_secret(secret), host)

"""``musetalk-edge provision``: what a device serves, seen to at each boot."""

import argparse
import json
import shlex
from pathlib import Path
from typing import Any

from musetalk_runtime.cli.engine_arguments import say

STATE, IMAGE = Path("/var/lib/musetalk-edge"), Path("/usr/share/musetalk-edge")

EPILOG = """\
IMAGE holds student.bundle (of TensorRT for RTX, certified here in seconds), or student.modelset, of which TensorRT
builds engines here, and cpu.bundle and avatars/NAME. STATE has their versions in bundles/student and avatars/NAME, as
'update' writes them, and new.bundle where one was brought.

What works is left. What is damaged, or does not run here any more, is replaced: by a version that is whole, else by the
image's. Where STATE cannot be written, what works is served as it is. Where nothing works, the demo is. It may be
interrupted at any moment, and run again."""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "provision",
        help="see to it, at each boot of a device, that it has something to serve",
        description="Find or make a bundle that runs on this device, and the avatars that go with it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--state", type=Path, default=STATE, help="folder that is written (default: %(default)s)")
    add("--image", type=Path, default=IMAGE, help="folder that is only read (default: %(default)s)")
    add("--build-options", default="", metavar="WORDS", help="more options for build-engines")
    add(
        "--env",
        type=Path,
        metavar="FILE",
        help="write SERVE=..., the arguments of 'musetalk-edge serve', for systemd; where FILE is there already, this "
        "is no boot but a restart, and no engines are built",
    )
    add("--json", action="store_true", help="print what is served on stdout, as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Provision the device."""
    from musetalk_runtime.storage.output_file import write_output
    from musetalk_runtime.update.provision import Provisioner

    build = None if args.env and args.env.exists() else shlex.split(args.build_options)
    faces = Provisioner(args.state, args.image, build, say).faces()
    if args.env:
        write_output(args.env, f"SERVE={' '.join(faces.arguments())}\n", 0o644)
    if args.json:
        avatars = {name: str(path) for name, path in faces.avatars.items()}
        print(json.dumps({"bundle": str(faces.bundle) if avatars else None, "avatars": avatars}))
    return 0

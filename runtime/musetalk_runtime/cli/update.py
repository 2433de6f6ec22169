"""``musetalk-edge update`` and ``rollback``: another version of a bundle or an avatar becomes the current one."""

import argparse
import json
from pathlib import Path
from typing import Any

from musetalk_runtime.cli.engine_arguments import say

EXAMPLES = """\
examples:
  musetalk-edge update /var/lib/musetalk-edge/bundles/student NEW.bundle
  musetalk-edge serve -b /var/lib/musetalk-edge/bundles/student/current -a anna=.../avatars/anna/current
  musetalk-edge rollback /var/lib/musetalk-edge/bundles/student

FOLDER, which is made if need be, holds the versions, 1, 2 and so on, and a link, 'current', to one of them. The link
is switched in one step: a power cut at any moment leaves the old or the new version, whole. A version with which
'serve' fails to start is rolled back, and so is one with which it dies three times before it is ready; the version
before the current one is kept for that, older ones are deleted. What runs is not disturbed: start the service again to
have the new version. Run it as the service's user, who notes there how the start went. A bundle that is tried out
takes its share of the GPU's memory beside the running one."""


def add_parser(subparsers: Any) -> None:
    _add_update(subparsers)
    _add_rollback(subparsers)


def _add_update(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "update",
        help="put a new bundle or avatar in place of the current one, if it works",
        description="Copy a bundle or an avatar into FOLDER as its newest version, let it work (a bundle speaks, of an "
        "avatar every frame is decoded), and only then make it the current one.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the versions")
    parser.add_argument("new", type=Path, metavar="NEW", help="the bundle or avatar to copy")
    parser.add_argument("--json", action="store_true", help="print what is current on stdout, as JSON")
    parser.set_defaults(run=_update)


def _add_rollback(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "rollback",
        help="go back to the version that an update replaced",
        description="Make the version before the current one current again, if it is whole, in one step. What runs is "
        "not disturbed: start the service again to have it. See 'musetalk-edge update --help'.",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the versions")
    parser.add_argument("--json", action="store_true", help="print what is current on stdout, as JSON")
    parser.set_defaults(run=_roll_back)


def _update(args: argparse.Namespace) -> int:
    from musetalk_runtime.update.versions import Versions

    return _tell(args, Versions(args.folder).add(args.new, say))


def _roll_back(args: argparse.Namespace) -> int:
    from musetalk_runtime.update.versions import Versions

    return _tell(args, Versions(args.folder).roll_back())


def _tell(args: argparse.Namespace, number: int) -> int:
    say(f"{args.folder}: version {number} is current")
    if args.json:
        print(json.dumps({"folder": str(args.folder), "current": number}))
    return 0

"""``musetalk-edge rollback``: back to the version before the current one."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "rollback",
        help="go back to the version that an update replaced",
        description="Make the version before the current one current again, if it is whole, in one step. What runs is "
        "not disturbed: start the service again to have it. See 'musetalk-edge update --help'.",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the versions")
    parser.add_argument("--json", action="store_true", help="print what is current on stdout, as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Roll back, and say on stderr what is current now."""
    from musetalk_runtime.update.versions import Versions

    number = Versions(args.folder).roll_back()
    print(f"musetalk-edge: {args.folder}: version {number} is current", file=sys.stderr)
    if args.json:
        print(json.dumps({"folder": str(args.folder), "current": number}))
    return 0

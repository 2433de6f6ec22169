"""``musetalk-edge token``: a token for a service."""

import argparse
import sys
from pathlib import Path
from typing import Any

EXAMPLES = """\
examples:
  musetalk-edge token anna --tokens tokens.txt
  musetalk-edge token kiosk --tokens tokens.txt --sessions 1 --uploads 200
  curl -H "Authorization: Bearer TOKEN" http://127.0.0.1:8787/v1/avatars

The token is printed on stdout, once: FILE holds its SHA-256 only. Deleting a line takes the token away. A running
service reads FILE when it starts."""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "token",
        help="make a token for 'musetalk-edge serve --tokens'",
        description="Make a token for 'musetalk-edge serve --tokens FILE', and print it once.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", help="who it is for")
    parser.add_argument("--tokens", type=Path, required=True, metavar="FILE", help="the file to add it to")
    parser.add_argument("--sessions", type=int, metavar="N", help="sessions it may have at once; default: no limit")
    parser.add_argument("--uploads", type=int, metavar="MIB", help="MiB it may send in an hour; default: no limit")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Add the token and print it."""
    from musetalk_runtime.service.security.tokens import add_token

    print(add_token(args.tokens, args.name, args.sessions, args.uploads))
    print(f"musetalk-edge: {args.tokens} holds its SHA-256; it is not shown again", file=sys.stderr)
    return 0

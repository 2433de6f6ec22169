"""``musetalk-edge doctor``: what this machine has, and what is wrong with it."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from musetalk_runtime.cli.engine_arguments import say
from musetalk_runtime.core.errors import InvalidArgument, MachineError


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "doctor",
        help="say what this machine has, and whether a bundle will run on it",
        description="Look at the software, memory, GPU, driver, TensorRT and encoders (by encoding ten frames), and at "
        "a bundle. Exit status 3 if the bundle cannot run here or nothing can encode.",
    )
    parser.add_argument("-b", "--bundle", type=Path, help="a bundle to look at too")
    parser.add_argument("--json", action="store_true", help="print JSON")
    support = parser.add_argument_group("for who helps")
    support.add_argument(
        "--support",
        type=Path,
        metavar="FILE.tar.gz",
        help="also write one file with versions, manifests, last logs and metrics, and no audio, faces or tokens",
    )
    support.add_argument(
        "-a",
        "--avatar",
        type=Path,
        action="append",
        default=[],
        help="an avatar whose manifest goes with it; repeatable",
    )
    support.add_argument(
        "--service",
        type=_address,
        default=("127.0.0.1", 8787),
        metavar="HOST:PORT",
        help="whose metrics go with it, asked with the token in $MUSETALK_EDGE_TOKEN (default: 127.0.0.1:8787)",
    )
    support.add_argument("--log", type=Path, metavar="FILE", help="its log (default: the journal of musetalk-edge*)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the findings on stdout."""
    from musetalk_runtime.diagnostics.doctor import examine, to_json
    from musetalk_runtime.storage.destination import Destination

    if args.support and Destination(args.support).descriptor == 1:
        raise InvalidArgument(f"--support {args.support}: is stdout, where the findings go: name a file")
    findings = examine(args.bundle, say)
    report = to_json(findings)
    if args.json:
        print(json.dumps(report, indent=1))
    else:
        for finding in findings:
            print(f"{finding.state:<8} {finding.name:<12} {finding.text}")
    if args.support:
        from musetalk_runtime.diagnostics.support import write_support

        folders = [*([args.bundle] if args.bundle else []), *args.avatar]
        token = os.environ.get("MUSETALK_EDGE_TOKEN")
        names = write_support(args.support, findings, folders, args.service, args.log, token)
        print(f"musetalk-edge: {args.support} holds {', '.join(names)}", file=sys.stderr)
    return 0 if report["healthy"] else MachineError.exit_status


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r}: expected HOST:PORT")
    return host.strip("[]"), int(port)

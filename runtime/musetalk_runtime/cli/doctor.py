"""``musetalk-edge doctor``: what this machine has, and what is wrong with it."""

import argparse
import json
from pathlib import Path
from typing import Any

from musetalk_runtime.errors import MachineError


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "doctor",
        help="say what this machine has, and whether a bundle will run on it",
        description="Look at the software, memory, GPU, driver, TensorRT and encoders (by encoding ten frames), and at "
        "a bundle. Exit status 3 if the bundle cannot run here or nothing can encode.",
    )
    parser.add_argument("-b", "--bundle", type=Path, help="a bundle to look at too")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the findings on stdout."""
    from musetalk_runtime.doctor import examine, to_json

    findings = examine(args.bundle)
    report = to_json(findings)
    if args.json:
        print(json.dumps(report, indent=1))
    else:
        for finding in findings:
            print(f"{finding.state:<8} {finding.name:<9} {finding.text}")
    return 0 if report["healthy"] else MachineError.exit_status

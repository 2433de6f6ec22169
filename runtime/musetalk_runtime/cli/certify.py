"""``musetalk-edge certify``: a bundle that was built elsewhere is compiled, certified and measured on this machine."""

import argparse
import json
from pathlib import Path
from typing import Any

from musetalk_runtime.cli.engine_arguments import say

EXAMPLES = """\
examples:
  build-engines student.modelset -o student.bundle --backend tensorrt-rtx --for gb10     # on any machine
  musetalk-edge certify student.bundle                                                   # on the GB10
  musetalk-edge serve -b student.bundle -a anna=ANNA.avatar

Other commands certify such a bundle by themselves when they must: at its first start on a machine, and again when the
GPU, the driver or TensorRT for RTX has changed. The certificate, with what was compiled, is kept in .certificates
beside the bundle, or, where nothing can be written there, in $STATE_DIRECTORY or ~/.local/state/musetalk-edge.
Exit status: 2 for bad input or usage, 3 if a plan is not accurate or this machine cannot run it, 1 for a bug."""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "certify",
        help="compile, certify and measure a bundle of TensorRT for RTX on this machine",
        description="Compile every plan of a bundle of TensorRT for RTX for this machine's GPU, compare what it makes "
        "of the golden inputs with the golden outputs, choose the batch sizes that pay, and write the certificate. A "
        "plan that is off is built again in safer ways, and none that is off ever runs.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="the bundle")
    parser.add_argument("--json", action="store_true", help="print the certificate on stdout, as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Certify, whether there is a certificate or not."""
    from musetalk_runtime.certification.certify import certify_bundle

    certificate = certify_bundle(args.bundle, say)
    if args.json:
        print(json.dumps({"path": str(certificate.path), **certificate.manifest}, indent=1))
    return 0

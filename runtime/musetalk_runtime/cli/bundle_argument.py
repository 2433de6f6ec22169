"""The option ``--bundle`` of the commands that run engines."""

import argparse
from pathlib import Path

from musetalk_runtime.demo import BUNDLE


def add_bundle_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-b", "--bundle", type=Path, default=BUNDLE, help="the engines, from build-engines (default: the demo's)"
    )

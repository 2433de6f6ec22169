"""The options that the commands that run engines share, and the opening of a bundle."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from musetalk_runtime.core.detail import DETAILS
from musetalk_runtime.demo import BUNDLE

if TYPE_CHECKING:
    from musetalk_runtime.bundle import Bundle


def add_bundle_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-b", "--bundle", type=Path, default=BUNDLE, help="the engines, from build-engines (default: the demo's)"
    )


def open_bundle(path: Path, **gpu: Any) -> "Bundle":
    """The bundle at `path`, certified first where it must be, with progress on stderr; see ``Bundle.open``."""
    from musetalk_runtime.bundle import TENSORRT_RTX, Bundle

    bundle = Bundle.open(path, **gpu)
    if bundle.manifest["backend"] == TENSORRT_RTX:
        from musetalk_runtime.certification.certify import ensure_certified

        ensure_certified(bundle, say)
    return bundle


def must_certify(path: Path) -> bool:
    """Whether `open_bundle` certifies the bundle at `path`; raises what it raises before."""
    from musetalk_runtime.bundle import TENSORRT_RTX, Bundle

    with Bundle.open(path) as bundle:
        if bundle.manifest["backend"] != TENSORRT_RTX:
            return False
        from musetalk_runtime.certification.certify import why_uncertified

        return why_uncertified(bundle) is not None


def say(text: str) -> None:
    print(f"musetalk-edge: {text}", file=sys.stderr, flush=True)


def add_detail_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--detail``, as ``Avatar.open`` takes it."""
    parser.add_argument(
        "--detail",
        choices=DETAILS,
        default="auto",
        help="auto (the default): where a generated face agrees with the avatar's frame it gets the frame's own detail "
        "and colours; off: it is shown as the model made it",
    )


def add_tts_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--tts``, the name of a text-to-speech engine."""
    parser.add_argument(
        "--tts",
        default="hibari",
        metavar="hibari|MODULE:NAME",
        help="what speaks text: hibari (the default; needs the extra say), or an engine of your own, see docs/text.md",
    )

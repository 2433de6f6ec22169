#!/usr/bin/env python3
"""Compare the frames of two bundles, where no one machine has both: render on each, then compare.

    PYTHONPATH=runtime python scripts/gpu/compose_frames.py render BUNDLE AVATAR AUDIO OUT.npz [--every 25] [--batch N]
    PYTHONPATH=runtime python scripts/gpu/compose_frames.py compare A.npz B.npz

Give both the same avatar and audio, and the same --every. `compare` prints the PSNR of whole frames and of what differs
from the avatar's own, the worst of all frames, and exits with 1 below 40 dB.
"""

import argparse
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np

from musetalk_runtime import Avatar, Bundle
from musetalk_runtime.audio.decode.file import AudioFile
from musetalk_runtime.audio.speech import SpeechFrames
from musetalk_runtime.backends.interface import FrameRequest
from musetalk_runtime.core.timings import Timings

FPS = Fraction(25)
MIN_PSNR_DB = 40


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    render_command, compare_command = commands.add_parser("render"), commands.add_parser("compare")
    for name in ("bundle", "avatar", "audio", "output"):
        render_command.add_argument(name, type=Path)
    render_command.add_argument("--every", type=int, default=25)
    render_command.add_argument("--batch", type=int, default=1)
    for name in ("first", "second"):
        compare_command.add_argument(name, type=Path)
    args = parser.parse_args()
    if args.command == "compare":
        return compare(np.load(args.first), np.load(args.second))
    with Bundle.open(args.bundle) as bundle, Avatar.open(args.avatar) as avatar:
        frames = render(bundle, avatar, args.audio, args.every, args.batch)
        np.savez_compressed(args.output, **frames)  # type: ignore[arg-type]
    return 0


def render(bundle: Bundle, avatar: Avatar, audio: Path, every: int, batch: int) -> dict[str, np.ndarray]:
    """Every `every`-th frame: its ``index`` and ``weight``, ``frames`` as made, ``plain`` as they are in the avatar."""
    avatar.check(bundle.spec)
    encode = bundle.engines.encode_audio
    speech = list(SpeechFrames(AudioFile(audio), encode, bundle.spec, FPS, bundle.live_context))[::every]
    renderer = bundle.engines.renderer(avatar, Timings())
    requests = [FrameRequest(avatar, avatar.index_at(frame.index, FPS), frame) for frame in speech]
    frames: list[np.ndarray] = []
    for start in range(0, len(requests), batch):
        frames += renderer.render(requests[start : start + batch]).wait()
    renderer.close()
    plain = [avatar.frame(request.shown) for request in requests]
    return {
        "index": np.array([frame.index for frame in speech]),
        "weight": np.array([frame.weight for frame in speech]),
        "frames": np.stack(frames),
        "plain": np.stack(plain),
    }


def compare(first: np.lib.npyio.NpzFile, second: np.lib.npyio.NpzFile) -> int:
    if not np.array_equal(first["index"], second["index"]) or not np.array_equal(first["plain"], second["plain"]):
        print("these are not the same frames of the same avatar", file=sys.stderr)
        return 2
    whole, face = [], []
    for a, b, plain in zip(first["frames"], second["frames"], first["plain"], strict=True):
        error = (a.astype(float) - b) ** 2
        changed = (a != plain) | (b != plain)
        whole.append(psnr(error.mean()))
        face.append(psnr(error[changed].mean()) if changed.any() else np.inf)
    spoken = int((first["weight"] > 0).sum())
    print(f"{len(whole)} frames, {spoken} of them spoken: PSNR of the frame >= {min(whole):.1f} dB, mean "
          f"{np.mean(whole):.1f}; of the face alone >= {min(face):.1f} dB")  # fmt: skip
    return 0 if min(whole) >= MIN_PSNR_DB else 1


def psnr(mean_square: float) -> float:
    return float(10 * np.log10(255**2 / max(mean_square, 1e-9)))


if __name__ == "__main__":
    sys.exit(main())

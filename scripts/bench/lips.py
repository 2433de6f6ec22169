#!/usr/bin/env python3
"""How a stream's lips follow its sound: a picture of both over time, with frames of the face, and JSON on stdout.

    PYTHONPATH=export:runtime python scripts/bench/lips.py AUDIO OUT.png [--bundle BUNDLE] [--avatar AVATAR]
        [--truth JSON]

AUDIO is streamed by the demo's model, or BUNDLE's, at 25 fps and decoded again. ``opening`` is how far the lips are
apart in the picture, in faces (musetalk_distill/evaluate/lips.py). ``correlation`` is that with the loudness of the
sound, in decibels, without lag; ``best_correlation`` is the highest at a lag of up to 12 frames, and ``best_lag`` that
lag (positive: the picture is late). The same is told of the openings in --truth, if there are any: a JSON object with
``opening``, one a frame, as ``speech.json`` of scripts/demo_recipe has them.

Loudness is no truth: lips close for a loud m, and are open for a soft h.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from musetalk_distill.evaluate.decoded_stream import FPS, DecodedStream, stream_and_decode
from musetalk_distill.evaluate.lips import lip_correlation, lip_opening
from musetalk_runtime import Avatar, Bundle
from musetalk_runtime.demo import AVATAR, BUNDLE

QUIET = -50.0  # dB below full scale: silence in a recording
FACES, SIDE, HEIGHT = 8, 160, 150  # shown: how many, and pixels
INK, LIPS, SOUND, TRUTH = (60, 60, 60), (60, 60, 200), (200, 160, 90), (80, 150, 60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", type=Path)
    parser.add_argument("picture", type=Path, metavar="OUT.png")
    parser.add_argument("--bundle", type=Path, default=BUNDLE, help="(default: the demo's)")
    parser.add_argument("--avatar", type=Path, default=AVATAR, help="(default: the demo's)")
    parser.add_argument("--truth", type=Path, metavar="JSON")
    args = parser.parse_args()
    truth = np.array(json.loads(args.truth.read_text())["opening"]) if args.truth else None
    with Bundle.open(args.bundle) as bundle, Avatar.open(args.avatar) as avatar:
        streamed = stream_and_decode(bundle, avatar, args.audio)
    lips = lip_opening(streamed.faces)
    decibels = 20 * np.log10(np.maximum(streamed.loudness, 10 ** (QUIET / 20)))
    silent = decibels <= QUIET
    found: dict[str, Any] = {"frames": len(lips), "loudness": _follow(lips, decibels)}
    found["opening"] = {"in_speech": _mean(lips[~silent]), "in_silence": _mean(lips[silent])}
    if truth is not None:
        found["truth"] = _follow(lips, truth)
    print(json.dumps(found, indent=1))
    cv2.imwrite(str(args.picture), draw(streamed, lips, decibels - QUIET, truth))


def draw(streamed: DecodedStream, lips: Any, loudness: Any, truth: Any) -> Any:
    """Faces at even times, and below them the curves, each scaled to its own maximum."""
    picture = np.full((SIDE + HEIGHT + 30, FACES * SIDE, 3), 255, np.uint8)
    for place, frame in enumerate(np.linspace(0, len(lips) - 1, FACES).round().astype(int)):
        face = (streamed.faces[frame].permute(1, 2, 0).numpy()[..., ::-1] * 255).astype(np.uint8)
        picture[:SIDE, place * SIDE : (place + 1) * SIDE] = cv2.resize(face, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    curves = [
        ("loudness", loudness, SOUND),
        ("lips", lips, LIPS),
        *([("truth", truth, TRUTH)] if truth is not None else []),
    ]
    for place, (name, values, colour) in enumerate(curves):
        x = np.linspace(0, picture.shape[1] - 1, len(values))
        y = SIDE + 10 + (1 - values / max(values.max(), 1e-6)) * HEIGHT
        points = np.stack([x, y], axis=1).round().astype(np.int32).reshape(-1, 1, 2)
        cv2.polylines(picture, [points], False, colour, 1, cv2.LINE_AA)
        _write(picture, name, 10 + 90 * place, colour)
    _write(picture, f"{len(lips) / FPS:.1f} s", picture.shape[1] - 70, INK)
    return picture


def _write(picture: Any, text: str, x: int, colour: tuple[int, int, int]) -> None:
    cv2.putText(picture, text, (x, picture.shape[0] - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)


def _follow(lips: Any, known: Any) -> dict[str, Any] | None:
    length = min(len(lips), len(known))
    found = lip_correlation([(lips[:length], known[:length])])
    return None if found is None else found.to_json(3)


def _mean(values: Any) -> float | None:
    return round(float(values.mean()), 4) if len(values) else None


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Show what overlaps: run a session on the GPU, and draw when each batch was uploaded, computed, downloaded, encoded.

    PYTHONPATH=runtime python scripts/gpu/timeline.py BUNDLE AVATAR AUDIO OUT.png [--seconds 4] [--no-cuda-graph]

The compute lane's shades, from light to dark, are UNet, decoder and compose. GPU times come from CUDA events, the
encoder's from the host's clock; both count from the session's first batch. A table of the first batches goes to stdout,
with the share of upload and download that ran while something was computed.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from musetalk_runtime import Avatar, Bundle, Session
from musetalk_runtime.backends.cuda.times import BatchTimes
from musetalk_runtime.backends.trt.renderer import GpuOptions

Span = tuple[float, float]  # milliseconds

LANES = {
    "upload": (60, 160, 250),
    "compute": (80, 180, 80),
    "download": (230, 150, 60),
    "encode": (190, 90, 190),
}  # BGR
PARTS = {"unet": (140, 215, 140), "vae_decoder": (60, 160, 60), "compose": (30, 90, 30)}  # of compute
LEFT, WIDTH, LANE, TEXT = 110, 1600, 60, (40, 40, 40)
SHOWN = 12  # batches


@dataclass
class Timeline:
    """Spans by lane, one a batch."""

    batches: list[BatchTimes] = field(default_factory=list)
    encoded: list[Span] = field(default_factory=list)

    def lane(self, name: str) -> list[Span]:
        """The spans of one lane; none of ``download`` where frames are composed into memory that the host reads."""
        if name == "encode":
            return self.encoded
        return [span for span in (getattr(batch, name) for batch in self.batches) if span is not None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("bundle", "avatar", "audio", "output"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--no-cuda-graph", action="store_true")
    args = parser.parse_args()
    with Bundle.open(args.bundle) as bundle, Avatar.open(args.avatar) as avatar:
        run(bundle, avatar, args.audio, 1.0, not args.no_cuda_graph)  # to warm up
        timeline = run(bundle, avatar, args.audio, args.seconds, not args.no_cuda_graph)
    print(table(timeline))
    first = len(timeline.batches) // 2  # the batches have ramped up by then
    cv2.imwrite(str(args.output), draw(timeline, slice(first, first + SHOWN)))


def run(bundle: Bundle, avatar: Avatar, audio: Path, seconds: float, cuda_graph: bool) -> Timeline:
    """Stream `seconds` of `audio` as fast as it goes."""
    timeline = Timeline()
    waited: list[float] = []

    def note(times: BatchTimes) -> None:
        timeline.batches.append(times)
        waited.append(time.perf_counter())

    bundle.engines.options = GpuOptions(cuda_graph=cuda_graph, timeline=note)  # type: ignore[attr-defined]
    encoded: list[tuple[float, float]] = []
    with Session(bundle, avatar, audio, fps=25) as session:
        for _ in session.stream():
            if len(waited) > len(encoded):  # the first piece after a batch arrived
                encoded.append((waited[len(encoded)], time.perf_counter()))
            elif encoded:
                encoded[-1] = encoded[-1][0], time.perf_counter()
            if session.frames_made >= 25 * seconds:
                session.stop()
    if encoded:  # the host's clock is set by the end of the first batch, when the host heard of it
        first = timeline.batches[0]
        zero = encoded[0][0] * 1e3 - (first.download or first.compute)[1]
        timeline.encoded = [(begin * 1e3 - zero, end * 1e3 - zero) for begin, end in encoded]
    return timeline


def table(timeline: Timeline) -> str:
    """The first batches in milliseconds, and what overlapped."""
    lines = [f"{'batch':>5}{'frames':>7}{'faces':>6}" + "".join(f"{name:>22}" for name in LANES)]
    for number, batch in enumerate(timeline.batches[:SHOWN]):
        lanes = [timeline.lane(name) for name in LANES]
        ends = [f"{lane[number][0]:.3f} - {lane[number][1]:.3f}" if number < len(lane) else "" for lane in lanes]
        lines.append(f"{number:>5}{batch.frames:>7}{batch.faces:>6}" + "".join(f"{span:>22}" for span in ends))
    for name in ("upload", "download", "encode"):
        if spans := timeline.lane(name):
            share = hidden(spans, timeline.lane("compute"))
            lines.append(f"{name}: {share:.0%} of its time while another batch was computed")
    return "\n".join(lines)


def hidden(spans: list[Span], others: list[Span]) -> float:
    """The share of the time of `spans` in which one of `others`, which do not overlap each other, runs too."""
    both = sum(max(0.0, min(a[1], b[1]) - max(a[0], b[0])) for a in spans for b in others)
    return both / max(sum(end - begin for begin, end in spans), 1e-9)


def draw(timeline: Timeline, shown: slice) -> np.ndarray:
    """The batches `shown`, a lane for each kind of work; BGR."""
    picture = np.full((LANE * len(LANES) + 60, LEFT + WIDTH + 20, 3), 255, np.uint8)
    spans = {name: timeline.lane(name)[shown] for name in LANES}
    begin = min(span[0] for lane in spans.values() for span in lane)
    end = max(span[1] for lane in spans.values() for span in lane)
    scale = WIDTH / max(end - begin, 1e-6)

    def column(ms: float) -> int:
        return LEFT + int((ms - begin) * scale)

    for row, (name, colour) in enumerate(LANES.items()):
        top = 10 + row * LANE
        _text(picture, name, (8, top + 32))
        for number, (start, stop) in enumerate(spans[name], shown.start):
            left = column(start)
            right = max(left + 2, column(stop))
            cv2.rectangle(picture, (left, top + 6), (right, top + LANE - 8), colour, cv2.FILLED)
            if name == "compute":
                _shade(picture, timeline.batches[number], top, column)
            if right - left > 30:
                _text(picture, str(number), (left + 4, top + 36))
    _text(picture, f"{end - begin:.2f} ms", (LEFT, picture.shape[0] - 16))
    return picture


def _shade(picture: np.ndarray, batch: BatchTimes, top: int, column: Callable[[float], int]) -> None:
    """Draw what a batch was computed of, over its span in the lane at `top`."""
    for part, (start, stop) in batch.parts.items():
        corners = (column(start), top + 6), (column(stop), top + LANE - 8)
        cv2.rectangle(picture, *corners, PARTS[part], cv2.FILLED)


def _text(picture: np.ndarray, text: str, at: tuple[int, int]) -> None:
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.55, TEXT, 1, cv2.LINE_AA)


if __name__ == "__main__":
    main()

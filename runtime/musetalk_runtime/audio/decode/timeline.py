"""Where pieces of audio belong in time, by their timestamps."""

TOLERANCE_S = 0.1  # seconds that a timestamp may be off: some containers round them, and clocks drift
MAX_GAP_S = 600.0  # seconds of silence that one gap may stand for
MAX_SILENCE_S = 3600.0  # seconds that all gaps may stand for: a few bytes can stand for hours
MAX_OVERLAP_S = 10.0  # seconds that are taken for an overlap; more are another file's beginning
AGAIN_S = 1.0  # seconds from the first timestamp within which a file begins again


class Timeline:
    """Follows the pieces of one stream. A gap in time is silence, and what overlaps is dropped.

    Files that were joined begin again at their first timestamp, and damaged timestamps jump: there the next piece comes
    right after the one before. ``seconds`` is what has come since `start`.
    """

    def __init__(self, start: float) -> None:
        self.seconds = 0.0
        self._jumps: list[tuple[float, float]] = []  # by how much, and at which second
        self._start = start  # the first timestamp
        self._shift = start  # the timestamp of what was at 0 s
        self._silence = 0.0

    def gap(self, time: float | None) -> float:
        """Seconds of silence that come before the piece with timestamp `time`; below 0, seconds of it that overlap."""
        if time is None:
            return 0.0
        gap = time - self._shift - self.seconds
        if abs(gap) <= TOLERANCE_S:
            return 0.0
        again = gap < 0 and time <= self._start + AGAIN_S
        if again or gap < -MAX_OVERLAP_S or gap > MAX_GAP_S or self._silence + gap > MAX_SILENCE_S:
            self._jumps.append((gap, self.seconds))
            self._shift += gap
            return 0.0
        self._silence += max(0.0, gap)
        return gap

    def add(self, seconds: float) -> None:
        """`seconds` of sound or silence have come."""
        self.seconds += seconds

    @property
    def warning(self) -> str:
        """Where timestamps jumped; empty if nowhere."""
        if not self._jumps:
            return ""
        gap, at = self._jumps[0]
        more = f", and {len(self._jumps) - 1} times more" if len(self._jumps) > 1 else ""
        return f"its timestamps jump by {gap:+.1f} s at {at:.1f} s{more}: what follows comes right after"

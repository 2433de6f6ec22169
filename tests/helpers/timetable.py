"""A session's timetable, for tests of the engines' queue."""


class Timetable:
    """Frames due at `begin` seconds and later, their mouths open but from `closed` on."""

    def __init__(self, begin: float = 0.0, closed: int = 1 << 30) -> None:
        self.begin, self.closed = begin, closed

    def due(self, index: int) -> float:
        return self.begin + index / 25

    def limit(self, index: int) -> float:
        return float(index < self.closed)

"""The cost of sessions, and the load that a machine holds."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Cost:
    """Seconds that one frame of a session that speaks takes.

    ``cpu`` is of the CPU, in all threads: audio encoder, libx264, AAC and composition too, and on a CPU the generator.
    ``generator`` is of the engines' time, in which they make nothing else, and ``encoder`` of a hardware encoder's.
    """

    cpu: float
    generator: float
    encoder: float

    def best(self, other: "Cost") -> "Cost":
        """The least of two measurements, each of which other work may have made dearer."""
        return Cost(min(self.cpu, other.cpu), min(self.generator, other.generator), min(self.encoder, other.encoder))


def load(sessions: Iterable[tuple[Fraction, Cost]], cores: float) -> float:
    """The share of a machine of `cores` that `sessions` (frames a second, cost) take, of what they take most of."""
    cpu = generator = encoder = 0.0
    for fps, cost in sessions:
        cpu += float(fps) * cost.cpu
        generator += float(fps) * cost.generator
        encoder += float(fps) * cost.encoder
    return max(cpu / cores, generator, encoder)

"""The admission of sessions: as many as the machine holds, or as the operator says."""

from collections.abc import Sequence
from fractions import Fraction

from musetalk_runtime.core.cores import available_cores
from musetalk_runtime.frame_rate import HEADROOM, RATES, generation_rate
from musetalk_runtime.service.catalog import Catalog, Pairing
from musetalk_runtime.service.scheduling.capacity import Cost, load

Admitted = tuple[Fraction, Pairing]  # a session's frames a second, and its bundle and avatar


class Admission:
    """Lets sessions in while the machine holds all of them speaking at once; or `sessions` of them, if that is given.

    The first one is always let in: see `shortfall`. ``costs`` is what was measured. An avatar that came later costs
    what others of its bundle do, by size. Where nothing was measured, the generator's rate that `build-engines` found
    counts.
    """

    def __init__(self, catalog: Catalog, sessions: int | None) -> None:
        self.costs: dict[Pairing, Cost] = {}
        self._catalog = catalog
        self._sessions = sessions
        self._cores = available_cores()

    def rate(self, running: Sequence[Admitted], pairing: Pairing, wanted: Fraction | None) -> Fraction | None:
        """The rate of a new session beside those `running`: as `wanted`, else the highest that fits; None if none.

        Where the operator says how many there may be, the highest at which all of them fit, else the lowest.
        """
        rates = [Fraction(rate) for rate in RATES] if wanted is None else [wanted]
        if self._sessions is None:
            fitting = next((rate for rate in rates if self._fits([*running, (rate, pairing)])), None)
            return fitting if fitting or running else rates[-1]
        still = self._sessions - len(running)
        if still <= 0:
            return None
        return next((rate for rate in rates if self._fits([*running, *[(rate, pairing)] * still])), rates[-1])

    def room(self, running: Sequence[Admitted]) -> int:
        """How many more sessions fit beside those `running`, of the kind that costs most."""
        if self._sessions is not None:
            return max(0, self._sessions - len(running))
        costliest = max(self._catalog.pairings(), key=self._share, default=None)
        rate = self.rate([], costliest, None) if costliest else None
        if costliest is None or rate is None:
            return 0
        share = float(rate) * self._share(costliest)
        return max(0 if running else 1, int((1 / HEADROOM - self._load(running)) / share + 1e-9))

    def shortfall(self, sessions: Sequence[Admitted]) -> str | None:
        """What to expect, in a line, where the machine does not hold `sessions` all speaking at once."""
        needed = self._load(sessions)
        if needed <= 1:
            return None
        return f"this machine makes {1 / needed:.0%} of the frames that are needed in time: playback will have to wait"

    def forget(self, avatar: str) -> None:
        """Drop what was measured with `avatar`."""
        self.costs = {pairing: cost for pairing, cost in self.costs.items() if pairing.avatar != avatar}

    def _fits(self, sessions: Sequence[Admitted]) -> bool:
        return self._load(sessions) * HEADROOM <= 1

    def _load(self, sessions: Sequence[Admitted]) -> float:
        return load(((fps, self._cost(pairing)) for fps, pairing in sessions), self._cores)

    def _share(self, pairing: Pairing) -> float:
        """Of the machine, that one frame a second takes."""
        return load([(Fraction(1), self._cost(pairing))], self._cores)

    def _cost(self, pairing: Pairing) -> Cost:
        if pairing in self.costs:
            return self.costs[pairing]
        known = [
            other for other in self.costs if other.bundle == pairing.bundle and other.avatar in self._catalog.avatars
        ]
        if not known:
            return Cost(0.0, 1 / generation_rate(self._catalog.bundles[pairing.bundle]), 0.0)
        like = max(known, key=lambda other: self.costs[other].cpu)
        cost, growth = self.costs[like], max(1.0, self._pixels(pairing) / self._pixels(like))
        return Cost(cost.cpu * growth, cost.generator, cost.encoder * growth)

    def _pixels(self, pairing: Pairing) -> int:
        avatar = self._catalog.avatars[pairing.avatar]
        return avatar.width * avatar.height

"""The admission of sessions: as many as the machine holds, or as the operator says."""

from collections.abc import Sequence
from fractions import Fraction

from musetalk_runtime.frame_rate import HEADROOM, RATES, auto_rate, generation_rate
from musetalk_runtime.service.catalog import Catalog, Pairing
from musetalk_runtime.service.scheduling.capacity import Cost, fits, load

Admitted = tuple[Fraction, Pairing]  # a session's frames a second, and its bundle and avatar


class Admission:
    """Lets sessions in while the machine holds all of them speaking at once; or `sessions` of them, if that is given.

    ``costs`` is what was measured. An avatar that came later costs what others of its bundle do, by size. Where nothing
    was measured, the generator's rate that `build-engines` found counts.
    """

    def __init__(self, catalog: Catalog, sessions: int | None) -> None:
        self.costs: dict[Pairing, Cost] = {}
        self._catalog = catalog
        self._sessions = sessions
        self._fps = max(auto_rate(bundle) for bundle in catalog.bundles.values())

    def rate(self, running: Sequence[Admitted], pairing: Pairing, wanted: Fraction | None) -> Fraction | None:
        """The rate of a new session beside those `running`: as `wanted`, else the highest that fits; None if none."""
        rates = [wanted] if wanted is not None else self._rates()
        return next((rate for rate in rates if self._fits([*running, (rate, pairing)])), None)

    def room(self, running: Sequence[Admitted]) -> int:
        """How many more sessions fit beside those `running`, of the kind that costs most."""
        if self._sessions:
            taken = sum((fps for fps, _ in running), Fraction(0))
            return int((self._sessions * self._fps - taken) / self._fps)
        costliest = max(self._catalog.pairings(), key=self._share, default=None)
        rate = self.rate([], costliest, None) if costliest else None
        if costliest is None or rate is None:
            return 0
        share = float(rate) * self._share(costliest)
        return max(0, int((1 / HEADROOM - self._load(running)) / share + 1e-9))

    def forget(self, avatar: str) -> None:
        """Drop what was measured with `avatar`."""
        self.costs = {pairing: cost for pairing, cost in self.costs.items() if pairing.avatar != avatar}

    def reason(self, pairing: Pairing, wanted: Fraction | None) -> str:
        """Why not even one session fits."""
        if self._sessions:
            return f"this service is set to hold {float(self._sessions * self._fps):g} frames a second"
        rate = wanted or Fraction(RATES[-1])
        share = float(rate) * self._share(pairing) * HEADROOM
        return f"a session at {float(rate):g} fps takes {share:.1f} times what this machine can do"

    def _rates(self) -> list[Fraction]:
        return [self._fps] if self._sessions else [Fraction(rate) for rate in RATES]

    def _fits(self, sessions: Sequence[Admitted]) -> bool:
        if self._sessions:
            return sum(fps for fps, _ in sessions) <= self._sessions * self._fps
        return fits((fps, self._cost(pairing)) for fps, pairing in sessions)

    def _load(self, sessions: Sequence[Admitted]) -> float:
        return load((fps, self._cost(pairing)) for fps, pairing in sessions)

    def _share(self, pairing: Pairing) -> float:
        """Of the machine, that one frame a second takes."""
        return load([(Fraction(1), self._cost(pairing))])

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

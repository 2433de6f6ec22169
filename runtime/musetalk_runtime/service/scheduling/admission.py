"""Who is let in: what the machine holds, or what the operator says."""

from collections.abc import Sequence
from fractions import Fraction

from musetalk_runtime.frame_rate import HEADROOM, RATES, auto_rate, generation_rate
from musetalk_runtime.service.catalog import Cast, Company
from musetalk_runtime.service.scheduling.capacity import Cost, fits, load

Admitted = tuple[Fraction, Cast]  # a session's frames a second, and who plays


class Admission:
    """Lets sessions in while the machine holds all of them speaking at once; or `sessions` of them, if that is given.

    ``costs`` is what was measured; where nothing was, the generator's rate as `build-engines` found it counts, and for
    an avatar that came later what others of its bundle cost, by size.
    """

    def __init__(self, company: Company, sessions: int | None) -> None:
        self.costs: dict[Cast, Cost] = {}
        self._company = company
        self._sessions = sessions
        self._fps = max(auto_rate(bundle) for bundle in company.bundles.values())

    def rate(self, running: Sequence[Admitted], cast: Cast, wanted: Fraction | None) -> Fraction | None:
        """The rate of a new session beside those `running`: as `wanted`, else the highest that fits; None if none."""
        rates = [wanted] if wanted is not None else self._rates()
        return next((rate for rate in rates if self._fits([*running, (rate, cast)])), None)

    def room(self, running: Sequence[Admitted]) -> int:
        """How many more sessions fit beside those `running`, of the kind that costs most."""
        if self._sessions:
            taken = sum((fps for fps, _ in running), Fraction(0))
            return int((self._sessions * self._fps - taken) / self._fps)
        dearest = max(self._company.casts(), key=self._share, default=None)
        rate = self.rate([], dearest, None) if dearest else None
        if dearest is None or rate is None:
            return 0
        share = float(rate) * self._share(dearest)
        return max(0, int((1 / HEADROOM - self._load(running)) / share + 1e-9))

    def reason(self, cast: Cast, wanted: Fraction | None) -> str:
        """Why not even one session fits."""
        if self._sessions:
            return f"this service is set to hold {float(self._sessions * self._fps):g} frames a second"
        rate = wanted or Fraction(RATES[-1])
        share = float(rate) * self._share(cast) * HEADROOM
        return f"a session at {float(rate):g} fps takes {share:.1f} times what this machine can do"

    def _rates(self) -> list[Fraction]:
        return [self._fps] if self._sessions else [Fraction(rate) for rate in RATES]

    def _fits(self, sessions: Sequence[Admitted]) -> bool:
        if self._sessions:
            return sum(fps for fps, _ in sessions) <= self._sessions * self._fps
        return fits((fps, self._cost(cast)) for fps, cast in sessions)

    def _load(self, sessions: Sequence[Admitted]) -> float:
        return load((fps, self._cost(cast)) for fps, cast in sessions)

    def _share(self, cast: Cast) -> float:
        """Of the machine, that one frame a second takes."""
        return load([(Fraction(1), self._cost(cast))])

    def _cost(self, cast: Cast) -> Cost:
        if cast in self.costs:
            return self.costs[cast]
        known = [other for other in self.costs if other.bundle == cast.bundle and other.avatar in self._company.avatars]
        if not known:
            return Cost(0.0, 1 / generation_rate(self._company.bundles[cast.bundle]), 0.0)
        like = max(known, key=lambda other: self.costs[other].cpu)
        cost, growth = self.costs[like], max(1.0, self._pixels(cast) / self._pixels(like))
        return Cost(cost.cpu * growth, cost.generator, cost.encoder * growth)

    def _pixels(self, cast: Cast) -> int:
        avatar = self._company.avatars[cast.avatar]
        return avatar.width * avatar.height

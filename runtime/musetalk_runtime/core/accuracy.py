"""Errors of computed tensors against expected ones, and the bounds they are held to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from musetalk_runtime.core.arrays import Array
from musetalk_runtime.core.errors import AccuracyError


@dataclass(frozen=True)
class Difference:
    """One output of one graph: ``max(|a - b|)`` and ``||a - b|| / ||b||``, and the bound on the latter."""

    graph: str
    output: str
    max_error: float
    relative_error: float
    bound: float

    @property
    def passed(self) -> bool:
        return self.relative_error <= self.bound  # false for NaN


def difference(graph: str, output: str, found: Array, expected: Array, bound: float) -> Difference:
    """Compare `found` with `expected`, of the same shape."""
    wanted = expected.astype(np.float64)
    error = found.astype(np.float64) - wanted
    norm = max(float(np.linalg.norm(wanted.ravel())), float(np.finfo(np.float64).tiny))
    return Difference(graph, output, float(np.abs(error).max()), float(np.linalg.norm(error.ravel())) / norm, bound)


def require(differences: Sequence[Difference], made_from: str) -> None:
    """Raise AccuracyError, naming the worst, unless all passed; `made_from` says what the graphs should equal."""
    failed = [row for row in differences if not row.passed]
    if failed:
        worst = max(failed, key=lambda row: np.nan_to_num(row.relative_error, nan=np.inf))
        raise AccuracyError(
            f"{worst.graph} computes something else than {made_from}: {worst.output} has a relative error of "
            f"{worst.relative_error:.2e}, the bound is {worst.bound:.0e} (maximum error {worst.max_error:.2e}, "
            f"{len(failed)} of {len(differences)} outputs failed): nothing was written"
        )


def table(differences: Sequence[Difference], title: str = "", notes: Mapping[str, str] = MappingProxyType({})) -> str:
    """`differences` as text for a person; `notes` by graph make a column of their own under `title`."""
    head = f"{'graph':<15}{'output':<12}{title:>12}{'max error':>12}{'relative':>12}{'bound':>9}"
    lines = [
        f"{row.graph:<15}{row.output:<12}{notes.get(row.graph, ''):>12}"
        f"{row.max_error:>12.2e}{row.relative_error:>12.2e}{row.bound:>9.0e}"
        for row in differences
    ]
    return "\n".join((head, *lines))

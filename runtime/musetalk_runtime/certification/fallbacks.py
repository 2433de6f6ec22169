"""Variants of a plan, tried in turn until one passes."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from musetalk_runtime.core.accuracy import Difference, require
from musetalk_runtime.core.errors import PlanError


class Attempt(Protocol):
    """A plan that was built and certified, with success or without."""

    @property
    def certified(self) -> Sequence[Difference]: ...


Built = TypeVar("Built", bound=Attempt)


def first_passing(
    graph: str, variants: Sequence[str], attempt: Callable[[str], Built], progress: Callable[[str], None]
) -> Built:
    """The first of `variants` that `attempt` builds and that passes.

    If none does, raises what was wrong with the last one: PlanError, from `attempt`, or AccuracyError. Any other error
    that `attempt` raises ends the search: what stops one build stops them all.
    """
    last: Built | PlanError
    for variant in variants:
        try:
            last = attempt(variant)
        except PlanError as error:
            last = error
            progress(f"{graph}: {variant}: {error}")
            continue
        failed = [row for row in last.certified if not row.passed]
        if not failed:
            return last
        errors = ", ".join(f"{row.graph} {row.output} {row.relative_error:.1e} > {row.bound:.0e}" for row in failed)
        progress(f"{graph}: {variant}: off by {errors}")
    if isinstance(last, PlanError):
        raise last
    require(last.certified, f"the model set, in every variant ({', '.join(variants)})")
    raise AssertionError("unreachable: a failed row was required to pass")

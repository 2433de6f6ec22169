"""Trying variants until one passes."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from musetalk_runtime.accuracy import Difference, require


class Attempt(Protocol):
    """A plan that was built and judged."""

    @property
    def certified(self) -> Sequence[Difference]: ...


Built = TypeVar("Built", bound=Attempt)


def climb(
    graph: str, variants: Sequence[str], attempt: Callable[[str], Built], progress: Callable[[str], None]
) -> Built:
    """The first of `variants` that `attempt` builds and that passes; raises AccuracyError if none does.

    `attempt` may raise: then no other variant is tried, for what stops one build stops them all.
    """
    for variant in variants:
        built = attempt(variant)
        failed = [row for row in built.certified if not row.passed]
        if not failed:
            return built
        errors = ", ".join(f"{row.graph} {row.output} {row.relative_error:.1e} > {row.bound:.0e}" for row in failed)
        progress(f"{graph}: {variant}: off by {errors}")
    require(built.certified, f"the model set, in every variant ({', '.join(variants)})")
    raise AssertionError("unreachable: a failed row was required to pass")

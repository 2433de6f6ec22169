"""The medians of several runs."""

import statistics
from collections.abc import Sequence


def medians(runs: Sequence[dict[str, float]], digits: int = 2) -> dict[str, float]:
    """Of each figure of `runs`, which all have the same ones."""
    return {name: round(statistics.median(run[name] for run in runs), digits) for name in runs[0]}

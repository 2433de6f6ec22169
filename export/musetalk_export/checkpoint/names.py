"""Lists of names in error messages: the first few."""

from collections.abc import Iterable

MAX_LISTED = 3


def listed(names: Iterable[str]) -> str:
    """The first three of `names`, and dots where there are more."""
    found = list(names)
    return ", ".join([*found[:MAX_LISTED], *(["..."] if len(found) > MAX_LISTED else [])])

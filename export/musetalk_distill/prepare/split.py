"""Who is learnt from, and who is only looked at."""

import hashlib
from collections.abc import Iterable

BITS = 64


def chosen_for_val(names: Iterable[str], share: float) -> set[str]:
    """About `share` of `names`, by a hash of each: one that is chosen stays so as others come and go.

    Unless `share` is 0, at least one of two or more is chosen, and at least one is not.
    """
    ranked = sorted(set(names), key=lambda name: (_place(name), name))
    if share <= 0 or len(ranked) < 2:
        return set()
    count = sum(_place(name) < share for name in ranked)
    return set(ranked[: min(max(1, count), len(ranked) - 1)])


def _place(name: str) -> float:
    """A number in [0, 1) that depends on the name alone."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[: BITS // 8], "big") / (1 << BITS)

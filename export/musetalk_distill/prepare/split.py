"""The split of clips into training and validation, by speaker."""

import hashlib
from collections.abc import Iterable

from musetalk_distill.prepare.options import PrepareOptions
from musetalk_distill.prepare.prepared import Prepared
from musetalk_distill.shards.clip import ClipEntry

HASH_BITS = 64


def split_clips(usable: list[Prepared], options: PrepareOptions) -> tuple[list[tuple[ClipEntry, str]], list[str]]:
    """Every clip with its split and its file in the work folder, and warnings.

    Clips of one speaker are all in one split, unless there is no other speaker.
    """
    warnings = []
    speakers = {prepared.speaker for prepared in usable}
    val = chosen_for_val(speakers, options.val_share)
    if len(speakers) == 1 and options.val_share > 0:
        val = chosen_for_val((clip.id for prepared in usable for clip in prepared.clips), options.val_share)
        warnings.append(
            f"only one speaker ({usable[0].speaker}): {len(val)} of their clips are for validation, which says "
            "little about other faces"
        )
    entries = []
    for prepared in usable:
        for clip in prepared.clips:
            split = "val" if {prepared.speaker, clip.id} & val else "train"
            entries.append((ClipEntry(clip.id, prepared.speaker, split, clip.frames, options.rate), clip.file))
    return entries, warnings


def chosen_for_val(names: Iterable[str], share: float) -> set[str]:
    """About `share` of `names`, by a hash of each: one that is chosen stays so as others come and go.

    Unless `share` is 0, at least one of two or more is chosen, and at least one is not.
    """
    ranked = sorted(set(names), key=lambda name: (_hash_share(name), name))
    if share <= 0 or len(ranked) < 2:
        return set()
    count = sum(_hash_share(name) < share for name in ranked)
    return set(ranked[: min(max(1, count), len(ranked) - 1)])


def _hash_share(name: str) -> float:
    """A number in [0, 1) that depends on the name alone."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[: HASH_BITS // 8], "big") / (1 << HASH_BITS)

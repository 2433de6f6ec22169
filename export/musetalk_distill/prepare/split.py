"""The split of clips into training and validation, by speaker."""

import hashlib
from collections.abc import Iterable
from fractions import Fraction

from musetalk_distill.prepare.prepared import Prepared
from musetalk_distill.shards.clip import ClipEntry
from musetalk_runtime.core.errors import InvalidMedia

HASH_BITS = 64


def split_clips(
    usable: list[Prepared], val_share: float, rate: Fraction
) -> tuple[list[tuple[ClipEntry, str]], list[str]]:
    """Every clip with its split and its file in the work folder, and warnings.

    All clips of a speaker are in one split. Where annotations hold speakers out, "val" has these and no others; else
    `val_share` of the speakers, by a hash of the name. Raises InvalidMedia if the videos of one speaker contradict each
    other.
    """
    held_out = _held_out(usable)
    speakers = {prepared.speaker for prepared in usable}
    warnings = []
    if not held_out and val_share > 0 and len(speakers) == 1:
        warnings.append(
            f"only one speaker ({usable[0].speaker}): all clips are for training; to evaluate, add videos of another"
        )
    if held_out and held_out >= speakers:
        warnings.append(
            'every speaker is held out: all clips are for "distill-student evaluate", and none for training'
        )
    val = held_out or chosen_for_val(speakers, val_share)
    entries = []
    for prepared in usable:
        split = "val" if prepared.speaker in val else "train"
        entries += [
            (ClipEntry(clip.id, prepared.speaker, split, clip.frames, rate), clip.file) for clip in prepared.clips
        ]
    return entries, warnings


def _held_out(usable: list[Prepared]) -> set[str]:
    """The speakers whom annotations hold out, with all of their videos."""
    said: dict[str, dict[bool, str]] = {}
    for prepared in usable:
        if prepared.held_out is not None:
            said.setdefault(prepared.speaker, {})[prepared.held_out] = prepared.video
    for speaker, videos in said.items():
        if len(videos) > 1:
            raise InvalidMedia(
                f"{speaker} would be trained on and kept for validation: held_out is true of {videos[True]} and false "
                f"of {videos[False]}: say the same of all videos of one person"
            )
    return {speaker for speaker, videos in said.items() if True in videos}


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

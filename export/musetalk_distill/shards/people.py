"""The people a model was trained on: a file in its folder that holds the hashes of their names."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from musetalk_distill.shards.clip import Clip
from musetalk_runtime.core.errors import InvalidArgument, InvalidCheckpoint

FILE = "trained_on.json"
MAX_BYTES = 16 << 20  # of the file: some 200,000 people


def people_of(clips: Iterable[Clip]) -> set[str]:
    """The SHA-256 of each speaker's name: a model says so whom it knows only to those who know the name."""
    return {_hash(clip.speaker) for clip in clips}


def read_people(model: Path) -> set[str]:
    """Whom the model in the folder `model` was trained on, as people_of has them; nobody where that is not told.

    Raises InvalidCheckpoint for a damaged file.
    """
    file = model / FILE
    if not file.is_file():
        return set()
    try:
        if file.stat().st_size > MAX_BYTES:
            raise ValueError(f"{file.stat().st_size} bytes, expected at most {MAX_BYTES}")
        people = json.loads(file.read_text(encoding="utf-8"))["people"]
        if not all(isinstance(person, str) for person in people):
            raise ValueError("expected a list of hashes")
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise InvalidCheckpoint(f"{file}: cannot be read: {error}: train again, or delete it") from None
    return set(people)


def write_people(model: Path, people: Iterable[str]) -> None:
    """Note in the folder `model` whom it was trained on. Raises OSError."""
    (model / FILE).write_text(json.dumps({"people": sorted(people)}, indent=1) + "\n", encoding="utf-8")


def check_unmet(model: Path, clips: Iterable[Clip], shards: Path) -> None:
    """Raise InvalidArgument if `model` was trained on somebody in `clips`, those of `shards` to judge it by."""
    known = read_people(model)
    met = sorted({clip.speaker for clip in clips if _hash(clip.speaker) in known})
    if met:
        others = f" and {len(met) - 1} more" if met[1:] else ""
        raise InvalidArgument(
            f'{model} was trained on {met[0]}{others}, who is in "val" of {shards}: judge it by people it has not met'
        )


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()

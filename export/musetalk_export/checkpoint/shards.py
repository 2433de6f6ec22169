"""Shards: the weights of one model in several files, and the index that says which tensor lies in which of them."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from musetalk_export.checkpoint.config import read_config
from musetalk_export.checkpoint.names import MAX_LISTED, listed, printable
from musetalk_export.checkpoint.tensor_file import read_tensor_file
from musetalk_runtime.core.errors import InvalidCheckpoint

SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{1,9})-of-(?P<total>\d{1,9})\.safetensors")
MAX_SHARDS = 1000


def is_shard(file: Path) -> bool:
    """Whether `file` is named as one of several, ``STEM-00001-of-00003.safetensors``."""
    return SHARD.fullmatch(file.name) is not None


def indexed_shards(index: Path) -> tuple[Path, ...]:
    """The files that `index` names, as diffusers and transformers write it: they lie beside it.

    Raises InvalidCheckpoint if it is none, or names a file elsewhere or one that is not there.
    """
    return tuple(sorted({index.parent / name for name in _weight_map(index).values()}))


def read_indexed(index: Path) -> dict[str, Any]:
    """The tensors by name, each from the file where `index` says it is; others in these files are not looked at.

    Raises InvalidCheckpoint as `indexed_shards` and `read_tensor_file` do, or for a tensor that is not in its file.
    """
    places = _weight_map(index)
    weights: dict[str, Any] = {}
    for shard in sorted(set(places.values())):
        file = index.parent / shard
        found = _tensors(file)
        names = [name for name, place in places.items() if place == shard]
        if missing := [name for name in names if name not in found]:
            raise InvalidCheckpoint(
                f"{file}: {len(missing)} weights missing that {index.name} says it holds ({listed(missing)})"
            )
        weights |= {name: found[name] for name in names}
    return weights


def whole_set(files: Sequence[Path]) -> tuple[Path, ...]:
    """The `files` of a folder that are shards, once they are those of one set without an index, and all of them.

    Raises InvalidCheckpoint naming the sets, or the shards that are missing.
    """
    folder = files[0].parent
    matches = [found for file in files if (found := SHARD.fullmatch(file.name))]
    sets = sorted({(found["stem"], found["total"]) for found in matches})
    if len(sets) > 1:
        names = " and ".join(f"{stem}-*-of-{total}.safetensors" for stem, total in sets[:MAX_LISTED])
        raise InvalidCheckpoint(
            f"{folder}: shards of {len(sets)} sets and no index: {names}: leave one set, or put its .index.json there"
        )
    numbers, total = {int(found["number"]) for found in matches}, int(sets[0][1])
    if total > MAX_SHARDS:
        raise InvalidCheckpoint(f"{files[0]}: one of {total} shards, expected at most {MAX_SHARDS}")
    missing = sorted(set(range(1, total + 1)) - numbers)
    if missing or len(numbers) != total or len(matches) != total:
        raise InvalidCheckpoint(
            f"{folder}: of the {total} shards of {sets[0][0]} there are {len(matches)}, and number "
            f"{listed(map(str, missing)) or 'none'} is missing"
        )
    return tuple(files)


def read_whole_set(files: Sequence[Path]) -> dict[str, Any]:
    """The tensors by name of all `files`. Raises InvalidCheckpoint for one that is in two of them."""
    weights: dict[str, Any] = {}
    for file in files:
        found = _tensors(file)
        if twice := sorted(weights.keys() & found.keys()):
            raise InvalidCheckpoint(f"{file}: {len(twice)} weights are in another shard too ({listed(twice)})")
        weights |= found
    return weights


def _tensors(file: Path) -> dict[str, Any]:
    found = read_tensor_file(file)
    if not isinstance(found, dict):
        raise InvalidCheckpoint(f"{file}: expected names and tensors, found {type(found).__name__}")
    return found


def _weight_map(index: Path) -> dict[str, str]:
    """The file name of each tensor; every one is a plain name, so that nothing outside the folder is read."""
    places = read_config(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise InvalidCheckpoint(f"{index}: no index of shards: expected tensors and their files in weight_map")
    shards = set()
    for place in places.values():
        if not isinstance(place, str) or Path(place).name != place or place in (".", "..") or "\0" in place:
            raise InvalidCheckpoint(f"{index}: {printable(repr(place))} is no name of a file beside it")
        shards.add(place)
    if len(shards) > MAX_SHARDS:
        raise InvalidCheckpoint(f"{index}: {len(shards)} shards, expected at most {MAX_SHARDS}")
    if missing := sorted(name for name in shards if not (index.parent / name).exists()):
        raise InvalidCheckpoint(f"{index}: of its {len(shards)} shards {len(missing)} are missing ({listed(missing)})")
    return places

"""The files in a model's folder that are its weights: one file, or shards with or without an index.

The first of ``PATTERNS`` is taken, as diffusers and transformers take them. What Git LFS has left only a pointer of is
passed over where something else is there.
"""

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from musetalk_export.checkpoint.names import listed
from musetalk_export.checkpoint.regular_file import check_regular, is_lfs_pointer
from musetalk_export.checkpoint.shards import indexed_shards, is_shard, read_indexed, read_whole_set, whole_set
from musetalk_export.checkpoint.state_dict import OPENAI, Weights, state_dict
from musetalk_export.checkpoint.tensor_file import read_tensor_file
from musetalk_runtime.core.errors import InvalidCheckpoint

log = logging.getLogger(__name__)

INDEX = re.compile(r".+\.(safetensors|bin)\.index(\.[^.]+)?\.json")
SHARDS = "*-of-*.safetensors"
PATTERNS = (
    "diffusion_pytorch_model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors",
    "model.safetensors",
    "model.safetensors.index.json",
    "*.safetensors.index*.json",
    SHARDS,
    "unet.pth",
    "diffusion_pytorch_model.bin",
    "pytorch_model.bin",
    "*.bin.index*.json",
    "*.safetensors",
    "*.pth",
)
EXPECTED = "diffusion_pytorch_model.safetensors, model.safetensors, unet.pth, pytorch_model.bin, *.safetensors or *.pth"


@dataclass(frozen=True)
class WeightsFiles:
    """The weights of one model: one file, or shards, and the index of these if there is one."""

    files: tuple[Path, ...]
    index: Path | None = None

    @property
    def first(self) -> Path:
        """The file that an error is about when it could be any."""
        return self.files[0]

    @property
    def all(self) -> tuple[Path, ...]:
        """All that has to be copied."""
        return self.files if self.index is None else (self.index, *self.files)

    def read(self) -> Weights:
        """All tensors by name, however a trainer nested and wrapped them; see `state_dict`.

        Raises InvalidCheckpoint naming a file that is damaged, holds pickled code, or holds anything but tensors.
        """
        if self.index is not None:
            return state_dict(self.index, read_indexed(self.index))
        if len(self.files) > 1:
            return state_dict(self.first, read_whole_set(self.files))
        return state_dict(self.first, read_tensor_file(self.first))


def find_weights(folder: Path) -> WeightsFiles:
    """The weights in `folder`. Raises InvalidCheckpoint where there are none, or where it is not clear which."""
    pointers: list[Path] = []
    for found in _candidates(folder):
        pointer = next((file for file in found.all if is_lfs_pointer(file)), None)
        if pointer is None:
            for file in found.all:
                check_regular(file)
            if pointers:
                log.warning("%s is read: %s is only a Git LFS pointer", found.all[0], pointers[0].name)
            return found
        pointers.append(pointer)
    for pointer in pointers[:1]:
        check_regular(pointer)  # which says what to do
    raise InvalidCheckpoint(f"{folder}: no weights: {_what_is_there(folder)}expected {EXPECTED}")


def _candidates(folder: Path) -> Iterator[WeightsFiles]:
    seen: set[Path] = set()
    for pattern in PATTERNS:
        files = [file for file in sorted(folder.glob(pattern)) if file not in seen]
        if pattern != SHARDS:
            files = [file for file in files if not is_shard(file)]
        seen.update(files)
        if not files:
            continue
        if pattern == SHARDS:
            yield WeightsFiles(whole_set(files))
        elif len(files) > 1:
            names = ", ".join(file.name for file in files)
            raise InvalidCheckpoint(f"{folder}: {len(files)} files fit {pattern} ({names}): leave one")
        elif INDEX.fullmatch(files[0].name) and not is_lfs_pointer(files[0]):
            yield _indexed(files[0])
        else:
            yield WeightsFiles((files[0],))


def _indexed(index: Path) -> WeightsFiles:
    whole = index.with_name(index.name.partition(".index")[0])
    if whole.exists():
        log.warning("%s and its shards are read, and not %s", index, whole.name)
    return WeightsFiles(indexed_shards(index), index)


def _what_is_there(folder: Path) -> str:
    names = sorted(file.name for file in folder.iterdir() if file.suffix != ".json")
    if openai := [name for name in names if name.endswith(".pt")]:
        return f"{openai[0]} is {OPENAI}; " if folder.name == "whisper" else f"found {listed(names)}; "
    return f"found {listed(names)}; " if names else ""

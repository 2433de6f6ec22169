"""The tensors of clips in a safetensors file: each is named ``<clip id>.<field>``."""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from musetalk_distill.shards.clip import DTYPES, ClipTensors
from musetalk_runtime.core.errors import InvalidFolder


def read_tensors(file: Path, clip_id: str) -> ClipTensors:
    """The tensors of one clip out of the safetensors file `file`, mapped; raises InvalidFolder."""
    found = {}
    try:
        with safe_open(file, "pt") as shard:  # PyTorch maps the file; NumPy's way copies every tensor
            names = set(shard.keys())
            for field in DTYPES:
                if (name := f"{clip_id}.{field}") in names:
                    found[field] = shard.get_tensor(name).numpy()
        return ClipTensors(**found)
    except (SafetensorError, OSError, RuntimeError, TypeError) as error:
        raise InvalidFolder(f"{file}: clip {clip_id} cannot be read: {error}") from None


def named_tensors(clip_id: str, tensors: ClipTensors) -> dict[str, Any]:
    """The tensors that are there, by the names they have in a file, in C order: safetensors writes memory as is."""
    return {f"{clip_id}.{name}": np.ascontiguousarray(value) for name, value in tensors.items()}

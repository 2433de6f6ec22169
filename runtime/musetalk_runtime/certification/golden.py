"""Golden tensors: what the graphs of a model make of given inputs, as PyTorch computed it."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from musetalk_runtime.core.errors import InvalidFolder

GOLDEN = "golden.npz"  # in a model set, and in a bundle that is certified where it runs
MAX_GOLDEN_BYTES = 4 << 30  # unpacked


def read_golden(folder: Path) -> Mapping[str, npt.NDArray[Any]]:
    """The golden tensors in `folder`, FP32, by ``<graph>.<tensor>``, each read when looked up; raises InvalidFolder."""
    file = folder / GOLDEN
    try:
        with zipfile.ZipFile(file) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MAX_GOLDEN_BYTES:
            raise InvalidFolder(f"{file}: {size} bytes unpacked, expected at most {MAX_GOLDEN_BYTES}")
        return np.load(file, allow_pickle=False)  # type: ignore[no-any-return]
    except (zipfile.BadZipFile, ValueError) as error:
        raise InvalidFolder(f"{file}: not an archive of arrays: {error}") from None

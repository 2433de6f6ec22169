"""The project's CUDA kernels: their source, their cubin in a bundle, and how they are launched."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from musetalk_runtime.avatar.base_layer import CELL
from musetalk_runtime.core.errors import MachineError

COMPOSE_SOURCE = Path(__file__).with_name("compose.cu")
COMPOSE_CUBIN = "compose.cubin"
"""The file in a bundle that holds the kernels, compiled for its GPU."""

THREADS = 128  # a block
MATCH_BLOCKS, SUMS_BYTES = 32, 56  # an item; ``MATCH_BLOCKS`` and ``struct Sums`` of ``compose.cu``
THREAD_PIXELS = 16  # of two rows, that one thread composes
GATHER_BLOCKS = 16  # an item
MATCH_STEPS = ("match_colours", "match_levels", "match_details")  # after ``match``, in order
SUFFIXES = {np.dtype(np.float16): "half", np.dtype(np.float32): "float"}


def compose_cubin(arch: str) -> str:
    """The file in a bundle for several GPUs that holds the kernels for the compute capability `arch` (``sm_121``)."""
    return f"compose.{arch}.cubin"


def matched_bytes(side: int) -> int:
    """What one face of `side` pixels takes once it is matched: ``struct Matched`` of ``compose.cu``."""
    return 2 * MATCH_BLOCKS * SUMS_BYTES + (6 * side * side + 3 * (side // CELL) ** 2 + 4) * 4


class Kernels:
    """The gather, match and compose kernels of ``compose.cu``, compiled for this GPU."""

    def __init__(self, cubin: Path) -> None:
        """Load `cubin` in the current context; raises MachineError where it is for another GPU, or lacks a kernel."""
        from cuda.core import ObjectCode

        names = [f"{name}_{suffix}" for name in ("gather", "match") for suffix in SUFFIXES.values()]
        try:
            code = ObjectCode.from_cubin(cubin.read_bytes())
            self._kernels = {name: code.get_kernel(name) for name in (*names, *MATCH_STEPS, "compose")}
        except Exception as error:  # cuda.core's errors have no public base
            reason = str(error).splitlines()[0]
            raise MachineError(
                f"{cubin}: it is for another GPU, or of an earlier version ({reason}): run build-engines here"
            ) from None

    def gather(
        self,
        stream: Any,
        items: int,
        count: int,
        latents: int,
        tokens: int,
        sizes: tuple[int, int],
        dtype: npt.DTypeLike,
    ) -> None:
        """Enqueue: the latents and tokens of `count` items, `sizes` elements each, into rows of the UNet's inputs.

        `items`, `latents` and `tokens` are device addresses, the last two of arrays of `dtype`.
        """
        arguments = (latents, tokens, np.int32(sizes[0]), np.int32(sizes[1]))
        self._launch(stream, f"gather_{_suffix(dtype)}", (GATHER_BLOCKS, count), items, *arguments)

    def match(
        self, stream: Any, items: int, count: int, faces: int, matched: int, side: int, dtype: npt.DTypeLike
    ) -> None:
        """Enqueue: the `faces` of `count` items, matched with their frames, into rows of `matched`.

        `faces` are RGB ``[N, 3, side, side]`` of `dtype`, in [0, 1]; `matched` has `matched_bytes` for each.
        """
        grid, rest = (MATCH_BLOCKS, count), (matched, np.int32(side))
        self._launch(stream, f"match_{_suffix(dtype)}", grid, items, faces, *rest)
        for name in MATCH_STEPS:
            self._launch(stream, name, grid, items, *rest)

    def compose(self, stream: Any, items: int, count: int, matched: int, side: int, frame: tuple[int, int]) -> None:
        """Enqueue: `count` items' frames, of `frame` (width, height) pixels, with the faces that `match` has made."""
        width, height = frame
        blocks = -(-(-(-width // THREAD_PIXELS) * (height // 2)) // THREADS)
        arguments = (matched, np.int32(side), np.int32(width), np.int32(height))
        self._launch(stream, "compose", (blocks, count), items, *arguments)

    def _launch(self, stream: Any, name: str, grid: tuple[int, int], *arguments: Any) -> None:
        from cuda.core import LaunchConfig, launch

        launch(stream, LaunchConfig(grid=grid, block=THREADS), self._kernels[name], *arguments)


def _suffix(dtype: npt.DTypeLike) -> str:
    found = np.dtype(dtype)
    if found not in SUFFIXES:
        raise MachineError(f"the plans compute in {found}, the kernels take {', '.join(map(str, SUFFIXES))}")
    return SUFFIXES[found]

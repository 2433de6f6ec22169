"""NumPy array types, by what they hold."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Bytes: TypeAlias = npt.NDArray[np.uint8]
"""Pixels or other bytes."""
NV12: TypeAlias = npt.NDArray[np.uint8]
"""A frame ``[H * 3 / 2, W]``: luma, then chroma at half the resolution, U and V in turn."""
RGB: TypeAlias = npt.NDArray[np.uint8]
"""A picture ``[H, W, 3]``."""
Floats: TypeAlias = npt.NDArray[np.float32]
Doubles: TypeAlias = npt.NDArray[np.float64]
Indices: TypeAlias = npt.NDArray[np.int64]

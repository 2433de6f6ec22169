"""What is added up about one model over the clips."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from musetalk_distill.evaluate.lips import Floats, follow
from musetalk_distill.evaluate.quality import psnr, ssim
from musetalk_distill.train.tasks.decode import mouth


class Likeness:
    """PSNR of the mean squared error over all mouths, and their mean SSIM."""

    def __init__(self) -> None:
        self._error, self._ssim, self._frames = 0.0, 0.0, 0

    def add(self, found: Tensor, expected: Tensor) -> None:
        """Compare the mouths of pictures ``[N, 3, I, I]`` in [0, 1]."""
        found, expected = mouth(found).double(), mouth(expected).double()
        self._error += float((found - expected).square().mean(dim=(1, 2, 3)).sum())
        self._ssim += float(ssim(found, expected).sum())
        self._frames += len(found)

    def to_json(self) -> dict[str, Any] | None:
        """``psnr`` in dB and ``ssim``, or None if nothing was compared."""
        if not self._frames:
            return None
        return {"psnr": round(psnr(self._error / self._frames), 3), "ssim": round(self._ssim / self._frames, 5)}


class Scores:
    """Likeness to the truth and to the teacher, and the lips' openings against what is known of them."""

    def __init__(self) -> None:
        self.truth, self.teacher = Likeness(), Likeness()
        self._openings: list[tuple[Floats, Floats]] = []

    def add_openings(self, measured: list[Floats], known: Floats) -> None:
        """Note a clip's openings, as measured in the pictures of its batches, and as known."""
        self._openings.append((np.concatenate(measured), known))

    def to_json(self) -> dict[str, Any]:
        lips = follow(self._openings)
        return {
            "truth": self.truth.to_json(),
            "teacher": self.teacher.to_json(),
            "lips": None if lips is None else {
                "correlation": round(lips.correlation, 4), "lag": lips.lag, "unlagged": round(lips.unlagged, 4)
            },
        }  # fmt: skip


def to_pictures(images: Any, device: torch.device) -> Tensor:
    """Stored pictures, uint8 ``[K, 3, I, I]``, as FP32 in [0, 1]."""
    return torch.from_numpy(np.array(images)).to(device).float() / 255

"""The scores of one model over the clips: PSNR, SSIM, flicker, and how its lips follow the known openings."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from musetalk_distill.evaluate.flicker import Flicker, Place
from musetalk_distill.evaluate.lips import Floats, lip_correlation
from musetalk_distill.train.tasks.latent_decoder import mouth

MAX_PSNR = 100.0  # dB: what identical pictures get, since JSON has no infinity
WINDOW, SIGMA = 11, 1.5  # pixels of SSIM's Gaussian window
C1, C2 = 0.01**2, 0.03**2  # SSIM's constants, for pictures in [0, 1]


class Likeness:
    """PSNR of the mean squared error over all mouths, their mean SSIM, and their flicker."""

    def __init__(self) -> None:
        self._flicker = Flicker()
        self._error, self._ssim, self._frames = 0.0, 0.0, 0

    def add(self, found: Tensor, expected: Tensor) -> None:
        """Compare the mouths of pictures ``[N, 3, I, I]`` in [0, 1]."""
        found, expected = mouth(found).double(), mouth(expected).double()
        self._error += float((found - expected).square().mean(dim=(1, 2, 3)).sum())
        self._ssim += float(ssim(found, expected).sum())
        self._frames += len(found)

    def add_motion(self, found: Tensor, expected: Tensor, places: Sequence[Place]) -> None:
        """Compare how the mouths of pictures ``[N, 3, I, I]`` in [0, 1] change from frame to frame."""
        self._flicker.add(found, expected, places)

    def to_json(self) -> dict[str, Any] | None:
        """``psnr`` in dB, ``ssim``, and ``flicker`` in levels of 255 (None without neighbours), or None if nothing was
        compared."""
        if not self._frames:
            return None
        flicker = self._flicker.value
        return {
            "psnr": round(psnr(self._error / self._frames), 3),
            "ssim": round(self._ssim / self._frames, 5),
            "flicker": None if flicker is None else round(flicker, 4),
        }


class Scores:
    """Likeness to the truth, to the teacher and to the VAE's decoder, and the lips' openings against what is known."""

    def __init__(self) -> None:
        self.truth, self.teacher, self.vae = Likeness(), Likeness(), Likeness()
        self._openings: list[tuple[Floats, Floats]] = []

    def add_openings(self, measured: list[Floats], known: Floats) -> None:
        """Note a clip's openings, as measured in the pictures of its batches, and as known."""
        self._openings.append((np.concatenate(measured), known))

    def to_json(self) -> dict[str, Any]:
        lips = lip_correlation(self._openings)
        return {
            "truth": self.truth.to_json(),
            "teacher": self.teacher.to_json(),
            "vae": self.vae.to_json(),
            "lips": None if lips is None else lips.to_json(),
        }


def psnr(mean_squared_error: float) -> float:
    """Peak signal-to-noise ratio in dB of pictures in [0, 1]: ``-10 log10(error)``, at most 100."""
    return MAX_PSNR if mean_squared_error <= 0 else min(MAX_PSNR, -10 * math.log10(mean_squared_error))


def ssim(found: Tensor, expected: Tensor) -> Tensor:
    """Structural similarity ``[N]`` of pictures ``[N, 3, H, W]`` in [0, 1], each side at least 11 pixels.

    Wang et al., "Image quality assessment: from error visibility to structural similarity" (2004): a Gaussian window
    of 11x11 and deviation 1.5, K1 = 0.01, K2 = 0.03; the mean over channels and all windows that lie inside.
    """
    stacked = torch.cat([found, expected, found * found, expected * expected, found * expected])
    mean1, mean2, square1, square2, product = _blur(stacked.double()).chunk(5)
    variance1, variance2 = square1 - mean1**2, square2 - mean2**2
    covariance = product - mean1 * mean2
    similar = (2 * mean1 * mean2 + C1) * (2 * covariance + C2)
    similar = similar / ((mean1**2 + mean2**2 + C1) * (variance1 + variance2 + C2))
    return similar.mean(dim=(1, 2, 3))


def to_pictures(images: Any, device: torch.device) -> Tensor:
    """Stored pictures, uint8 ``[K, 3, I, I]``, as FP32 in [0, 1]."""
    return torch.from_numpy(np.array(images)).to(device).float() / 255


def _blur(x: Tensor) -> Tensor:
    offset = torch.arange(WINDOW, device=x.device, dtype=x.dtype) - WINDOW // 2
    weights = torch.exp(-(offset**2) / (2 * SIGMA**2))
    weights = (weights / weights.sum()).expand(x.shape[1], 1, 1, WINDOW)
    rows = conv2d(x, weights, groups=x.shape[1])
    return conv2d(rows, weights.transpose(2, 3), groups=x.shape[1])

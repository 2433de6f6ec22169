"""How near pictures come to others: PSNR and SSIM."""

import math

import torch
from torch import Tensor
from torch.nn.functional import conv2d

CEILING = 100.0  # dB: what identical pictures get, since JSON has no infinity
WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2


def psnr(mean_squared_error: float) -> float:
    """Peak signal-to-noise ratio in dB of pictures in [0, 1]: ``-10 log10(error)``, at most 100."""
    return CEILING if mean_squared_error <= 0 else min(CEILING, -10 * math.log10(mean_squared_error))


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


def _blur(x: Tensor) -> Tensor:
    offset = torch.arange(WINDOW, device=x.device, dtype=x.dtype) - WINDOW // 2
    weights = torch.exp(-(offset**2) / (2 * SIGMA**2))
    weights = (weights / weights.sum()).expand(x.shape[1], 1, 1, WINDOW)
    rows = conv2d(x, weights, groups=x.shape[1])
    return conv2d(rows, weights.transpose(2, 3), groups=x.shape[1])

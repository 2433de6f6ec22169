"""The opening of the lips, measured in pictures, and its correlation with known openings."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Floats = npt.NDArray[np.floating]

# Rows and columns of a face, as shares of its size: where the mouth is, and where most of it is skin.
MOUTH_REGION = (0.6, 0.92), (0.4, 0.6)
SKIN_REGION = (0.5, 0.8), (0.2, 0.8)
MAX_BRIGHTNESS = 0.45  # of the inside of the mouth, as a share of the skin's
MAX_SATURATION = 0.63  # of teeth, as a share of the skin's
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
MAX_LAG = 12  # frames
MIN_FRAMES = 12  # of a clip that remain at a lag; with fewer it does not count there


@dataclass(frozen=True)
class LipCorrelation:
    """``correlation`` is the one at lag 0, which forgives no lateness. ``best_correlation`` is the highest at any lag,
    and ``best_lag`` that lag in frames (positive: the picture is late)."""

    correlation: float
    best_correlation: float
    best_lag: int

    def to_json(self, digits: int = 4) -> dict[str, float | int]:
        """The same, rounded to `digits`."""
        return {name: round(value, digits) for name, value in asdict(self).items()}


def lip_opening(images: Tensor) -> Floats:
    """How open the mouths of ``images [N, 3, I, I]`` in [0, 1] are, ``[N]``: from upper to lower lip, in faces.

    Looked at are a fifth of the columns in the middle of the face, from the nose to a little above the chin. What is
    much darker than the skin is the inside of the mouth, and what has much less colour is teeth; lips and tongue are
    neither. Each column counts from its first such pixel to its last; the mean over columns is the opening. The skin's
    brightness and saturation (1 - min / max of R, G, B) are the medians of the face's middle below the eyes.
    """
    size = images.shape[2]
    skin, mouth = (_tone(_cut(images, *where)) for where in (SKIN_REGION, MOUTH_REGION))
    limits = [tone.flatten(1).median(dim=1).values[:, None, None] for tone in skin]
    inside = (mouth[0] < MAX_BRIGHTNESS * limits[0]) | (mouth[1] < MAX_SATURATION * limits[1])
    height = inside.shape[1]
    row = torch.arange(height, device=images.device)[:, None]
    first = torch.where(inside, row, height).amin(dim=1)
    last = torch.where(inside, row, -1).amax(dim=1)
    result: Floats = ((last - first + 1).clamp_min(0).float().mean(dim=1) / size).cpu().numpy()
    return result


def lip_correlation(pairs: Iterable[tuple[Floats, Floats]]) -> LipCorrelation | None:
    """How the measured openings follow the known ones; a pair ``[F], [F]`` a clip. None if nothing moves.

    Pearson's correlation of ``measured[t + lag]`` with ``known[t]``, pooled over clips after taking each one's means
    away, for lags of -12 to 12 frames. A clip counts at a lag where at least 12 of its frames remain.
    """
    clips = list(pairs)
    found = {lag: _correlation(clips, lag) for lag in range(-MAX_LAG, MAX_LAG + 1)}
    known = {lag: value for lag, value in found.items() if value is not None}
    if 0 not in known:
        return None
    best = max(known, key=lambda lag: (known[lag], -abs(lag)))
    return LipCorrelation(known[0], known[best], best)


def _correlation(clips: list[tuple[Floats, Floats]], lag: int) -> float | None:
    products = np.zeros(3)
    for measured, known in clips:
        length = len(measured)
        if length - abs(lag) < MIN_FRAMES:
            continue
        x = measured[max(0, lag) : length + min(0, lag)].astype(np.float64)
        y = known[max(0, -lag) : length - max(0, lag)].astype(np.float64)
        x, y = x - x.mean(), y - y.mean()
        products += (x @ y, x @ x, y @ y)
    both = products[1] * products[2]
    return None if both <= 0 else float(products[0] / np.sqrt(both))


def _cut(images: Tensor, rows: tuple[float, float], columns: tuple[float, float]) -> Tensor:
    height, width = (
        slice(round(low * images.shape[2]), round(high * images.shape[2])) for low, high in (rows, columns)
    )
    return images[:, :, height, width].float()


def _tone(images: Tensor) -> tuple[Tensor, Tensor]:
    """Brightness and saturation, ``[N, h, w]`` each."""
    luma = (images * images.new_tensor(LUMA)[:, None, None]).sum(dim=1)
    return luma, 1 - images.amin(dim=1) / images.amax(dim=1).clamp_min(1e-3)

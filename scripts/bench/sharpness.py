#!/usr/bin/env python3
"""How sharp a face is after composition, and whether what composition adds does harm: no trained weights are needed.

    PYTHONPATH=runtime python scripts/bench/sharpness.py AVATAR [--frames 40]

Prints JSON. The generator is played by the avatar itself: a picture whose truth is known at full size is taken down to
the model's size, as the VAE's input is, and composed again.

`perfect` is the frame's own face. Of the others, the truth is painted into the frame: `other_mouth` (of the frame
half an avatar later), `lowered_jaw` (by 3% of the box) and, where the truth is the frame, `darker` (5%) and `noisy`
(each face 2% brighter or darker, at random). Each is composed by the linear kernel (`linear`), which was the way before
detail transfer, by Lanczos's (`lanczos`), without the detail (`off`), and with it (`auto`).

By region, of luma: `energy` (of the gradient, as a share of the truth's), `ssim` and `psnr`. `mouth` is where the mouth
may be; `teeth` what is bright and colourless there; `skin` the rest of what the mask shows in full. `seam` is the mean
difference to the truth on the mask's faint edge, in levels. `overshoot` is how far luma passes the truth's extremes
around a pixel, in levels: the 99.9th percentile and the greatest. `flicker` is the mean change from frame to frame, as
a share of the truth's.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from musetalk_runtime.avatar.crop import crop_face
from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.backends.ort.compose import compose

MOUTH, MOUTH_RADII = (0.5, 0.76), (0.2, 0.12)  # of the box
WAYS = ("linear", "lanczos", "off", "auto")
Image = NDArray[Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("avatar", type=Path)
    parser.add_argument("--frames", type=int, default=40, help="consecutive ones (default: 40)")
    args = parser.parse_args()
    with Avatar.open(args.avatar) as avatar:
        shots = [Shot.of(avatar, index) for index in range(min(args.frames, len(avatar)))]
        box = avatar.boxes[0].tolist()
        report: dict[str, Any] = {
            "frames": len(shots),
            "box": [box[2] - box[0], box[3] - box[1]],
            "image_size": avatar.image_size,
        }
        for name, truth in TRUTHS.items():
            scores = {way: Score() for way in WAYS}
            for shot in shots:
                true, face = truth(shot)
                for way, score in scores.items():
                    score.add(shot, true, composed(shot, face, way))
            report[name] = {way: score.to_json() for way, score in scores.items()}
    print(json.dumps(report, indent=1))


@dataclass
class Shot:
    """A frame of the avatar: its luma over the box ``[h, w]``, and what is shown of the face there."""

    avatar: Avatar
    index: int
    box: tuple[int, int, int, int]
    rgb: Image
    mask: Image
    mouth: Image
    regions: dict[str, Image]

    @classmethod
    def of(cls, avatar: Avatar, index: int) -> "Shot":
        box = tuple(avatar.boxes[index].tolist())
        frame = avatar.frame(index)
        rgb = to_rgb(frame)
        x0, y0, x1, y1 = box
        width, height = x1 - x0, y1 - y0
        mask = cv2.resize(avatar.masks[index], (width, height))
        y, x = np.mgrid[0:height, 0:width]
        away = np.hypot((x / width - MOUTH[0]) / MOUTH_RADII[0], (y / height - MOUTH[1]) / MOUTH_RADII[1])
        inside, face = away < 1, rgb[y0:y1, x0:x1]
        skin = (mask > 250) & (away > 1.1)
        colour = face.max(axis=2) - face.min(axis=2)
        bright = face.mean(axis=2) > 0.7 * face[skin].mean()
        teeth = inside & bright & (colour < 0.6 * np.median(colour[skin]))
        teeth = cv2.erode(teeth.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        feathered = np.clip((1.15 - away) / 0.3, 0, 1)
        return cls(avatar, index, box, rgb, mask, feathered, {"skin": skin, "mouth": inside, "teeth": teeth})

    def over_box(self, luma: Image) -> Image:
        x0, y0, x1, y1 = self.box
        return luma[y0:y1, x0:x1].astype(np.float64)


def to_rgb(frame: Image) -> Image:
    """RGB ``[H, W, 3]`` of NV12 (BT.709, limited range), not rounded: a converter's own noise would be measured too."""
    height, width = frame.shape[0] * 2 // 3, frame.shape[1]
    chroma = frame[height:].reshape(height // 2, width // 2, 2).astype(np.float32) - 128
    u, v = (cv2.resize(chroma[..., k], (width, height), interpolation=cv2.INTER_LINEAR) * 255 / 224 for k in (0, 1))
    y = (frame[:height].astype(np.float32) - 16) * 255 / 219
    return np.dstack([y + 1.5748 * v, y - 0.1873 * u - 0.4681 * v, y + 1.8556 * u])


def luma_of(rgb: Image) -> Image:
    return 16 + rgb.astype(np.float64) @ np.array([0.2126, 0.7152, 0.0722]) * 219 / 255


def perfect(shot: Shot) -> tuple[Image, Image]:
    return own_luma(shot), generated(shot, shot.rgb)


def generated(shot: Shot, rgb: Image, gain: float = 1.0) -> Image:
    """What a perfect generator makes of the face in `rgb`, in 8 bits."""
    channels = [crop_face(np.ascontiguousarray(rgb[..., k]), shot.box, shot.avatar.image_size) for k in range(3)]
    return np.clip(np.rint(np.dstack(channels) * gain), 0, 255).astype(np.uint8)


def darker(shot: Shot) -> tuple[Image, Image]:
    return own_luma(shot), generated(shot, shot.rgb, 0.95)


def noisy(shot: Shot) -> tuple[Image, Image]:
    gain = np.random.default_rng(shot.index).uniform(0.98, 1.02)
    return own_luma(shot), generated(shot, shot.rgb, gain)


def other_mouth(shot: Shot) -> tuple[Image, Image]:
    other = Shot.of(shot.avatar, (shot.index + len(shot.avatar) // 2) % len(shot.avatar))
    x0, y0, x1, y1 = other.box
    theirs = cv2.resize(other.rgb[y0:y1, x0:x1], shot.mask.shape[::-1], interpolation=cv2.INTER_CUBIC)
    return painted(shot, theirs, shot.mouth)


def lowered_jaw(shot: Shot) -> tuple[Image, Image]:
    x0, y0, x1, y1 = shot.box
    height, width = shot.mask.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    down = 0.03 * height * np.clip((y / height - 0.7) / 0.1, 0, 1) * np.clip((1 - y / height) / 0.1, 0, 1)
    moved = cv2.remap(shot.rgb[y0:y1, x0:x1], x, (y - down).astype(np.float32), cv2.INTER_CUBIC)
    return painted(shot, moved, np.ones(shot.mask.shape))


def painted(shot: Shot, face: Image, share: Image) -> tuple[Image, Image]:
    """The truth where `share` of `face` is painted over the shot's box, and what a perfect generator makes of it."""
    x0, y0, x1, y1 = shot.box
    rgb = shot.rgb.copy()
    under = rgb[y0:y1, x0:x1]
    rgb[y0:y1, x0:x1] = under + (face - under) * share[..., None].astype(np.float32)
    change = luma_of(rgb) - luma_of(shot.rgb)
    opacity = np.zeros(change.shape)
    opacity[y0:y1, x0:x1] = shot.mask / 255
    return own_luma(shot) + change * opacity, generated(shot, rgb)


TRUTHS: dict[str, Callable[[Shot], tuple[Image, Image]]] = {
    "perfect": perfect, "other_mouth": other_mouth, "lowered_jaw": lowered_jaw, "darker": darker, "noisy": noisy,
}  # fmt: skip


def own_luma(shot: Shot) -> Image:
    return shot.avatar.frame(shot.index)[: shot.avatar.height].astype(np.float64)


def composed(shot: Shot, face: Image, way: str) -> Image:
    """The luma of the frame with `face` on it."""
    own = shot.avatar.frame(shot.index)
    if way in ("off", "auto"):
        frame = own.copy()
        base = shot.avatar.base(shot.index) if way == "auto" else None
        compose(frame, face, shot.avatar.masks[shot.index], shot.box, 1.0, base)
        return frame[: shot.avatar.height].astype(np.float64)
    kernel = {"linear": cv2.INTER_LINEAR, "lanczos": cv2.INTER_LANCZOS4}[way]
    stretched = cv2.resize(luma_of(face).astype(np.float32), shot.mask.shape[::-1], interpolation=kernel)
    luma = own_luma(shot)
    x0, y0, x1, y1 = shot.box
    luma[y0:y1, x0:x1] += (stretched - luma[y0:y1, x0:x1]) * (shot.mask / 255)
    return np.rint(luma)


@dataclass
class Score:
    """What came of the frames that were added, one after another."""

    energies: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    ssims: dict[str, list[float]] = field(default_factory=dict)
    errors: dict[str, list[float]] = field(default_factory=dict)
    seams: list[float] = field(default_factory=list)
    overshoots: list[Image] = field(default_factory=list)
    changes: list[tuple[float, float]] = field(default_factory=list)
    last: tuple[Image, Image] | None = None

    def add(self, shot: Shot, true: Image, found: Image) -> None:
        true, found = shot.over_box(true), shot.over_box(found)
        similar = ssim(true, found)
        for name, region in shot.regions.items():
            if region.sum() < 50:
                continue
            self.energies.setdefault(name, []).append((energy(found, region), energy(true, region)))
            self.ssims.setdefault(name, []).append(float(similar[region].mean()))
            self.errors.setdefault(name, []).append(float(((true - found)[region] ** 2).mean()))
        edge = (shot.mask > 0) & (shot.mask < 128)
        self.seams.append(float((found - true)[edge].mean()))
        shown = shot.mask > 250
        around = np.ones((5, 5), np.uint8)
        beyond = np.maximum(found - cv2.dilate(true, around), cv2.erode(true, around) - found)
        self.overshoots.append(np.clip(beyond[shown], 0, None))
        if self.last is not None and self.last[0].shape == true.shape:
            self.changes.append((change(self.last[0], true, shown), change(self.last[1], found, shown)))
        self.last = true, found

    def to_json(self) -> dict[str, Any]:
        beyond = np.concatenate(self.overshoots)
        return {
            **{name: self._region(name) for name in self.energies},
            "seam": round(float(np.mean(self.seams)), 3),
            "overshoot": [round(float(np.quantile(beyond, 0.999)), 2), round(float(beyond.max()), 2)],
            "flicker": round(sum(b for _, b in self.changes) / max(sum(a for a, _ in self.changes), 1e-9), 3),
        }

    def _region(self, name: str) -> dict[str, float]:
        found, true = np.sum(self.energies[name], axis=0)
        return {
            "energy": round(float(found / true), 3),
            "ssim": round(float(np.mean(self.ssims[name])), 4),
            "psnr": round(float(10 * np.log10(255**2 / max(float(np.mean(self.errors[name])), 1e-9))), 2),
        }


def energy(luma: Image, region: Image) -> float:
    down, right = np.diff(luma, axis=0)[:, :-1], np.diff(luma, axis=1)[:-1]
    return float((down**2 + right**2)[region[:-1, :-1]].sum())


def change(before: Image, after: Image, region: Image) -> float:
    return float(np.abs(after - before)[region].mean())


def ssim(a: Image, b: Image) -> Image:
    """Structural similarity by pixel, with the Gaussian window of Wang et al. (2004)."""
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    blur = lambda image: cv2.GaussianBlur(image, (11, 11), 1.5)  # noqa: E731
    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b, both = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2, blur(a * b) - mean_a * mean_b
    similar = (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return np.asarray(similar)


if __name__ == "__main__":
    main()

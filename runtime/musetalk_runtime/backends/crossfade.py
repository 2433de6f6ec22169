"""Crossfades: two frames of an avatar, each with the same mouth in step, blended on the CPU."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2

from musetalk_runtime.backends.interface import (
    ALL,
    FrameRequest,
    NewFrame,
    OnGpu,
    Renderer,
    Rendering,
    empty_frame,
)
from musetalk_runtime.core.arrays import NV12, Bytes

if TYPE_CHECKING:
    from musetalk_runtime.backends.cuda.device_frame import DeviceFrame


class CrossfadeRenderer:
    """Has `renderer` make both frames of those that fade, and blends them in memory of `new_frame`. See ``Renderer``.

    The two are generated from the same tokens. A batch in which nothing fades is `renderer`'s alone.
    """

    def __init__(self, renderer: Renderer, new_frame: NewFrame) -> None:
        self._renderer, self._new_frame = renderer, new_frame

    def render(self, batch: Sequence[FrameRequest]) -> Rendering:
        over = [replace(request, shown=request.into, into=None) for request in batch if request.into is not None]
        if not over:
            return self._renderer.render(batch)
        under = [replace(request, into=None) for request in batch]
        shares = [None if request.into is None else request.share for request in batch]
        made = self._renderer.render(under), self._renderer.render(over)
        if isinstance(made[0], OnGpu) and isinstance(made[1], OnGpu):
            return CrossfadeOnGpu(*made, shares, self._new_frame)
        return Crossfade(*made, shares, self._new_frame)

    def close(self) -> None:
        self._renderer.close()


class Crossfade:
    """The frames of `under`, those that have one of `shares` with that much of the next of `over` on it.

    See ``Rendering``.
    """

    def __init__(self, under: Rendering, over: Rendering, shares: Sequence[float | None], new_frame: NewFrame) -> None:
        self._under, self._over = under, over
        self._shares, self._new_frame = shares, new_frame

    def wait(self, rows: slice = ALL) -> list[Bytes]:
        over = iter(self._over.wait())
        frames = [
            frame if share is None else blended(frame, next(over), share, self._new_frame)
            for frame, share in zip(self._under.wait(), self._shares, strict=True)
        ]
        return frames[rows]

    def finish(self) -> None:
        self._under.finish()
        self._over.finish()


class CrossfadeOnGpu(Crossfade):
    """As ``Crossfade``; frames that stay on the GPU are not blended: of two, it is the one that shows more."""

    _under: OnGpu
    _over: OnGpu

    def arrays(self) -> list["DeviceFrame"]:
        over = iter(self._over.arrays())
        return [
            frame if share is None else (frame, next(over))[share >= 0.5]
            for frame, share in zip(self._under.arrays(), self._shares, strict=True)
        ]

    def release(self) -> None:
        self._under.release()
        self._over.release()


def own_frame(request: FrameRequest) -> NV12:
    """What `request` is without a mouth: the avatar's own frame, or two of them blended. Perhaps read-only."""
    frame = request.avatar.frame(request.shown)
    if request.into is None:
        return frame
    return blended(frame, request.avatar.frame(request.into), request.share, empty_frame)


def own_alpha(request: FrameRequest) -> Bytes | None:
    """The alpha of `request` ``[H, W]``, that of two frames blended; None for an avatar without transparency."""
    alpha = request.avatar.alpha(request.shown)
    over = None if request.into is None else request.avatar.alpha(request.into)
    return alpha if alpha is None or over is None else blended(alpha, over, request.share, empty_frame)


def blended(under: Bytes, over: Bytes, share: float, new_frame: NewFrame) -> Bytes:
    """`under` with a `share` of `over`, in [0, 1], on it."""
    frame = new_frame((under.shape[0], under.shape[1]))
    cv2.addWeighted(under, 1 - share, over, share, 0, dst=frame)
    return frame

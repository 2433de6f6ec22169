"""A renderer that makes a share of a session's frames, and repeats the picture before in the others."""

from collections.abc import Callable, Sequence
from fractions import Fraction

from musetalk_runtime.backends.interface import ALL, FrameRequest, Renderer, Rendering
from musetalk_runtime.core.arrays import Bytes


class RepeatingRenderer:
    """Has `renderer` make what `share()`, in (0, 1], tells of the frames, evenly. See ``Renderer``.

    A picture that is repeated costs next to nothing, also in the encoder, and the stream keeps its frame rate. One with
    the mouth open is not repeated where that is closed: the avatar's own frame, which is made then, needs no engine.
    """

    def __init__(self, renderer: Renderer, share: Callable[[], Fraction]) -> None:
        self.last: Bytes | None = None  # the picture to repeat, where the frames before were not all made
        self._renderer, self._share = renderer, share
        self._repeats = False
        self._opened = False  # the mouth, in the last frame that was made

    def render(self, batch: Sequence[FrameRequest]) -> Rendering:
        share = self._share()
        first = not self._repeats  # there is no picture to repeat yet
        self._repeats = share < 1
        if not self._repeats:
            return self._renderer.render(batch)
        made = [self._is_made(request, share, first and place == 0) for place, request in enumerate(batch)]
        wanted = [request for request, wants in zip(batch, made, strict=True) if wants]
        return RepeatedFrames(self, self._renderer.render(wanted) if wanted else None, made)

    def close(self) -> None:
        self._renderer.close()

    def _is_made(self, request: FrameRequest, share: Fraction, first: bool) -> bool:
        opens = request.speech.weight > 0
        made = first or is_made(request.speech.index, share) or (self._opened and not opens)
        if made:
            self._opened = opens
        return made


class RepeatedFrames:
    """The frames of a batch, some of which repeat the one before. See ``Rendering``; batches are waited for in order.

    `made` tells for each frame whether it is one of `rendering`, which is None where none is.
    """

    def __init__(self, owner: RepeatingRenderer, rendering: Rendering | None, made: Sequence[bool]) -> None:
        self._owner, self._rendering, self._made = owner, rendering, made

    def wait(self, rows: slice = ALL) -> list[Bytes]:
        pictures = iter(self._rendering.wait() if self._rendering else [])
        shown, last = [], self._owner.last
        for made in self._made:
            last = next(pictures) if made else last
            assert last is not None  # noqa: S101 - the first frame that is followed by a repeated one is made
            shown.append(last)
        if any(self._made):
            self._owner.last = shown[-1].copy()  # what it is a part of may be used for other frames
        return shown[rows]

    def finish(self) -> None:
        if self._rendering:
            self._rendering.finish()


def is_made(index: int, share: Fraction) -> bool:
    """Whether the frame `index` is one of the `share` that is made."""
    return int((index + 1) * share) > int(index * share)

"""Renderers that take turns, so that the batch of one can use what that of another leaves of the machine."""

from collections.abc import Callable, Sequence

from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.backends.interface import FrameRequest, MixedRenderer, Rendering


class RoundRobinRenderer:
    """`count` renderers of one group, each made by `open_renderer`. See ``MixedRenderer``."""

    def __init__(self, open_renderer: Callable[[], MixedRenderer], count: int) -> None:
        self._renderers: list[MixedRenderer] = []
        self._turn = 0
        try:
            for _ in range(count):
                self._renderers.append(open_renderer())
        except BaseException:
            self.close()
            raise

    def render(self, batch: Sequence[FrameRequest]) -> Rendering:
        renderer = self._renderers[self._turn]
        self._turn = (self._turn + 1) % len(self._renderers)
        return renderer.render(batch)

    def hold(self, avatar: Avatar) -> None:
        held: list[MixedRenderer] = []
        try:
            for renderer in self._renderers:
                renderer.hold(avatar)
                held.append(renderer)
        except BaseException:
            for renderer in held:
                renderer.release(avatar)
            raise

    def release(self, avatar: Avatar) -> None:
        for renderer in self._renderers:
            renderer.release(avatar)

    def close(self) -> None:
        for renderer in self._renderers:
            renderer.close()

"""The player of an avatar's clips: which frame is shown when, and where one clip goes over into another."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from musetalk_runtime.avatar.clips import Clip, nearest
from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.core.arrays import Floats, Indices
from musetalk_runtime.core.errors import InvalidArgument

FADE_S = 0.32  # seconds of a crossfade
SEARCH_S = 0.5  # seconds of the clip that plays in which a similar frame is looked for
ONCE_S = 1.0  # seconds that a clip which plays once is shown at least
SPARE = 1 / 8  # of a clip that plays once, at each of its ends, may be left out to find a similar frame
MAX_WISHES = 256  # that wait for their time

OnSwitch = Callable[[str, float], None]
"""Called with the name of a clip and the stream's second from which it fades in, when that frame is made."""


@dataclass(frozen=True)
class Shown:
    """Frame ``frame`` of an avatar, with a ``share`` in [0, 1) of its frame ``into`` on it, if there is one."""

    frame: int
    into: int | None = None
    share: float = 0.0


class PosePlayer:
    """Plays the clips of `avatar` in a stream at `fps`: the first one forth and back, until another is asked for.

    `ask` is for any thread, `shown` for the one that makes the frames. `on_switch` is called in that one. Attributes:
    ``names`` of the clips, and ``pose``, the one that plays or fades in.
    """

    def __init__(self, avatar: Avatar, fps: Fraction, on_switch: OnSwitch | None = None) -> None:
        self.names = avatar.poses
        self.pose = self.names[0]
        self.on_switch = on_switch
        self._avatar, self._fps = avatar, fps
        self._fade, self._search = (max(1, round(seconds * fps)) for seconds in (FADE_S, SEARCH_S))
        self._current = _Run(avatar.clips[0], avatar.fps / fps)
        self._planned: _Run | None = None
        self._fading: _Run | None = None
        self._wishes: list[_Wish] = []
        self._lock = threading.Lock()

    def ask(self, name: str, repeat: bool = False, at: float = 0.0) -> None:
        """Go over to the clip `name` soon, but not before the stream's second `at`.

        The first clip and one that is to `repeat` play on; any other plays once, and then the first clip again. What
        plays on already plays on. Raises InvalidArgument for a name that no clip has, and where too many wait.
        """
        clip = next((clip for clip in self._avatar.clips if clip.name == name), None)
        if clip is None:
            raise InvalidArgument(f"no pose {name[:40]!r}: expected one of {', '.join(self.names)}")
        with self._lock:
            if len(self._wishes) >= MAX_WISHES:
                raise InvalidArgument(f"{MAX_WISHES} poses wait already")
            self._wishes.append(_Wish(clip, once=not repeat and clip is not self._avatar.clips[0], at=at))

    def shown(self, k: int) -> Shown:
        """What is shown in the stream's frame `k`, which comes after all that were asked for before."""
        if self._fading and k >= self._fading.since + self._fade:
            self._current, self._fading = self._fading, None
        if self._fading is None:
            self._plan(k)
            if self._planned and k >= self._planned.since:
                self._begin(self._planned)
        frame = int(self._current.frames(k)[0])
        if self._fading is None:
            return Shown(frame)
        return Shown(frame, int(self._fading.frames(k)[0]), (k - self._fading.since + 1) / (self._fade + 1))

    def _begin(self, run: "_Run") -> None:
        self._fading, self._planned = run, None
        self.pose = run.clip.name
        if self.on_switch:
            self.on_switch(self.pose, float(run.since / self._fps))

    def _plan(self, k: int) -> None:
        """Decide what comes next, if anything is to come."""
        wish = self._due(k)
        if wish and wish.plays_in(self._current) and not wish.once:
            self._planned = None
        elif wish and not (self._planned and wish.plays_in(self._planned)):  # else it would be put off again and again
            self._planned = self._run_into(wish.clip, wish.once, k, k + self._search)
        elif not wish and self._current.once and self._planned is None:
            latest = max(k, self._current.end(round(ONCE_S * self._fps)) - self._fade)
            if k >= latest - int(self._spare(self._current.clip) / self._current.rate):
                self._planned = self._run_into(self._avatar.clips[0], False, k, latest)

    def _due(self, k: int) -> "_Wish | None":
        """Of the wishes whose time has come the latest; they are wishes no more."""
        if not self._wishes:
            return None
        with self._lock:
            due = sorted((wish for wish in self._wishes if wish.at * self._fps <= k), key=lambda wish: wish.at)
            self._wishes = [wish for wish in self._wishes if wish not in due]
        return due[-1] if due else None

    def _run_into(self, clip: Clip, once: bool, earliest: int, latest: int) -> "_Run":
        """The clip from where it stays most like the one that plays through a crossfade which begins in that time.

        What plays once is entered near its beginning. The work is bounded by the length of the clip.
        """
        rate = self._current.rate
        fade = range(self._fade + 1)
        starts = np.arange(latest - earliest + 1)
        entries = np.arange(1 + self._spare(clip) if once else clip.turn)
        positions = entries[:, None] + [nearest(k, rate) for k in fade]
        entered = (clip.forward(positions) if once else clip.looped(positions)) - clip.first
        leaving = self._current.frames(*range(earliest, latest + self._fade + 1))
        differences = self._differences(leaving, np.arange(clip.first, clip.first + clip.count))
        costs = differences[starts[:, None, None] + np.array(fade), entered].mean(axis=-1)
        start, entry = np.unravel_index(costs.argmin(), costs.shape)
        return _Run(clip, rate, earliest + int(start), int(entries[entry]), once)

    def _spare(self, clip: Clip) -> int:
        """How many of its frames, at its beginning and at its end, a clip that plays once may go without."""
        return min(nearest(self._search, self._current.rate), int(clip.count * SPARE))

    def _differences(self, some: Indices, others: Indices) -> Floats:
        """The squared differences of the avatar's frames ``[n]`` and ``[m]`` by their thumbnails: ``[n, m]``."""
        thumbnails = self._avatar.thumbnails
        assert thumbnails is not None  # noqa: S101 - an avatar of several clips has them
        a, b = (thumbnails[frames].reshape(len(frames), -1) / np.float32(255) for frames in (some, others))
        return np.asarray((a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T, np.float32)


@dataclass(frozen=True)
class _Run:
    """A clip that plays from the stream's frame ``since`` on, there at its position ``offset``.

    ``rate``: frames of the avatar a frame of the stream. ``once``: from there to its end, not forth and back.
    """

    clip: Clip
    rate: Fraction
    since: int = 0
    offset: int = 0
    once: bool = False

    def frames(self, *ks: int) -> Indices:
        """The avatar's frames in the stream's frames `ks`, ``[n]``."""
        positions = np.array([self.offset + nearest(k - self.since, self.rate) for k in ks])
        return self.clip.forward(positions) if self.once else self.clip.looped(positions)

    def end(self, shortest: int) -> int:
        """The stream's frame after its last, if it plays once: for `shortest` frames at least."""
        return self.since + max(shortest, int((self.clip.count - self.offset) / self.rate))


@dataclass(frozen=True, eq=False)
class _Wish:
    """A clip that is to play from the stream's second ``at``, for good or ``once``."""

    clip: Clip
    once: bool
    at: float

    def plays_in(self, run: _Run) -> bool:
        """Whether `run` is what is wished."""
        return self.clip is run.clip and self.once is run.once

"""The sampler of frames: a pure function of seed and step, so that a resumed run sees what it would have seen."""

from collections.abc import Sequence

import numpy as np

from musetalk_runtime.core.arrays import Indices


class FrameSampler:
    """Frames of all clips, counted through, in a new order every epoch; each with another frame of its own clip.

    `frames` are the lengths of the clips. With `pairs` every second frame is the neighbour of the one before it: the
    next of its clip, or of the last frame the one before. Nothing is kept between calls but the permutations of the
    latest epochs.
    """

    def __init__(self, frames: Sequence[int], seed: int, pairs: bool = False) -> None:
        self._seed, self._pairs = seed, pairs
        self._length = np.asarray(frames, np.int64)
        self.first: Indices = np.concatenate([[0], np.cumsum(self._length)])  # by clip: index of its first frame
        self._epochs: dict[int, Indices] = {}

    def __len__(self) -> int:
        """Frames in all."""
        return int(self.first[-1])

    def draw(self, step: int, batch: int) -> tuple[Indices, Indices]:
        """The frames ``[batch]`` of step `step` and the reference frame of each; a clip of one frame is its own.

        Pairs are drawn for a `batch` that is even, and the references of a pair are as far away as each other.
        """
        frames, shift = self._draw(step, batch // 2 if self._pairs else batch)
        if self._pairs:
            frames, shift = np.stack((frames, self._neighbour(frames)), 1).ravel(), np.repeat(shift, 2)
        clip = self.clip(frames)
        first, length = self.first[clip], self._length[clip]
        return frames, first + (frames - first + shift) % length

    def _draw(self, step: int, batch: int) -> tuple[Indices, Indices]:
        """Frames, and how far away the reference of each is, in frames of its clip that begins again at its end."""
        place = step * batch + np.arange(batch)
        epochs, places = place // len(self), place % len(self)
        frames = np.concatenate([self._epoch(int(epoch))[places[epochs == epoch]] for epoch in np.unique(epochs)])
        share = _generator(self._seed, 1, step).random(batch)
        return frames, 1 + np.floor(share * (self._length[self.clip(frames)] - 1)).astype(np.int64)

    def _neighbour(self, frames: Indices) -> Indices:
        clip = self.clip(frames)
        first, last = self.first[clip], self.first[clip + 1] - 1
        return np.where(frames < last, frames + 1, np.maximum(frames - 1, first))

    def clip(self, frames: Indices) -> Indices:
        """The clip of each of `frames`."""
        return np.searchsorted(self.first, frames, side="right") - 1

    def _epoch(self, epoch: int) -> Indices:
        if epoch not in self._epochs:
            if len(self._epochs) > 1:
                del self._epochs[min(self._epochs)]
            self._epochs[epoch] = _generator(self._seed, 0, epoch).permutation(len(self))
        return self._epochs[epoch]


def noise_seed(seed: int, step: int, process: int) -> int:
    """A seed for the random tensors of one step in one process."""
    return int(_generator(seed, 2 + process, step).integers(1 << 62))


def _generator(seed: int, purpose: int, number: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, purpose, number))))

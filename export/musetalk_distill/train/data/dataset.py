"""The dataset of one split: all frames of its clips, numbered from 0."""

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from musetalk_distill.shards.shards import Clip, ClipTensors, Shards, window_start
from musetalk_distill.train.data.batch import Batch, assemble
from musetalk_distill.train.data.sampler import FrameSampler
from musetalk_runtime.core.arrays import Indices
from musetalk_runtime.core.errors import InvalidArgument
from musetalk_runtime.core.model import ModelSpec

MAX_OPEN_CLIPS = 256  # clips that are mapped at a time


class FrameDataset:
    """The frames of `split`; ``sampler`` draws them, ``starts`` is each one's first audio state within its clip.

    With `pairs` they are drawn two by two, each with its neighbour.
    """

    def __init__(self, shards: Shards, split: str, seed: int, pairs: bool = False) -> None:
        self.spec: ModelSpec = shards.spec
        self.clips = shards.clips(split)
        if not self.clips:
            raise InvalidArgument(f"{shards.path}: no clip is in the split {split!r}: prepare more speakers")
        self.sampler = FrameSampler([clip.frames for clip in self.clips], seed, pairs)
        self.starts: Indices = np.concatenate([_starts(clip, self.spec) for clip in self.clips])
        self._shards = shards
        self._open: OrderedDict[int, ClipTensors] = OrderedDict()

    @property
    def nbytes(self) -> int:
        """Bytes of the latents and states of all frames, about."""
        spec = self.spec
        latents = 2 * spec.latent_channels * spec.latent_size**2
        states = sum(_states(clip, spec) for clip in self.clips) * spec.audio_states * spec.audio_width
        return 2 * (len(self.sampler) * latents + states)

    def clip(self, index: int) -> ClipTensors:
        """The tensors of the clip `index`, kept mapped for the next call."""
        if index not in self._open:
            if len(self._open) >= MAX_OPEN_CLIPS:
                self._open.popitem(last=False)
            self._open[index] = self._shards.tensors(self.clips[index])
        self._open.move_to_end(index)
        return self._open[index]

    def frame(self, frame: int) -> tuple[ClipTensors, int, Tensor]:
        """The clip of `frame`, its place there, and the audio states ``[steps, states, width]`` of its window."""
        index = int(self.sampler.clip(np.asarray([frame]))[0])
        tensors = self.clip(index)
        window = window_of(tensors, int(self.starts[frame]), self.spec.window_steps)
        return tensors, frame - int(self.sampler.first[index]), window

    def batch(self, frames: Sequence[int], device: torch.device) -> Batch:
        """The batch of `frames`; each one's reference is the frame half its clip away, whose mouth is another."""
        rows = []
        for frame in frames:
            clip, place, window = self.frame(frame)
            other = (place + len(clip.latents) // 2) % len(clip.latents)
            parts = (clip.masked[place], clip.latents[other], clip.latents[place])
            masked, reference, target = (torch.from_numpy(part) for part in parts)
            rows.append((masked, reference, window, target))
        return assemble(*(torch.stack(column).to(device) for column in zip(*rows, strict=True)))


def window_of(tensors: ClipTensors, start: int, steps: int) -> Tensor:
    """The states ``[steps, states, width]`` from index `start` on; zeros before the clip."""
    states = torch.from_numpy(tensors.states[max(0, start) : max(0, start + steps)])
    return torch.nn.functional.pad(states, (0, 0, 0, 0, steps - len(states), 0))


def _starts(clip: Clip, spec: ModelSpec) -> Indices:
    return np.asarray([window_start(frame, clip.fps, spec) for frame in range(clip.frames)], np.int64)


def _states(clip: Clip, spec: ModelSpec) -> int:
    return window_start(clip.frames - 1, clip.fps, spec) + spec.window_steps

"""Batch loaders: a small set is gathered on the device, a large one is read ahead from disk by a thread."""

import logging
from queue import Full, Queue
from threading import Event, Thread
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from musetalk_distill.train.data.batch import Batch, assemble
from musetalk_distill.train.data.dataset import FrameDataset
from musetalk_runtime.core.arrays import Indices
from musetalk_runtime.core.closable import Closable

log = logging.getLogger(__name__)

MAX_HOST_BYTES = 4 << 30  # of a set that is kept in memory where there is no GPU
MAX_GPU_SHARE = 0.25  # of the free GPU memory, for a set that is kept there
PREFETCH = 4  # batches that are read ahead


class BatchLoader(Protocol):
    """Batches by step. Closing twice is fine."""

    def batch(self, step: int) -> Batch:
        """This process's part of step `step`'s batch; steps come one after another."""
        ...

    def close(self) -> None: ...


def open_batch_loader(
    dataset: FrameDataset, batch: int, device: torch.device, first: int, part: slice, limit: int | None
) -> BatchLoader:
    """A loader of `dataset` from step `first` on: `part` of the `batch` frames of each step.

    Up to `limit` bytes (default: a quarter of the free GPU memory; 4 GiB without a GPU) are held on the device.
    """
    if limit is None:
        limit = int(torch.cuda.mem_get_info(device)[0] * MAX_GPU_SHARE) if device.type == "cuda" else MAX_HOST_BYTES
    resident = dataset.nbytes <= limit
    where = f"in the memory of {device}" if resident else "read as they are needed"
    frames, clips = len(dataset.sampler), len(dataset.clips)
    log.info("%d frames of %d clips, %.2f GB: %s", frames, clips, dataset.nbytes / 1e9, where)
    kind = ResidentBatchLoader if resident else StreamingBatchLoader
    return kind(dataset, batch, device, first, part)


class ResidentBatchLoader(Closable):
    """A loader that keeps all latents and states on the device."""

    def __init__(self, dataset: FrameDataset, batch: int, device: torch.device, _first: int, part: slice) -> None:
        self._sampler, self._batch, self._device, self._part = dataset.sampler, batch, device, part
        steps = dataset.spec.window_steps
        clips = [dataset.clip(index) for index in range(len(dataset.clips))]
        self._latents = torch.cat([torch.from_numpy(clip.latents) for clip in clips]).to(device)
        self._masked = torch.cat([torch.from_numpy(clip.masked) for clip in clips]).to(device)
        silence = torch.zeros(steps, *clips[0].states.shape[1:], dtype=torch.float16)
        padded = [tensor for clip in clips for tensor in (silence, torch.from_numpy(clip.states))]
        self._states = torch.cat(padded).to(device)
        lengths = np.asarray([steps + len(clip.states) for clip in clips])
        first = np.cumsum(lengths) - lengths + steps
        clip_of = dataset.sampler.clip(np.arange(len(dataset.sampler)))
        self._starts = np.maximum(dataset.starts, -steps) + first[clip_of]
        self._window = torch.arange(steps, device=device)

    def batch(self, step: int) -> Batch:
        frames, references = (drawn[self._part] for drawn in self._sampler.draw(step, self._batch))
        index, other, start = (_to(self._device, array) for array in (frames, references, self._starts[frames]))
        states = self._states[start[:, None] + self._window]
        return assemble(self._masked[index], self._latents[other], states, self._latents[index])

    def close(self) -> None:
        """There is nothing to stop."""


class StreamingBatchLoader(Closable):
    """A loader whose thread reads batches ahead, from step `first` on, into pinned memory."""

    def __init__(self, dataset: FrameDataset, batch: int, device: torch.device, first: int, part: slice) -> None:
        self._dataset, self._batch, self._device, self._part = dataset, batch, device, part
        self._queue: Queue[tuple[int, list[Tensor]] | Exception] = Queue(PREFETCH)
        self._stop = Event()
        self._thread = Thread(target=self._read, args=(first,), name="batch loader", daemon=True)
        self._thread.start()

    def batch(self, step: int) -> Batch:
        item = self._queue.get()
        if isinstance(item, Exception):
            raise item
        if item[0] != step:
            raise ValueError(f"{step=}, expected {item[0]}: steps come one after another")
        return assemble(*(tensor.to(self._device, non_blocking=True) for tensor in item[1]))

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _read(self, step: int) -> None:
        try:
            while not self._stop.is_set():
                self._put((step, self._gather(step)))
                step += 1
        except Exception as error:  # handed to the reader of the queue
            self._put(error)

    def _put(self, item: tuple[int, list[Tensor]] | Exception) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                break
            except Full:
                pass

    def _gather(self, step: int) -> list[Tensor]:
        rows = []
        frames, references = (drawn[self._part] for drawn in self._dataset.sampler.draw(step, self._batch))
        for frame, reference in zip(frames.tolist(), references.tolist(), strict=True):
            clip, place, window = self._dataset.frame(frame)
            parts = (clip.masked[place], clip.latents[place + reference - frame], clip.latents[place])
            masked, other, target = (torch.from_numpy(part) for part in parts)
            rows.append((masked, other, window, target))
        stacked = [torch.stack(column) for column in zip(*rows, strict=True)]
        return [tensor.pin_memory() for tensor in stacked] if self._device.type == "cuda" else stacked


def _to(device: torch.device, array: Indices) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor

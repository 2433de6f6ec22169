"""Speech frames to video frames on the GPU."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from musetalk_runtime.audio.speech import SpeechFrame
from musetalk_runtime.errors import InvalidArgument
from musetalk_runtime.gpu.avatar import GpuAvatar
from musetalk_runtime.gpu.chain import Chain
from musetalk_runtime.gpu.memory import copy
from musetalk_runtime.gpu.rendering import GpuRendering, Streams
from musetalk_runtime.gpu.slot import Ring, Slot
from musetalk_runtime.gpu.stream import application_stream
from musetalk_runtime.gpu.times import BatchTimes, Reporter
from musetalk_runtime.timings import Timings


@dataclass(frozen=True)
class GpuOptions:
    """How to render: by CUDA graphs or not; on which stream; whether to bring the frames to the host ahead of `wait`.

    ``stream`` is the application's, a handle (int) or an object with ``__cuda_stream__``; None: one of the renderer's
    own. Frames are composed on it, in order with the application's work. ``timeline`` is told when the GPU did what.
    """

    cuda_graph: bool = True
    stream: Any = None
    download: bool = True
    timeline: Callable[[BatchTimes], None] | None = None


class GpuRenderer:
    """Renders batches one after another, up to four on their way at once. See ``Renderer``.

    The upload of a batch, the computing of the one before and the download of the one before that overlap: each has
    a stream of its own. `render` waits only where four batches are neither waited for nor released. `chain` and
    `avatar` are lent; `closed` is called when they are free again.
    """

    def __init__(
        self,
        chain: Chain,
        avatar: GpuAvatar,
        fps: Fraction,
        timings: Timings,
        options: GpuOptions,
        device: Any,
        closed: Callable[[], None],
    ) -> None:
        device.set_current()
        self._device = device
        self._chain, self._gpu_avatar, self._fps = chain, avatar, fps
        self._compute = chain.compute if options.stream is None else application_stream(options.stream)
        self._download = options.download
        self._out = Reporter(timings, options.timeline, _origin(device, self._compute))
        self._ring = Ring(chain.slots)
        self._closed = closed

    def render(self, batch: Sequence[SpeechFrame]) -> GpuRendering:
        """Enqueue the frames of `batch`; returns before they are finished. See ``Renderer.render``."""
        if not 1 <= len(batch) <= self._chain.batch:
            raise InvalidArgument(f"a batch of {len(batch)} frames, expected 1 to {self._chain.batch}")
        slot = self._ring.take()
        try:
            self._device.set_current()
            slot.settle()
            with self._out.timings.measure("enqueue", len(batch)):
                faces = self._fill(slot, batch)
                return self._enqueue(slot, len(batch), faces)
        except BaseException:
            self._ring.give(slot)
            raise

    def close(self) -> None:
        """Wait for the GPU and give back what was lent. Closing twice is fine."""
        if self._ring.closed:
            return
        self._ring.close()
        self._device.set_current()
        for stream in (self._chain.upload, self._compute, self._chain.download):
            stream.sync()
        self._closed()

    def _fill(self, slot: Slot, batch: Sequence[SpeechFrame]) -> int:
        """Describe `batch` in `slot`; how many of its frames need the model."""
        slot.items[:] = np.zeros((), slot.items.dtype)
        faces = 0
        row_bytes = slot.tokens[0].nbytes
        for number, frame in enumerate(batch):
            item, shown = slot.items[number], self._gpu_avatar.avatar.index_at(frame.index, self._fps)
            item["frame"] = self._gpu_avatar.frame(shown)
            item["output"] = slot.frame_address + number * slot.frame_bytes
            item["face"] = -1
            if frame.weight > 0 and self._gpu_avatar.has_face[shown]:
                item["face"], item["weight"] = faces, frame.weight
                item["mask"], item["box"] = self._gpu_avatar.mask(shown), self._gpu_avatar.boxes[shown]
                item["latents"] = self._gpu_avatar.latents(shown)
                item["tokens"] = slot.token_address + faces * row_bytes
                slot.tokens[faces] = frame.tokens
                faces += 1
        return faces

    def _enqueue(self, slot: Slot, count: int, faces: int) -> GpuRendering:
        marks, upload, compute = slot.marks, self._chain.upload, self._compute
        upload.record(marks["upload_begin"])
        copy(slot.item_address, slot.staged_address, slot.item_bytes + faces * slot.tokens[0].nbytes, upload)
        upload.record(marks["upload_end"])
        compute.wait(marks["upload_end"])
        compute.record(marks["compute_begin"])
        self._chain.run(slot, faces, compute)
        compute.record(marks["compute_end"])
        streams = Streams(self._device, compute, self._chain.download)
        rendering = GpuRendering(slot, self._ring, count, faces, streams, self._out)
        if self._download:
            rendering.fetch()
        return rendering


def _origin(device: Any, stream: Any) -> Any:
    """An event from which times are counted."""
    from cuda.core import EventOptions

    return stream.record(device.create_event(EventOptions(timing_enabled=True)))

"""The renderer of video frames on the GPU."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.backends.cuda.avatar import GpuAvatar
from musetalk_runtime.backends.cuda.device import is_integrated
from musetalk_runtime.backends.cuda.driver_calls import copy, current_context, make_current, record, wait
from musetalk_runtime.backends.cuda.slot import Slot, SlotPool
from musetalk_runtime.backends.cuda.stream import application_stream
from musetalk_runtime.backends.cuda.times import BatchTimes, Reporter
from musetalk_runtime.backends.interface import FrameRequest, NewFrame
from musetalk_runtime.backends.trt.chain import Chain
from musetalk_runtime.backends.trt.rendering import GpuRendering, Streams
from musetalk_runtime.core.errors import InvalidArgument
from musetalk_runtime.core.timings import Timings


@dataclass(frozen=True)
class GpuOptions:
    """How to render: by CUDA graphs or not; on which stream; whether to bring the frames to the host ahead of `wait`.

    ``stream`` is the application's, a handle (int) or an object with ``__cuda_stream__``; None: one of the renderer's
    own. Frames are composed on it, in order with the application's work. ``timeline`` is told when the GPU did what.
    ``frames`` are composed into the GPU's memory and ``copied`` to the host, or into memory of the host that is
    ``mapped`` for the GPU. ``auto``: mapped where an integrated GPU makes frames for the host.
    """

    cuda_graph: bool = True
    stream: Any = None
    download: bool = True
    timeline: Callable[[BatchTimes], None] | None = None
    frames: Literal["auto", "copied", "mapped"] = "auto"

    @property
    def mapped(self) -> bool:
        """Whether frames are mapped, on the GPU whose context is current."""
        return self.frames == "mapped" or (self.frames == "auto" and self.download and is_integrated())


@dataclass(frozen=True)
class PoolAccess:
    """What a renderer does with the pools that its avatars and its chain come from, and what gives it frames."""

    acquire_avatar: Callable[[Avatar], GpuAvatar]
    release_avatar: Callable[[GpuAvatar], None]
    release_chain: Callable[[Chain], None]
    new_frame: NewFrame


class GpuRenderer:
    """Renders batches one after another, up to four on their way at once. See ``Renderer``.

    The upload of a batch, the computing of the one before and the download of the one before that, if there is any,
    overlap: each has a stream of its own. `render` waits only where four batches are neither waited for, finished nor
    released. `chain` and `avatar` were acquired from `pools`, and go back there.
    """

    def __init__(
        self,
        chain: Chain,
        avatar: GpuAvatar,
        timings: Timings,
        options: GpuOptions,
        device: Any,
        pools: PoolAccess,
    ) -> None:
        device.set_current()
        self._device, self._context = device, current_context()
        self._chain, self._pools = chain, pools
        self._held = [avatar]  # one entry for each `hold`
        self._compute = chain.compute if options.stream is None else application_stream(options.stream)
        self._download = options.download
        self._reporter = Reporter(timings, options.timeline, _origin(device, self._compute))
        mapped = options.mapped
        for slot in chain.slots:
            slot.place_frames(mapped)
        self._free_slots = SlotPool(chain.slots)

    def hold(self, avatar: Avatar) -> None:
        """Upload `avatar` if it is not there. See ``Renderer.hold``; raises InvalidArgument for another size."""
        if (avatar.width, avatar.height) != self._chain.frame:
            raise InvalidArgument(
                f"an avatar of {avatar.width}x{avatar.height}, the renderer is for {self._chain.frame}"
            )
        self._held.append(self._pools.acquire_avatar(avatar))

    def release(self, avatar: Avatar) -> None:
        """See ``Renderer.release``."""
        loaded = self._on_gpu(avatar)
        self._held.remove(loaded)
        self._pools.release_avatar(loaded)

    def render(self, batch: Sequence[FrameRequest]) -> GpuRendering:
        """Enqueue the frames of `batch`; returns before they are finished. See ``Renderer.render``."""
        if not 1 <= len(batch) <= self._chain.batch:
            raise InvalidArgument(f"a batch of {len(batch)} frames, expected 1 to {self._chain.batch}")
        slot = self._free_slots.acquire()
        try:
            make_current(self._context)
            slot.wait_until_read()
            with self._reporter.timings.measure("enqueue", len(batch)):
                faces = self._fill(slot, batch)
                return self._enqueue(slot, len(batch), faces)
        except BaseException:
            self._free_slots.release(slot)
            raise

    def close(self) -> None:
        """Wait for the GPU and give everything back to the pools. Closing twice is fine."""
        if self._free_slots.closed:
            return
        self._free_slots.close()
        self._device.set_current()
        for stream in (self._chain.upload, self._compute, self._chain.download):
            stream.sync()
        self._pools.release_chain(self._chain)
        while self._held:
            self._pools.release_avatar(self._held.pop())

    def _on_gpu(self, avatar: Avatar) -> GpuAvatar:
        held = tuple(self._held)  # another thread may hold and release the while
        return next(loaded for loaded in held if loaded.avatar is avatar)

    def _fill(self, slot: Slot, batch: Sequence[FrameRequest]) -> int:
        """Describe `batch` in `slot`; returns how many of its frames need the model."""
        slot.items[:] = np.zeros((), slot.items.dtype)
        faces = 0
        row_bytes = slot.tokens[0].nbytes
        for number, request in enumerate(batch):
            item, avatar, shown = slot.items[number], self._on_gpu(request.avatar), request.shown
            item["frame"] = avatar.frame(shown)
            item["output"] = slot.frames.address + number * slot.frames.frame_bytes
            item["face"] = -1
            if request.speaks:
                item["face"], item["weight"] = faces, request.speech.weight
                item["mask"], item["box"] = avatar.mask(shown), avatar.boxes[shown]
                item["latents"] = avatar.latents(shown)
                item["base"], item["sharpening"] = avatar.base(shown), avatar.sharpening
                item["tokens"] = slot.token_address + faces * row_bytes
                slot.tokens[faces] = request.speech.tokens
                faces += 1
        return faces

    def _enqueue(self, slot: Slot, count: int, faces: int) -> GpuRendering:
        events, upload, compute = slot.events, self._chain.upload, self._compute
        record(events["upload_begin"], upload)
        copy(slot.item_address, slot.staged_address, slot.item_bytes + faces * slot.tokens[0].nbytes, upload)
        record(events["upload_end"], upload)
        wait(compute, events["upload_end"])
        record(events["compute_begin"], compute)
        self._chain.run(slot, faces, compute)
        record(events["compute_end"], compute)
        slot.busy = True
        streams = Streams(self._context, compute, self._chain.download)
        new_frame = self._pools.new_frame
        rendering = GpuRendering(slot, self._free_slots, count, faces, streams, self._reporter, new_frame)
        if self._download:
            rendering.fetch()
        return rendering


def _origin(device: Any, stream: Any) -> Any:
    """An event from which times are counted."""
    from cuda.core import EventOptions

    return stream.record(device.create_event(EventOptions(timing_enabled=True)))

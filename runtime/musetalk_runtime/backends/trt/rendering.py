"""A batch of frames on its way through the GPU."""

import threading
from dataclasses import dataclass
from typing import Any

from musetalk_runtime.backends.cuda.device_frame import DeviceFrame
from musetalk_runtime.backends.cuda.driver_calls import make_current, record, wait
from musetalk_runtime.backends.cuda.slot import Slot, SlotPool
from musetalk_runtime.backends.cuda.times import Reporter
from musetalk_runtime.backends.interface import ALL, NewFrame
from musetalk_runtime.core.arrays import Bytes


@dataclass(frozen=True)
class Streams:
    """The CUDA context, and the streams on which frames are composed and brought to the host."""

    context: int
    compute: Any
    download: Any


class GpuRendering:
    """The frames of one batch. See ``Rendering``; `arrays` instead of `wait` leaves them on the GPU.

    It occupies a slot of the renderer until it is waited for or released. Safe to hand to another thread.
    """

    def __init__(
        self,
        slot: Slot,
        free_slots: SlotPool,
        count: int,
        faces: int,
        streams: Streams,
        reporter: Reporter,
        new_frame: NewFrame,
    ) -> None:
        self._slot = slot
        self._free_slots = free_slots
        self._count, self._faces = count, faces
        self._streams = streams
        self._reporter = reporter
        self._new_frame = new_frame
        self._fetching = False
        self._frames: list[Bytes] | None = None
        self._lock = threading.Lock()
        self._released = False

    def fetch(self) -> None:
        """Enqueue the copy to the host, which `wait` does otherwise; there is none to make of mapped frames."""
        frames, events, stream = self._slot.frames, self._slot.events, self._streams.download
        if frames.mapped:
            return
        wait(stream, events["compute_end"])
        record(events["download_begin"], stream)
        frames.download(self._count, stream)
        record(events["download_end"], stream)
        self._fetching = True

    def wait(self, rows: slice = ALL) -> list[Bytes]:
        """The frames of `rows`, copied to the host, once all are finished; the slot is free from then on.

        Raises RuntimeError if the renderer was closed or the frames were released before.
        """
        with self._lock:
            if self._frames is None:
                self._check_not_released()
                make_current(self._streams.context)
                with self._reporter.timings.measure("wait", self._count):
                    if not self._fetching:
                        self.fetch()
                    self._slot.events["download_end" if self._fetching else "compute_end"].sync()
                    self._slot.busy = False
                    self._frames = self._copied()
                self._reporter.report(self._slot, self._count, self._faces)
                self._release()
            return self._frames[rows]

    def finish(self) -> None:
        """Copy the frames to the host once they are finished, so that the slot is free. See ``Rendering.finish``."""
        self.wait()

    def arrays(self) -> list[DeviceFrame]:
        """The frames on the GPU, perhaps not finished yet, valid until `release` or `wait`; raises RuntimeError."""
        with self._lock:
            self._check_not_released()
            frames, finished = self._slot.frames, self._slot.events["compute_end"]
            shape = frames.host.shape[1], frames.host.shape[2]
            addresses = (frames.address + index * frames.frame_bytes for index in range(self._count))
            return [DeviceFrame(address, shape, finished, self._streams.compute) for address in addresses]

    def release(self, stream: Any = None) -> None:
        """Say that the frames are no longer needed, once what was enqueued on `stream` is done. Twice is fine.

        `stream`: the ``cuda.core.Stream``, or object with ``__cuda_stream__``, on which `arrays` were used; without
        one, their use must be over.
        """
        with self._lock:
            if not self._released and not self._free_slots.closed:
                make_current(self._streams.context)
                if stream is not None:
                    self._streams.compute.wait(stream)
                if self._fetching:
                    self._slot.events["download_end"].sync()
                self._release()

    def _copied(self) -> list[Bytes]:
        """Memory for all frames and one copy: after each, this thread has to wait for the interpreter's lock."""
        frames = self._slot.frames.host[: self._count]
        count, rows, width = frames.shape
        copy = self._new_frame((count * rows, width))
        copy[:] = frames.reshape(copy.shape)
        return list(copy.reshape(frames.shape))

    def _check_not_released(self) -> None:
        if self._released or self._free_slots.closed:
            raise RuntimeError("the frames were released" if self._released else "the renderer is closed")

    def _release(self) -> None:
        self._released = True
        self._free_slots.release(self._slot)

"""The generator of frames of one size: gather, UNet, decoder and composition, with the memory they need."""

import logging
from typing import Any

import numpy as np

from musetalk_runtime.backends.cuda.driver_calls import copy
from musetalk_runtime.backends.cuda.item import ITEM
from musetalk_runtime.backends.cuda.kernels import Kernels, matched_bytes
from musetalk_runtime.backends.cuda.memory import DeviceMemory
from musetalk_runtime.backends.cuda.slot import Slot
from musetalk_runtime.backends.trt.batch_graph import BatchGraph, CaptureError, RecordEvent
from musetalk_runtime.backends.trt.plan import Plan
from musetalk_runtime.core.errors import MachineError

log = logging.getLogger(__name__)

SLOTS = 4  # one rendered, two that wait for the encoder, one that it takes: a session never waits for a slot


class Chain:
    """The generator for one stream at a time; a renderer acquires it from the pool.

    Attributes: ``batch`` (the largest), ``frame`` (width, height), ``slots``, and the streams ``compute``, ``upload``
    and ``download``; ``captured``, whether it runs as CUDA graphs. All contexts work in one piece of memory, since they
    run in turn. Of the plans' batch sizes those up to `largest_batch` are used, if it is given.
    """

    def __init__(
        self,
        device: Any,
        unet: Plan,
        decoder: Plan,
        kernels: Kernels,
        frame: tuple[int, int],
        cuda_graph: bool,
        largest_batch: int | None = None,
    ) -> None:
        device.set_current()
        self._device, self._kernels = device, kernels
        self.frame = frame
        self._unet, self._decoder = _by_batch(unet), _by_batch(decoder)
        common = sorted(self._unet.keys() & self._decoder.keys())
        if not common:
            raise MachineError(
                f"UNet batches {list(self._unet)}, decoder batches {list(self._decoder)}: none in common"
            )
        self._sizes = [size for size in common if largest_batch is None or size <= largest_batch] or common[:1]
        self.batch = self._sizes[-1]
        self.dtype = _common_dtype(unet, "latents", unet, "tokens")
        self._latent_dtype = _common_dtype(unet, "prediction", decoder, "latents")
        self._face_dtype = decoder.dtype("images")
        self.captured = cuda_graph
        self._graphs: dict[int, BatchGraph] = {}
        self._memories: dict[str, DeviceMemory] = {}
        self.slots: list[Slot] = []
        self.compute, self.upload, self.download = (device.create_stream() for _ in range(3))
        try:
            self._allocate(unet, decoder)
            for size in self._sizes:
                self._graphs[size] = self._build(size, unet, decoder)
        except BaseException:
            self.close()
            raise

    def run(self, slot: Slot, faces: int, stream: Any) -> None:
        """Enqueue on `stream`: the frames of all items in `slot`, whose `faces` faces fill rows 0, 1, ..."""
        copy(self._memories["items"].address, slot.item_address, slot.item_bytes, stream)
        if faces:
            self._graphs[next(size for size in self._sizes if size >= faces)].launch(stream, slot.events)
        else:
            self._compose(stream)

    def close(self) -> None:
        """Wait for the GPU and release everything. Closing twice is fine."""
        self._device.set_current()
        streams = [self.upload, self.compute, self.download]
        for stream in streams:
            if not stream.is_closed:
                stream.sync()
        for graph in self._graphs.values():
            graph.close()
        self._graphs.clear()
        while self.slots:
            self.slots.pop().close()
        while self._memories:
            self._memories.popitem()[1].close()
        for stream in streams:
            stream.close()

    def _allocate(self, unet: Plan, decoder: Plan) -> None:
        batch, largest = self.batch, unet.profiles[self._unet[self.batch]]
        latents, tokens = largest["latents"], largest["tokens"]
        channels = latents[1] // 2
        self._elements = int(np.prod(latents[1:])), int(np.prod(tokens[1:]))
        predicted = decoder.profiles[self._decoder[batch]]["latents"]
        if predicted[1:] != (channels, *latents[2:]):
            raise MachineError(f"the UNet makes latents {(channels, *latents[2:])}, the decoder takes {predicted[1:]}")
        workspaces = [unet.memory_size(self._unet[size]) for size in self._sizes]
        workspaces += [decoder.memory_size(self._decoder[size]) for size in self._sizes]
        sizes = {
            "items": -(-batch * ITEM.itemsize // 256) * 256,
            "latents": batch * self._elements[0] * self.dtype.itemsize,
            "tokens": batch * self._elements[1] * self.dtype.itemsize,
            "prediction": int(np.prod(predicted)) * self._latent_dtype.itemsize,
            "workspace": max(workspaces),
        }
        for name, size in sizes.items():
            self._memories[name] = DeviceMemory(self._device, size)
        for _ in range(SLOTS):
            self.slots.append(Slot(self._device, batch, (tokens[1], tokens[2]), self.dtype, self.frame))

    def _build(self, size: int, unet: Plan, decoder: Plan) -> BatchGraph:
        """The work of one batch size, captured unless that has failed before."""
        if self.captured:
            try:
                return self._batch_graph(size, unet, decoder, capture=True)
            except CaptureError as error:  # its contexts are left behind: a capture that hangs still has them
                log.warning("%s: going on without CUDA graphs", error)
                self.captured = False
        return self._batch_graph(size, unet, decoder, capture=False)

    def _batch_graph(self, size: int, unet: Plan, decoder: Plan, capture: bool) -> BatchGraph:
        workspace = self._memories["workspace"]
        predict = unet.context(self._unet[size], workspace, self.compute)
        decode = decoder.context(self._decoder[size], workspace, self.compute)
        shape = decode.shape("images")
        self._side = shape[-1]
        if "images" not in self._memories:
            whole = int(np.prod(shape[1:])) * self.batch * self._face_dtype.itemsize
            self._memories["images"] = DeviceMemory(self._device, whole)
            self._memories["matched"] = DeviceMemory(self._device, matched_bytes(self._side) * self.batch)
        for name in ("latents", "tokens", "prediction"):
            predict.set_address(name, self._memories[name].address)
        decode.set_address("latents", self._memories["prediction"].address)
        decode.set_address("images", self._memories["images"].address)

        def enqueue(stream: Any, record: RecordEvent) -> None:
            self._gather(stream)
            predict.enqueue(int(stream.handle))
            record("unet_end")
            decode.enqueue(int(stream.handle))
            record("decoder_end")
            self._match(stream)
            self._compose(stream)

        return BatchGraph(enqueue, [predict, decode], self._device, self.compute, capture, self.slots[0].events)

    def _gather(self, stream: Any) -> None:
        items, latents, tokens = (self._memories[name].address for name in ("items", "latents", "tokens"))
        self._kernels.gather(stream, items, self.batch, latents, tokens, self._elements, self.dtype)

    def _match(self, stream: Any) -> None:
        items, images, matched = (self._memories[name].address for name in ("items", "images", "matched"))
        self._kernels.match(stream, items, self.batch, images, matched, self._side, self._face_dtype)

    def _compose(self, stream: Any) -> None:
        items, matched = (self._memories[name].address for name in ("items", "matched"))
        self._kernels.compose(stream, items, self.batch, matched, self._side, self.frame)


def _by_batch(plan: Plan) -> dict[int, int]:
    """Profile numbers by batch size."""
    return {shapes["latents"][0]: profile for profile, shapes in enumerate(plan.profiles)}


def _common_dtype(a: Plan, first: str, b: Plan, second: str) -> Any:
    if a.dtype(first) != b.dtype(second):
        raise MachineError(f"{first} is {a.dtype(first)} and {second} {b.dtype(second)}: run build-engines again")
    return a.dtype(first)

"""The engines of a bundle on TensorRT."""

import threading
from functools import cached_property
from typing import Any

import numpy as np

from musetalk_runtime.audio.states import States
from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.backends.cuda.avatar import GpuAvatar
from musetalk_runtime.backends.cuda.device import open_device
from musetalk_runtime.backends.cuda.kernels import Kernels
from musetalk_runtime.backends.interface import ALL, NewFrame, empty_frame
from musetalk_runtime.backends.trt.chain import Chain
from musetalk_runtime.backends.trt.plan import Plan
from musetalk_runtime.backends.trt.plan_files import PlanFiles
from musetalk_runtime.backends.trt.pool import AvatarPool, ChainPool
from musetalk_runtime.backends.trt.renderer import GpuOptions, GpuRenderer, PoolAccess
from musetalk_runtime.core.arrays import Floats
from musetalk_runtime.core.errors import InvalidArgument
from musetalk_runtime.core.timings import Timings

DEFAULT_OPTIONS = GpuOptions()


class TensorRtEngines:
    """The plans of a bundle, each loaded when it is first used. See ``Engines``. Safe to share.

    ``options`` says how renderers made from now on work, and may be replaced. The first use raises MachineError unless
    the plans were certified on this machine. What renderers need is kept for the next one, until `close`.
    """

    parallel_renderers = 2  # a batch alone does not fill a large GPU

    def __init__(self, files: PlanFiles, options: GpuOptions = DEFAULT_OPTIONS) -> None:
        self._files = files
        self.options = options
        self.new_frame: NewFrame = empty_frame
        self._plans: dict[str, Plan] = {}
        self._capturable = files.cuda_graph
        self._lock = threading.RLock()

    def check(self) -> None:
        with self._lock:
            self._device.set_current()
            Kernels(self._files.cubin())

    def encode_images(self, images: Floats) -> Floats:
        plan = self._plan("vae_encoder")
        profiles = {shapes["images"][0]: number for number, shapes in enumerate(plan.profiles)}
        parts: list[Floats] = []
        while sum(map(len, parts)) < len(images):
            rest = images[sum(map(len, parts)) :]
            size = min((size for size in profiles if size >= len(rest)), default=max(profiles))
            padded = np.resize(rest[:size], (size, *images.shape[1:]))
            latents = plan.run(profiles[size], {"images": padded})["latents"]
            parts.append(latents[: len(rest)].astype(np.float32))
        return np.concatenate(parts)

    def encode_audio(self, mel: Floats, rows: slice = ALL) -> States:
        plan = self._plan("audio_encoder")
        lengths = {shapes["mel"][2]: number for number, shapes in enumerate(plan.profiles)}
        if mel.shape[1] not in lengths:
            raise InvalidArgument(
                f"{mel.shape[1]} mel frames (of 10 ms), the bundle's audio encoder takes "
                f"{' or '.join(map(str, sorted(lengths)))}: run build-engines for this length"
            )
        states: States = plan.run(lengths[mel.shape[1]], {"mel": mel[None]}, rows)["states"][0]
        return states

    def group(self, avatar: Avatar) -> tuple[int, int]:
        """Those of one frame size, which the kernels are launched for."""
        return avatar.width, avatar.height

    def renderer(self, avatar: Avatar, timings: Timings) -> GpuRenderer:
        pools = PoolAccess(self._acquire_avatar, self._release_avatar, self._release_chain, self.new_frame)
        with self._lock:
            options, loaded = self.options, self._acquire_avatar(avatar)
            try:
                chain = self._acquire_chain(self.group(avatar), options.cuda_graph)
                try:
                    return GpuRenderer(chain, loaded, timings, options, self._device, pools)
                except BaseException:
                    self._release_chain(chain)
                    raise
            except BaseException:
                self._release_avatar(loaded)
                raise

    def close(self) -> None:
        """See ``Engines.close``; renderers must be closed before."""
        with self._lock:
            for name in ("_chains", "_avatars"):
                if name in self.__dict__:
                    self.__dict__.pop(name).close()
            for plan in self._plans.values():
                plan.close()
            self._plans.clear()
            for name in ("_kernels", "_device"):
                self.__dict__.pop(name, None)

    def _plan(self, graph: str) -> Plan:
        if graph in self._plans:  # without the lock, which is held while an avatar is uploaded
            return self._plans[graph]
        with self._lock:
            if graph not in self._plans:
                device, files = self._device, self._files
                self._plans[graph] = Plan.load(
                    files.plan(graph), device, files.runtime_library, files.runtime_cache(graph)
                )
            return self._plans[graph]

    def _acquire_avatar(self, avatar: Avatar) -> GpuAvatar:
        with self._lock:
            self._device.set_current()
            return self._avatars.acquire(avatar)

    def _release_avatar(self, avatar: GpuAvatar) -> None:
        with self._lock:
            self._avatars.release(avatar)

    def _acquire_chain(self, frame: tuple[int, int], cuda_graph: bool) -> Chain:
        with self._lock:
            unet, decoder = self._plan("unet"), self._plan("vae_decoder")
            chain = self._chains.acquire(unet, decoder, self._kernels, frame, cuda_graph and self._capturable)
            self._capturable &= chain.captured or not cuda_graph
            return chain

    def _release_chain(self, chain: Chain) -> None:
        with self._lock:
            self._chains.release(chain)

    @cached_property
    def _device(self) -> Any:
        self._files.check()
        return open_device()

    @cached_property
    def _kernels(self) -> Kernels:
        return Kernels(self._files.cubin())

    @cached_property
    def _avatars(self) -> AvatarPool:
        return AvatarPool(self._device)

    @cached_property
    def _chains(self) -> ChainPool:
        return ChainPool(self._device, self._files.largest_batch)

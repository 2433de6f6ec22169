"""Pools of avatars on the GPU and of chains, which take long to make and are kept for the next renderer.

Not safe to share by themselves: ``TensorRtEngines`` holds a lock around them.
"""

from functools import partial
from typing import Any

from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.backends.cuda.avatar import GpuAvatar
from musetalk_runtime.backends.cuda.kernels import Kernels
from musetalk_runtime.backends.trt.chain import Chain
from musetalk_runtime.backends.trt.plan import Plan
from musetalk_runtime.core.errors import MachineError

MAX_IDLE_AVATARS = 2
MAX_IDLE_CHAINS = 2


class AvatarPool:
    """Avatars on the GPU, shared by the renderers that show them; the last MAX_IDLE_AVATARS that nobody shows stay."""

    def __init__(self, device: Any) -> None:
        self._device = device
        self._users: dict[GpuAvatar, int] = {}  # how many; least recently used first

    def acquire(self, avatar: Avatar) -> GpuAvatar:
        """`avatar` on the GPU, uploaded if it is not there; raises MachineError where it does not fit."""
        found = next((loaded for loaded in self._users if loaded.avatar is avatar), None)
        if found is None:
            found = self._upload(avatar)
        self._users[found] = self._users.pop(found, 0) + 1
        return found

    def release(self, avatar: GpuAvatar) -> None:
        """Undo one `acquire` of `avatar`."""
        if avatar in self._users:
            self._users[avatar] = self._users.pop(avatar) - 1
            self._drop_idle(MAX_IDLE_AVATARS)

    def close(self) -> None:
        """Free all of them. Closing twice is fine."""
        while self._users:
            self._users.popitem()[0].close()

    def _upload(self, avatar: Avatar) -> GpuAvatar:
        try:
            return GpuAvatar(avatar, self._device)
        except MachineError:
            if not self._drop_idle(0):
                raise
            return GpuAvatar(avatar, self._device)

    def _drop_idle(self, keep: int) -> int:
        """Free those nobody shows but the last `keep`; how many."""
        idle = [avatar for avatar, users in self._users.items() if users == 0]
        dropped = idle[: max(0, len(idle) - keep)]
        for avatar in dropped:
            del self._users[avatar]
            avatar.close()
        return len(dropped)


class ChainPool:
    """Chains nobody uses, by frame size; a chain is for one renderer at a time. The last MAX_IDLE_CHAINS stay."""

    def __init__(self, device: Any, largest_batch: int | None = None) -> None:
        self._device = device
        self._largest_batch = largest_batch
        self._idle: list[tuple[Any, Chain]] = []
        self._in_use: dict[Chain, Any] = {}

    def acquire(self, unet: Plan, decoder: Plan, kernels: Kernels, frame: tuple[int, int], cuda_graph: bool) -> Chain:
        """A chain for frames of `frame` (width, height), made if none is idle."""
        key = frame, cuda_graph
        found = next((entry for entry in reversed(self._idle) if entry[0] == key), None)
        if found:
            self._idle.remove(found)
        chain: Chain = found[1] if found else self._make(unet, decoder, kernels, frame, cuda_graph)
        self._in_use[chain] = key
        return chain

    def release(self, chain: Chain) -> None:
        """Let the next renderer have `chain`, on which nothing runs any more."""
        if chain in self._in_use:
            self._idle.append((self._in_use.pop(chain), chain))
        self._drop_idle(MAX_IDLE_CHAINS)

    def close(self) -> None:
        """Free all of them. Closing twice is fine."""
        self._drop_idle(0)
        while self._in_use:
            self._in_use.popitem()[0].close()

    def _make(self, unet: Plan, decoder: Plan, kernels: Kernels, frame: tuple[int, int], cuda_graph: bool) -> Chain:
        make = partial(Chain, self._device, unet, decoder, kernels, frame, cuda_graph, self._largest_batch)
        try:
            return make()
        except MachineError:  # no memory; in TensorRT 8.6 also a profile that an idle chain occupies
            if not self._idle:
                raise
        self._drop_idle(0)
        return make()

    def _drop_idle(self, keep: int) -> None:
        while len(self._idle) > keep:
            self._idle.pop(0)[1].close()

"""What renderers borrow: avatars on the GPU, and chains. Both take long to make and are kept for the next one.

Not safe to share by themselves: ``TensorRtEngines`` holds a lock around them.
"""

from typing import Any

from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.backends.cuda.avatar import GpuAvatar
from musetalk_runtime.backends.cuda.kernels import Kernels
from musetalk_runtime.backends.trt.chain import Chain
from musetalk_runtime.backends.trt.plan import Plan
from musetalk_runtime.core.errors import MachineError

IDLE_AVATARS = 2
IDLE_CHAINS = 2


class AvatarStock:
    """Avatars on the GPU, shared by the renderers that show them; the last IDLE_AVATARS that nobody shows stay."""

    def __init__(self, device: Any) -> None:
        self._device = device
        self._held: dict[GpuAvatar, int] = {}  # users; least recently used first

    def borrow(self, avatar: Avatar) -> GpuAvatar:
        """`avatar` on the GPU, uploaded if it is not there; raises MachineError where it does not fit."""
        found = next((held for held in self._held if held.avatar is avatar), None)
        if found is None:
            found = self._upload(avatar)
        self._held[found] = self._held.pop(found, 0) + 1
        return found

    def give_back(self, avatar: GpuAvatar) -> None:
        """Say that one who borrowed `avatar` no longer needs it."""
        if avatar in self._held:
            self._held[avatar] = self._held.pop(avatar) - 1
            self._drop_idle(IDLE_AVATARS)

    def close(self) -> None:
        """Free all of them. Closing twice is fine."""
        while self._held:
            self._held.popitem()[0].close()

    def _upload(self, avatar: Avatar) -> GpuAvatar:
        try:
            return GpuAvatar(avatar, self._device)
        except MachineError:
            if not self._drop_idle(0):
                raise
            return GpuAvatar(avatar, self._device)

    def _drop_idle(self, kept: int) -> int:
        """Free those nobody shows but the last `kept`; how many."""
        idle = [avatar for avatar, users in self._held.items() if users == 0]
        dropped = idle[: max(0, len(idle) - kept)]
        for avatar in dropped:
            del self._held[avatar]
            avatar.close()
        return len(dropped)


class ChainStock:
    """Chains nobody uses, by frame size; a chain is for one renderer at a time. The last IDLE_CHAINS stay."""

    def __init__(self, device: Any) -> None:
        self._device = device
        self._idle: list[tuple[Any, Chain]] = []
        self._lent: dict[Chain, Any] = {}

    def borrow(self, unet: Plan, decoder: Plan, kernels: Kernels, frame: tuple[int, int], cuda_graph: bool) -> Chain:
        """A chain for frames of `frame` (width, height), made if none is idle."""
        key = frame, cuda_graph
        found = next((entry for entry in reversed(self._idle) if entry[0] == key), None)
        if found:
            self._idle.remove(found)
        chain: Chain = found[1] if found else self._make(unet, decoder, kernels, frame, cuda_graph)
        self._lent[chain] = key
        return chain

    def give_back(self, chain: Chain) -> None:
        """Let the next renderer have `chain`, on which nothing runs any more."""
        if chain in self._lent:
            self._idle.append((self._lent.pop(chain), chain))
        self._drop_idle(IDLE_CHAINS)

    def close(self) -> None:
        """Free all of them. Closing twice is fine."""
        self._drop_idle(0)
        while self._lent:
            self._lent.popitem()[0].close()

    def _make(self, *parts: Any) -> Chain:
        try:
            return Chain(self._device, *parts)
        except MachineError:  # no memory; in TensorRT 8.6 also a profile that an idle chain occupies
            if not self._idle:
                raise
        self._drop_idle(0)
        return Chain(self._device, *parts)

    def _drop_idle(self, kept: int) -> None:
        while len(self._idle) > kept:
            self._idle.pop(0)[1].close()

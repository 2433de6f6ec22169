"""What differs between TensorRT versions, behind one interface; names of an enum's members only: values differ too."""

from collections.abc import Callable
from typing import Any, Protocol

from musetalk_engines.trt.plan_spec import Wanted
from musetalk_runtime.core.errors import MachineError


class Dialect(Protocol):
    """How one family of versions is told what to build."""

    def network_flags(self) -> int:
        """For ``Builder.create_network``."""

    def constrain(self, network: Any, config: Any, wanted: Wanted, /) -> int:
        """Make the parsed `network` what is `wanted`. Returns how many layers were touched."""

    def watch(self, config: Any, progress: Callable[[str], None], /) -> bool:
        """Have the builder report its progress; False where it cannot."""


def is_strongly_typed(version: str) -> bool:
    """Whether this TensorRT ``version`` (``8.6.0``) types strongly here; raises MachineError if it is none of ours."""
    major, minor = (int(number) for number in version.split(".")[:2])
    if (major, minor) < (8, 6) or major == 9:
        raise MachineError(f"TensorRT {version} is not supported: install 8.6, 10 or 11")
    return major >= 10


def dialect(version: str) -> Dialect:
    """The dialect of TensorRT `version`, which must be installed."""
    if is_strongly_typed(version):
        from musetalk_engines.trt.families.strongly_typed import Strong

        return Strong()
    from musetalk_engines.trt.families.weakly_typed import Weak

    return Weak()

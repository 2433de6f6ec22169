"""The GPUs that TensorRT for RTX builds for."""

from musetalk_runtime.backends.trt.rtx import ARCHITECTURES
from musetalk_runtime.core.errors import InvalidArgument

TARGETS = {
    "gb10": ("sm_121",),
    "rtx50": ("sm_120",),
    "rtx40": ("sm_89",),
    "ampere": ("sm_80", "sm_86"),
    "turing": ("sm_75",),
}


def parse_targets(text: str) -> tuple[str, ...]:
    """The compute capabilities, ascending, of ``gb10,rtx40`` or ``sm_121`` or ``all``; raises InvalidArgument."""
    found: set[str] = set()
    for word in text.lower().split(","):
        if word == "all":
            found.update(ARCHITECTURES)
        elif word in TARGETS:
            found.update(TARGETS[word])
        elif word in ARCHITECTURES:
            found.add(word)
        else:
            raise InvalidArgument(
                f"{word!r} is no GPU of TensorRT for RTX: expected {', '.join(TARGETS)}, all, or some of "
                f"{', '.join(ARCHITECTURES)}, with commas between"
            )
    return tuple(name for name in ARCHITECTURES if name in found)

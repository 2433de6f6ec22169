"""The extra ``webrtc``: whether it is installed."""

from functools import cache
from importlib.util import find_spec


@cache
def has_webrtc() -> bool:
    """Whether WebRTC can be offered."""
    return find_spec("aiortc") is not None

"""The CUDA stream of an application, as ours."""

from typing import Any

from musetalk_runtime.core.errors import InvalidArgument

DEFAULT_STREAMS = (0, 1, 2)  # handles: null, legacy, per-thread


def application_stream(stream: Any) -> Any:
    """`stream`, a handle (int) or an object with ``__cuda_stream__``, as a ``cuda.core.Stream``; it stays its owner's.

    A CUDA context must be current. Raises InvalidArgument for anything else, and for the default streams.
    """
    from cuda.core import Device, Stream

    if not isinstance(stream, int) and not hasattr(stream, "__cuda_stream__"):
        raise InvalidArgument(f"{stream!r} is no CUDA stream: give its handle (int) or an object with __cuda_stream__")
    handle = stream if isinstance(stream, int) else stream.__cuda_stream__()[1]
    if handle in DEFAULT_STREAMS:
        raise InvalidArgument("a default stream was given, which would wait for everything: create a stream")
    return Stream.from_handle(stream) if isinstance(stream, int) else Device().create_stream(stream)

"""The driver's calls that enqueue work and return at once, made with the interpreter's lock (GIL) held.

``cuda.core`` and ``cuda.bindings`` let it go in every call, and must have it back after each, behind all threads that
want it. A batch needs some twenty such calls: in a service with forty sessions they took longer than the GPU, which was
idle. Calls that wait for the GPU are ``cuda.core``'s, which let the lock go.

Events, streams and graphs are those of ``cuda.core``. All raise as `check` does.
"""

import ctypes
from functools import cache
from typing import Any

from musetalk_runtime.backends.cuda.device import check

HANDLE, ADDRESS = ctypes.c_void_p, ctypes.c_uint64
SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuCtxGetCurrent": (ctypes.POINTER(HANDLE),),
    "cuCtxSetCurrent": (HANDLE,),
    "cuEventElapsedTime": (ctypes.POINTER(ctypes.c_float), HANDLE, HANDLE),
    "cuEventRecord": (HANDLE, HANDLE),
    "cuGraphExecEventRecordNodeSetEvent": (HANDLE, HANDLE, HANDLE),
    "cuGraphLaunch": (HANDLE, HANDLE),
    "cuMemcpyAsync": (ADDRESS, ADDRESS, ctypes.c_size_t, HANDLE),
    "cuStreamWaitEvent": (HANDLE, HANDLE, ctypes.c_uint),
}


@cache
def libcuda() -> Any:
    """The driver's library, whose functions are called with the lock held."""
    found = ctypes.PyDLL("libcuda.so.1")
    for name, arguments in SIGNATURES.items():
        getattr(found, name).argtypes = arguments
    return found


def current_context() -> int:
    """The CUDA context that is current in the calling thread, for `make_current`."""
    context = HANDLE()
    _call("cuCtxGetCurrent", ctypes.byref(context))
    return context.value or 0


def make_current(context: int) -> None:
    """Make `context` current in the calling thread."""
    _call("cuCtxSetCurrent", context)


def copy(to: int, source: int, size: int, stream: Any) -> None:
    """Enqueue a copy of `size` bytes between any two addresses on `stream`."""
    if size:
        _call("cuMemcpyAsync", to, source, size, int(stream.handle))


def record(event: Any, stream: Any) -> None:
    """Record `event` on `stream`."""
    _call("cuEventRecord", int(event.handle), int(stream.handle))


def wait(stream: Any, event: Any) -> None:
    """Let what is enqueued on `stream` from now on wait for `event`."""
    _call("cuStreamWaitEvent", int(stream.handle), int(event.handle), 0)


def elapsed(begin: Any, end: Any) -> float:
    """Milliseconds between two events that are over."""
    found = ctypes.c_float()
    _call("cuEventElapsedTime", ctypes.byref(found), int(begin.handle), int(end.handle))
    return found.value


def set_event(graph: Any, node: Any, event: Any) -> None:
    """Let the `node` of `graph` record `event` from the next launch on."""
    _call("cuGraphExecEventRecordNodeSetEvent", int(graph.handle), int(node), int(event.handle))


def launch(graph: Any, stream: Any) -> None:
    """Enqueue `graph` on `stream`."""
    _call("cuGraphLaunch", int(graph.handle), int(stream.handle))


def _call(name: str, *arguments: Any) -> None:
    if status := getattr(libcuda(), name)(*arguments):
        from cuda.bindings import driver

        check((driver.CUresult(status),))

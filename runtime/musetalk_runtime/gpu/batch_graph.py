"""The work of one batch size, as a CUDA graph."""

from collections.abc import Callable
from typing import Any

from musetalk_runtime.errors import MachineError
from musetalk_runtime.gpu.tensorrt_api import Context


class BatchGraph:
    """Runs `enqueue` on a stream: by a graph captured from it, or by calling it each time.

    `enqueue` takes a stream and always enqueues the same work at the same addresses; `contexts` are TensorRT's in it,
    kept and closed here. It runs once on the idle `stream` to warm up, and is captured there.
    """

    def __init__(self, enqueue: Callable[[Any], None], contexts: list[Context], stream: Any, capture: bool) -> None:
        self._enqueue = enqueue
        self._contexts = contexts
        self._graph: Any = None
        enqueue(stream)
        stream.sync()
        if capture:
            self._graph = _capture(enqueue, stream)

    def launch(self, stream: Any) -> None:
        """Enqueue the work on `stream`."""
        if self._graph is None:
            self._enqueue(stream)
        else:
            self._graph.launch(stream)

    def close(self) -> None:
        """Release the graph and the contexts, once they do not run. Closing twice is fine."""
        if self._graph is not None:
            self._graph.close()
            self._graph = None
        while self._contexts:
            self._contexts.pop().close()


def _capture(enqueue: Callable[[Any], None], stream: Any) -> Any:
    builder = stream.create_graph_builder()
    try:
        builder.begin_building("relaxed")  # TensorRT may allocate while it is captured
        enqueue(builder.stream)
        graph = builder.end_building().complete()
    except Exception as error:  # cuda.core's errors have no public base
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MachineError(f"capturing a CUDA graph failed ({reason}): run without CUDA graphs") from error
    finally:
        builder.close()
    graph.upload(stream)
    stream.sync()
    return graph

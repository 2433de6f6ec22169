"""The CUDA graph of one batch size."""

import threading
from collections.abc import Callable
from typing import Any

from musetalk_runtime.backends.cuda.device import check
from musetalk_runtime.backends.cuda.driver_calls import launch, record, set_event
from musetalk_runtime.backends.trt.tensorrt_api import Context
from musetalk_runtime.core.errors import MachineError

CAPTURE_TIMEOUT_S = 30.0  # a capture takes some 10 ms; on DGX Spark some are reported to hang for ever

RecordEvent = Callable[[str], Any]
Events = dict[str, Any]


class BatchGraph:
    """Runs `enqueue` on a stream: by a graph captured from it, or by calling it each time.

    `enqueue` takes a stream and ``record``, which it calls with the name of an event to record between its parts. It
    always enqueues the same work at the same addresses; `contexts` are TensorRT's in it, kept and closed here. It runs
    once on the idle `stream` to warm up, and is captured then if `capture` says so. `events` are those of any slot, and
    outlive the graph. Raises CaptureError where capturing fails or hangs.
    """

    def __init__(
        self,
        enqueue: Callable[[Any, RecordEvent], None],
        contexts: list[Context],
        device: Any,
        stream: Any,
        capture: bool,
        events: Events,
    ) -> None:
        self._enqueue = enqueue
        self._contexts = contexts
        self._graph: CapturedGraph | None = None
        self._run(stream, events)
        stream.sync()
        if capture:
            if not all(context.can_be_captured(int(stream.handle)) for context in contexts):
                raise CaptureError("TensorRT says that this work cannot be captured in a CUDA graph")
            self._graph = _within_time(device, lambda: CapturedGraph(enqueue, device, events))
            self._graph.upload(stream)
            stream.sync()

    def launch(self, stream: Any, events: Events) -> None:
        """Enqueue the work on `stream`; it records those of `events` that ``record`` names."""
        if self._graph is None:
            self._run(stream, events)
        else:
            self._graph.launch(stream, events)

    def close(self) -> None:
        """Release the graph and the contexts, once they do not run. Closing twice is fine."""
        if self._graph is not None:
            self._graph.close()
            self._graph = None
        while self._contexts:
            self._contexts.pop().close()

    def _run(self, stream: Any, events: Events) -> None:
        self._enqueue(stream, lambda name: record(events[name], stream))


class CaptureError(MachineError):
    """A CUDA graph cannot be captured here: the same work runs without one, a little slower."""


class CapturedGraph:
    """A graph that records events of the caller's choice, though up to four of its launches are on their way at once.

    Each is a node of the graph, which is told before a launch what event to record; launches before keep theirs.
    """

    def __init__(self, enqueue: Callable[[Any, RecordEvent], None], device: Any, events: Events) -> None:
        self._nodes: dict[str, Any] = {}
        self._builder = device.create_graph_builder()  # has a stream of its own; its graph owns the nodes
        try:
            self._builder.begin_building("relaxed")  # TensorRT may allocate while it is captured
            enqueue(self._builder.stream, lambda name: self._add_node(name, events[name]))
            self._graph = self._builder.end_building().complete()
        except Exception as error:  # cuda.core's errors have no public base
            self._builder.close()
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CaptureError(f"capturing a CUDA graph failed ({reason})") from error

    def upload(self, stream: Any) -> None:
        """Bring the graph to the GPU ahead of its first launch."""
        self._graph.upload(stream)

    def launch(self, stream: Any, events: Events) -> None:
        """Enqueue the graph on `stream`, to record `events`."""
        for name, node in self._nodes.items():
            set_event(self._graph, node, events[name])
        launch(self._graph, stream)

    def close(self) -> None:
        """Release the graph, once it does not run."""
        self._graph.close()
        self._builder.close()

    def _add_node(self, name: str, event: Any) -> None:
        """Make the recording of `event` a node of the graph, and note which."""
        from cuda.bindings import driver

        stream = self._builder.stream.handle
        external = int(driver.CUevent_record_flags.CU_EVENT_RECORD_EXTERNAL)
        check(driver.cuEventRecordWithFlags(event.handle, stream, external))
        _, _, _, last, *_ = check(driver.cuStreamGetCaptureInfo(stream))  # the rest differs between CUDA 12 and 13
        self._nodes[name] = last[0]


def _within_time(device: Any, capture: Callable[[], CapturedGraph]) -> CapturedGraph:
    """What `capture` gives; raises CaptureError if it is not done in time, and leaves it to itself then."""
    done: list[CapturedGraph | BaseException] = []

    def run() -> None:
        try:
            device.set_current()
            done.append(capture())
        except BaseException as error:  # told to the caller, whatever it is
            done.append(error)

    thread = threading.Thread(target=run, name="capture", daemon=True)
    thread.start()
    thread.join(CAPTURE_TIMEOUT_S)
    if not done:
        raise CaptureError(f"capturing a CUDA graph hangs: it was not done after {CAPTURE_TIMEOUT_S:g} s")
    if isinstance(done[0], BaseException):
        raise done[0]
    return done[0]

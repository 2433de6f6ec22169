"""The thread that owns a bundle's generator, and makes the frames of all its sessions."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.backends.interface import FrameRequest, MixedRenderer, Rendering
from musetalk_runtime.bundle import Bundle
from musetalk_runtime.core.closable import Closable
from musetalk_runtime.core.errors import MachineError, MuseTalkEdgeError, one_line
from musetalk_runtime.core.model import HOP, SAMPLE_RATE
from musetalk_runtime.core.timings import Timings
from musetalk_runtime.service.errors import EngineFailed
from musetalk_runtime.service.scheduling.frame_job import FrameJob, PendingFrames, Timetable
from musetalk_runtime.service.scheduling.job_queue import JobQueue
from musetalk_runtime.service.scheduling.round_robin import RoundRobinRenderer

BATCH_TIMEOUT_S = 60.0  # seconds that one batch may take
log = logging.getLogger(__name__)


class EngineWorker(Closable):
    """Batches the frames of all sessions of `bundle`, whatever avatars they show: the most urgent first.

    What has come while the engines were busy goes together, and frames that are not urgent wait a moment for more.
    Where the engines fail, so do all sessions, and those that would begin: ``error`` is what happened then, in one
    line. Safe from any thread.

    `on_batch` gets the number of faces of each batch, `timings` the times of the generator's stages.
    """

    def __init__(self, bundle: Bundle, timings: Timings, on_batch: Callable[[int], None]) -> None:
        self.bundle = bundle
        self.error: str | None = None
        self._timings = timings
        self._on_batch = on_batch
        self._renderers: dict[Hashable, MixedRenderer] = {}
        self._users: dict[Hashable, int] = {}
        self._opening = threading.Lock()
        self.finished = 0  # batches, and answers to `probe`
        self._jobs = JobQueue()
        self._probed = False
        self._changed = threading.Condition()
        self._stopped = False
        self._busy_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def renderer(self, avatar: Avatar, timetable: Timetable) -> "SharedRenderer":
        """A session's renderer for `avatar`; raises EngineFailed, and MachineError where there is no room for it."""
        self._check()
        group = self.bundle.engines.group(avatar)
        with self._opening:
            if group in self._renderers:
                self._renderers[group].hold(avatar)
            else:
                engines = self.bundle.engines
                self._renderers[group] = RoundRobinRenderer(
                    lambda: engines.renderer(avatar, self._timings), engines.parallel_renderers
                )
            self._users[group] = self._users.get(group, 0) + 1
        return SharedRenderer(self, avatar, group, timetable)

    def submit(self, jobs: Sequence[FrameJob]) -> None:
        """Make these frames, sooner or later; raises EngineFailed."""
        with self._changed:
            self._check()
            self._jobs.add(jobs)
            self._changed.notify_all()

    def leave(self, renderer: "SharedRenderer") -> None:
        """Drop what waits for `renderer`, wait for what is under way, and let go of its avatar."""
        with self._changed:
            for job in self._jobs.drop(renderer):
                job.frames.fail(RuntimeError("the renderer is closed"))
            self._changed.wait_for(lambda: renderer.under_way == 0 or self.error is not None or self._stopped)
            if self.error is not None:  # what failed engines hold goes with the process
                return
        with self._opening:
            self._users[renderer.group] -= 1
            if self._users[renderer.group]:
                self._renderers[renderer.group].release(renderer.avatar)
            else:
                self._renderers.pop(renderer.group).close()

    def probe(self) -> None:
        """Have the engines encode a moment of silence once they are free; ``finished`` counts it."""
        with self._changed:
            self._probed = True
            self._changed.notify_all()

    @property
    def queued(self) -> int:
        """Frames that wait to be made."""
        return len(self._jobs)

    def check(self) -> bool:
        """Whether the engines have not come back from a batch for too long; then they are taken to have failed."""
        since = self._busy_since
        if since is None or time.monotonic() - since < BATCH_TIMEOUT_S or self.error is not None:
            return False
        self._fail(MachineError(f"the engines have made nothing for {BATCH_TIMEOUT_S:g} s"), [])
        return True

    def close(self) -> None:
        """End the thread, once all sessions have ended. Closing twice is fine."""
        self.end()

    def end(self, timeout: float | None = None) -> bool:
        """End the thread, and wait `timeout` seconds for it at most; whether it has ended."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _check(self) -> None:
        if self.error is not None:
            raise EngineFailed(self.error)

    def _run(self) -> None:
        under_way: deque[tuple[list[FrameJob], Rendering]] = deque()
        jobs: list[FrameJob] = []
        try:
            while True:
                jobs = self._take(wait=not under_way)
                self._busy_since = time.monotonic()
                if jobs:
                    under_way.append((jobs, self.begin(jobs)))
                if len(under_way) > self.bundle.engines.parallel_renderers or (
                    under_way and not jobs
                ):  # one comes back from them
                    self._finish(*under_way.popleft())
                elif not jobs and not self.answer_probe():
                    return
                self._busy_since = None
        except Exception as error:
            self._fail(error, jobs)

    def _take(self, wait: bool) -> list[FrameJob]:
        """The next batch; empty if there is none that is full or urgent and it need not `wait`, or at the end."""
        size = self.bundle.batch_sizes[-1]
        with self._changed:
            patience = self._jobs.patience(size)
            while wait and not (self._stopped or self._probed) and (patience is None or patience > 0):
                self._changed.wait(patience)
                patience = self._jobs.patience(size)
            ready = self._stopped or (patience is not None and patience <= 0)
            batch = self._jobs.take(size) if ready else []
            for job in batch:
                job.owner.under_way += 1
            return batch

    def answer_probe(self) -> bool:
        """Answer a probe; whether there was one."""
        if not self._probed:
            return False
        self._probed = False
        frames = round(self.bundle.live_context * SAMPLE_RATE) // HOP
        self.bundle.engines.encode_audio(np.zeros((self.bundle.spec.mel_bins, frames), np.float32))
        self.finished += 1
        return True

    def begin(self, jobs: list[FrameJob]) -> Rendering:
        """Hand a batch to the engines. For the worker's own thread."""
        requests = [job.request for job in jobs]
        rendering = self._renderers[jobs[0].owner.group].render(requests)
        for row, job in enumerate(jobs):
            job.frames.set(job.place, rendering, row)
        if faces := sum(request.speaks for request in requests):
            self._on_batch(faces)
        return rendering

    def _finish(self, jobs: list[FrameJob], rendering: Rendering) -> None:
        rendering.finish()
        self.finished += 1
        with self._changed:
            for job in jobs:
                job.owner.under_way -= 1
            self._changed.notify_all()

    def _fail(self, error: Exception, jobs: list[FrameJob]) -> None:
        log.error("the engines failed: %s", error, exc_info=error)
        known = isinstance(error, MuseTalkEdgeError)
        with self._changed:
            self.error = one_line(error) if known else f"the engines failed: {type(error).__name__}"
            for job in [*jobs, *self._jobs.clear()]:
                job.frames.fail(EngineFailed(self.error))
            self._changed.notify_all()


class SharedRenderer:
    """One session's frames, made by a worker. See ``Renderer``."""

    def __init__(self, worker: EngineWorker, avatar: Avatar, group: Hashable, timetable: Timetable) -> None:
        self.avatar, self.group, self.timetable = avatar, group, timetable
        self.under_way = 0  # frames; the worker's
        self._worker: EngineWorker | None = worker
        self._own = worker

    def render(self, batch: Sequence[FrameRequest]) -> PendingFrames:
        """Hand `batch` to the worker."""
        frames = PendingFrames(len(batch))
        self._own.submit([FrameJob(request, self, frames, place) for place, request in enumerate(batch)])
        return frames

    def close(self) -> None:
        """Leave the worker. Closing twice is fine."""
        worker, self._worker = self._worker, None
        if worker:
            worker.leave(self)

"""Where the sessions of a service are encoded, and with how many threads."""

import logging
import math
from collections.abc import Iterable
from functools import partial

from musetalk_runtime.bundle import Bundle
from musetalk_runtime.core.closable import Closable
from musetalk_runtime.core.cores import available_cores
from musetalk_runtime.output.processes.encoder_pool import SESSIONS_BEFORE_A_WAIT, EncoderPool
from musetalk_runtime.output.processes.remote_muxer import open_muxer
from musetalk_runtime.output.video import MOST_THREADS
from musetalk_runtime.session_hooks import OpenMuxer

MIN_CORES_FOR_PROCESSES = 4  # cores below which encoder processes gain nothing
log = logging.getLogger(__name__)


class SessionEncoders(Closable):
    """Gives each session what encodes it: a lone one this process, those beside it processes of their own.

    Where there are too few cores for that, all are encoded here. The frames of `bundles` are put into the memory that
    the processes read. Attributes: ``pool`` (of the processes; None where there are none).
    """

    def __init__(self, bundles: Iterable[Bundle]) -> None:
        self._cores = available_cores()
        self.pool = self._open_pool()
        if self.pool:
            for bundle in bundles:
                bundle.engines.new_frame = self.pool.frames.new

    def prepare(self, sessions: int) -> None:
        """Start what `sessions` need that come all at once, and wait for it."""
        if self.pool and sessions > 1 and not self.pool.keep(math.ceil((sessions - 1) / SESSIONS_BEFORE_A_WAIT)):
            log.warning("no encoder process starts: all sessions are encoded in one process")

    def threads(self, running: int) -> int:
        """Of libx264, for one more session."""
        return encoder_threads(self._cores, running + 1)

    def muxer(self, running: int) -> OpenMuxer | None:
        """What encodes one more session beside those that are `running`; None for this process."""
        if self.pool is None:
            return None
        if not running:
            self.pool.prepare()  # for the next one
            return None
        return partial(open_muxer, self.pool)

    def maintain(self) -> None:
        """Give back what has not been used for long; to be called each second."""
        if self.pool:
            self.pool.maintain()

    def close(self) -> None:
        """End the processes, once all sessions have ended. Closing twice is fine."""
        if self.pool:
            self.pool.close()

    def _open_pool(self) -> EncoderPool | None:
        if self._cores < MIN_CORES_FOR_PROCESSES:
            return None
        try:
            return EncoderPool(int(self._cores))
        except OSError as error:
            log.warning("all sessions are encoded in one process, for want of shared memory: %s", error)
            return None


def encoder_threads(cores: float, sessions: int) -> int:
    """Threads of libx264 for each of `sessions` on `cores`: one of many gains nothing by several."""
    return max(1, min(MOST_THREADS, int(cores / sessions)))

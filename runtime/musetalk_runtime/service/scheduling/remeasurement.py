"""Measurements of what sessions cost, repeated while none runs."""

import logging
import threading
import time

from musetalk_runtime.core.errors import MuseTalkEdgeError
from musetalk_runtime.service.catalog import Catalog
from musetalk_runtime.service.scheduling.admission import Admission
from musetalk_runtime.service.scheduling.warm_up import Cancelled, warm_up

FIRST_WAIT_S, LONGEST_WAIT_S = 15.0, 3600.0  # seconds between two, which double

log = logging.getLogger(__name__)


class Remeasurement:
    """Measures again what was measured when the machine may have had other work; the best of all counts.

    `idle` is for each second in which nothing runs, `cancel` for the moment in which something begins: the next one
    waits anew. It takes seconds, in a thread of its own. ``avatar`` is the name of the one that is used by it now.
    """

    def __init__(self, catalog: Catalog, admission: Admission) -> None:
        self._catalog, self._admission = catalog, admission
        self.avatar: str | None = None
        self._wait = FIRST_WAIT_S
        self._due = time.monotonic() + self._wait
        self._cancelled = threading.Event()
        self._thread: threading.Thread | None = None

    def idle(self) -> None:
        """Measure, if it is time to; returns at once."""
        if self._thread is None and self._admission.costs and time.monotonic() > self._due:
            self._cancelled.clear()
            self._thread = threading.Thread(target=self._run, name="remeasurement", daemon=True)
            self._thread.start()

    def cancel(self) -> None:
        """End it soon; what it has seen is dropped."""
        self._cancelled.set()
        self._due = time.monotonic() + self._wait

    def join(self, timeout: float | None = None) -> bool:
        """Wait for its end; whether it has come."""
        thread = self._thread
        if thread:
            thread.join(timeout)
        return not (thread and thread.is_alive())

    def _run(self) -> None:
        admission = self._admission
        try:
            for pairing, known in list(admission.costs.items()):
                if pairing.avatar not in self._catalog.avatars:
                    continue
                self.avatar = pairing.avatar
                bundle, avatar = self._catalog.bundles[pairing.bundle], self._catalog.avatars[pairing.avatar]
                cost = warm_up(bundle, avatar, self._cancelled.is_set)
                if self._cancelled.is_set():
                    return
                admission.costs[pairing] = cost.best(known)
            self._wait = min(2 * self._wait, LONGEST_WAIT_S)
        except Cancelled:
            return
        except (MuseTalkEdgeError, OSError) as error:
            log.warning("what sessions cost could not be measured again: %s", error)
        finally:
            self._due = time.monotonic() + self._wait
            self._thread = self.avatar = None

"""The connection of a command to the cluster."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from musetalk_runtime.core.errors import MachineError
from musetalk_runtime.fleet.cluster.environment import NAMESPACE

CONNECT_TIMEOUT_S = 60.0
POLL_S = 0.5
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # that Ray takes for itself


@contextmanager
def joined(address: str) -> Iterator[None]:
    """This process is in the cluster at `address`, by the node of this machine. Signals do what they did before.

    Raises MachineError where there is none.
    """
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    until = time.monotonic() + CONNECT_TIMEOUT_S
    try:
        while not ray.is_initialized():
            try:
                ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level="error")
            except (ConnectionError, RuntimeError, OSError) as error:
                if time.monotonic() > until:
                    raise MachineError(f"no cluster at {address}, or another secret: {error}") from None
                time.sleep(POLL_S)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        yield
    except SystemError as error:  # what comes out of Ray's own code where a signal's handler raised
        raise error.__cause__ or error from None
    finally:
        ray.shutdown()
        for number, handler in handlers.items():
            signal.signal(number, handler)

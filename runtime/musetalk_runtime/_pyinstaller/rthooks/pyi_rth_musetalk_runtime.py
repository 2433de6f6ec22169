"""What a frozen application does before all else: it is a worker process, if it was started to be one."""

from musetalk_runtime.core.worker import run_if_worker

run_if_worker()

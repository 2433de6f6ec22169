"""``ray start``, as a process that ends with the one that started it."""

import ctypes
import signal

from musetalk_runtime.fleet.cluster.loopback import start_node

PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def main() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    start_node()


if __name__ == "__main__":
    main()

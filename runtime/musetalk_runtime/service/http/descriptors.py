"""The limit of open files and sockets."""

import resource

MOST = 65_536  # descriptors: more would only cost memory
RESERVED = 256  # for files, engines, and what libraries open


def raise_limit() -> int:
    """Raise the soft limit of descriptors to the hard one; how many of them connections may use."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return max(1, (MOST if soft == resource.RLIM_INFINITY else soft) - RESERVED)

"""Messages to the service manager by systemd's protocol: datagrams to the socket that ``NOTIFY_SOCKET`` names."""

import logging
import os
import socket

log = logging.getLogger(__name__)


def notify(state: str) -> None:
    """Send `state`, lines such as ``READY=1``; without a service manager, nothing happens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # a name that is no file
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as teller:
            teller.sendto(state.encode(), address)
    except OSError as error:
        log.warning("the service manager was not told %s: %s", state, error.strerror)


def watchdog_seconds() -> float | None:
    """Seconds within which ``WATCHDOG=1`` is awaited from this process, None if it is not."""
    text, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", str(os.getpid()))
    return int(text) / 1e6 if text.isdecimal() and int(text) > 0 and pid == str(os.getpid()) else None

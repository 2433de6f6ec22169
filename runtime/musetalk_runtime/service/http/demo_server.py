"""The demo's person, served while the engines that were asked for are not ready."""

import logging
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.bundle import Bundle
from musetalk_runtime.demo import AVATAR, BUNDLE
from musetalk_runtime.service.http.server import Server
from musetalk_runtime.service.security.access import Access
from musetalk_runtime.service.service import Service
from musetalk_runtime.service.settings import Settings

log = logging.getLogger(__name__)


@contextmanager
def demo_served(listener: socket.socket, names: Iterable[str], settings: Settings, access: Access) -> Iterator[None]:
    """Serve the demo on `listener`, on the CPU, under each of `names`, in a thread until the context is left.

    Then it is drained as any service: new sessions are refused, and running streams have ``settings.grace`` seconds.
    Clients that come before the next server wait in the socket's backlog. Raises what the opening of a bundle does.
    """
    with Bundle.open(BUNDLE) as bundle, Avatar.open(AVATAR) as avatar:
        service = Service(bundle, dict.fromkeys(names, avatar), settings)
        for warning in service.measure():
            log.warning("%s", warning)
        server = Server(service, access)
        thread = threading.Thread(target=server.run, args=([listener.dup()],), name="demo server")
        thread.start()
        log.warning("the demo is served meanwhile")
        try:
            yield
        finally:
            server.should_exit = True
            thread.join()

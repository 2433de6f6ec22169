"""A rolling update: a new version of a bundle, one device after the other."""

import time
from collections.abc import Callable, Iterable
from typing import Protocol

from musetalk_runtime.core.errors import MachineError, MuseTalkEdgeError, one_line

POLL_S = 0.5


class UpdatableDevice(Protocol):
    """What an update asks of a device. A call that fails raises OSError or MuseTalkEdgeError."""

    name: str

    def drain(self) -> None:
        """Let no new sessions in."""

    def reopen(self) -> None:
        """Let new sessions in again."""

    def sessions(self) -> int:
        """How many run."""

    def update(self, bundle: str, version: str) -> None:
        """Try out a version of a bundle, and serve it; what fails leaves the version before."""


def rolling_update(
    devices: Iterable[UpdatableDevice], bundle: str, version: str, patience: float, progress: Callable[[str], None]
) -> None:
    """Bring `version` of `bundle` to `devices`, each once its sessions have ended, for which it has `patience` seconds.

    Stops at the first device that fails, which then serves as before; raises MachineError. `progress` is told what is
    done, in lines.
    """
    for device in devices:
        progress(f"{device.name}: lets its sessions end")
        device.drain()
        try:
            _wait_for_end(device, patience)
            progress(f"{device.name}: tries the new {bundle}")
            device.update(bundle, version)
        except (MuseTalkEdgeError, OSError) as error:
            raise MachineError(f"{device.name}: {one_line(error)}: the update stops here") from error
        finally:
            device.reopen()
        progress(f"{device.name}: serves the new {bundle}")


def _wait_for_end(device: UpdatableDevice, patience: float) -> None:
    """Wait until no session runs. One that does not answer, as a busy device may, is asked again."""
    until = time.monotonic() + patience
    while True:
        try:
            if not (sessions := device.sessions()):
                return
            error: Exception = MachineError(
                f"{sessions} of its sessions still run after {patience:g} s: give more by --patience"
            )
        except (MachineError, OSError) as silent:
            error = silent
        if time.monotonic() > until:
            raise error
        time.sleep(POLL_S)

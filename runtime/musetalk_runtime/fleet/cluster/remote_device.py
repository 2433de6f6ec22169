"""A device, steered through its actor."""

from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from musetalk_runtime.core.errors import InvalidArgument, MachineError, MuseTalkEdgeError, one_line
from musetalk_runtime.fleet.cluster.actor import device_names, find_actor

TIMEOUT_S = 30.0
UPDATE_TIMEOUT_S = 3600.0  # a bundle is fetched, certified and tried out


class RemoteDevice:
    """The device `name` of the cluster that this process is in.

    Everything raises InvalidArgument where there is none, MachineError where it does not answer, and what the device
    raises.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def entries(self) -> list[str]:
        """The bundles of the registry that it serves."""
        return list(self._ask("entries"))

    def drain(self) -> None:
        """Let no new sessions in."""
        self._ask("drain")

    def reopen(self) -> None:
        """Let new sessions in again."""
        self._ask("reopen")

    def sessions(self) -> int:
        """How many run."""
        return int(self._ask("sessions"))

    def update(self, bundle: str, version: str) -> None:
        """Try out a version of a bundle, and serve it."""
        self._ask("update", bundle, version, timeout=UPDATE_TIMEOUT_S)

    def stop(self) -> None:
        """End its service, and its actor for good."""
        self._ask("stop")
        ray.kill(self._actor())

    def _ask(self, method: str, *arguments: Any, timeout: float = TIMEOUT_S) -> Any:
        try:
            return ray.get(getattr(self._actor(), method).remote(*arguments), timeout=timeout)
        except RayTaskError as error:
            if isinstance(error.cause, MuseTalkEdgeError):
                raise error.cause from None
            raise
        except (RayError, TimeoutError) as error:
            raise MachineError(f"device {self.name} does not answer: {one_line(error)}") from None

    def _actor(self) -> Any:
        try:
            return find_actor(self.name)
        except ValueError:
            raise InvalidArgument(f"no device {self.name!r}: expected one of {device_names()}") from None

"""The environment of Ray's processes: who may join, and what Ray must not do."""

import hmac
import os
from collections.abc import Mapping

from musetalk_runtime.fleet.cluster.loopback import ON_LOOPBACK
from musetalk_runtime.service.security.access import is_loopback

NAMESPACE = "musetalk-edge"
DEVICE_RESOURCE = "musetalk_device"  # each device has one: Ray places an actor by it, and autoscalers count it
HEAD_RESOURCE = "musetalk_head"  # of the head, where the front end runs


def ray_settings(secret: bytes, host: str) -> Mapping[str, str]:
    """The variables that Ray has to find on a machine whose address for it is `host`.

    Tokens of Ray's own, made of the fleet's secret, keep others out of the cluster.
    """
    return {
        **({ON_LOOPBACK: "0"} if is_loopback(host) else {}),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": hmac.new(secret, b"ray", "sha256").hexdigest(),
        "RAY_kill_child_processes_on_worker_exit": "0",  # a device's service outlives the actor that started it
        "RAY_worker_niceness": "0",  # that service inherits what its actor has, which is 15 by default
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # a device is drained by its service
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", ""),  # Ray sets it to 1 where it finds none
    }


def set_environment(secret: bytes, host: str) -> None:
    """Have Ray, in this process and those it starts, find them. Call it before Ray is imported."""
    os.environ.update(ray_settings(secret, host))


def own_resource(device: str) -> str:
    """The resource that only the node of `device` has."""
    return f"{DEVICE_RESOURCE}:{device}"

"""The front end as an application of Ray Serve."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from ray import serve

from musetalk_runtime.fleet.cluster.environment import HEAD_RESOURCE
from musetalk_runtime.fleet.cluster.loopback import keep_replica_on_loopback
from musetalk_runtime.fleet.cluster.ray_directory import RayDirectory
from musetalk_runtime.fleet.front.app import create_front_app
from musetalk_runtime.fleet.front.front import Front
from musetalk_runtime.fleet.registry import Registry
from musetalk_runtime.service.security.access import Access
from musetalk_runtime.service.security.signed_tokens import read_secret
from musetalk_runtime.service.security.tokens import Tokens

NAME = "musetalk-edge"
MAX_REQUESTS = 1000  # that one process of the front end answers at once


@dataclass(frozen=True)
class FrontSettings:
    """The front end at `host` and `port`: `secret` and `tokens` are files, `hosts` and `origins` are as Access has
    them, `processes` is how many share the work. `registry` and `spare` are as Front has them.
    """

    secret: Path
    tokens: Path | None
    host: str
    port: int
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    processes: int = 1
    registry: str | None = None
    spare: int | None = None

    def access(self) -> Access:
        """The rules of access; raises InvalidArgument or InputNotFound."""
        tokens = Tokens(self.tokens) if self.tokens else None
        return Access(tokens, frozenset(host.lower() for host in self.hosts), self.origins)


def deploy(settings: FrontSettings) -> None:
    """Have Ray Serve run the front end, in place of one that it runs already; returns once it answers."""

    def app() -> FastAPI:
        keep_replica_on_loopback()
        registry = Registry(settings.registry) if settings.registry else None
        front = Front(RayDirectory(), read_secret(settings.secret), registry, settings.spare)
        return create_front_app(front, settings.access())

    serve.start(proxy_location="HeadOnly", http_options={"host": settings.host, "port": settings.port})

    @serve.deployment(
        name="front",
        num_replicas=settings.processes,
        max_ongoing_requests=MAX_REQUESTS,
        ray_actor_options={"num_cpus": 0, "resources": {HEAD_RESOURCE: 0.001}},
    )
    @serve.ingress(app)
    class FrontDeployment:
        pass

    deployment: Any = FrontDeployment
    serve.run(deployment.bind(), name=NAME, route_prefix="/")

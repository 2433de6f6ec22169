"""What keeps Ray 2.60 on 127.0.0.1 where it has no setting for that."""

import os

ON_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # at 0, Ray takes 127.0.0.1 as it is, on Linux too


def start_node() -> None:
    """``ray start`` with this process' arguments. A second node may be on 127.0.0.1 too, which Ray refuses with
    ON_LOOPBACK, and puts on another address of the machine without.
    """
    on_loopback = os.environ.pop(ON_LOOPBACK, None)

    from ray._private import services
    from ray.scripts.scripts import start

    if on_loopback is not None:
        os.environ[ON_LOOPBACK] = on_loopback
        services.resolve_ip_for_localhost = lambda host: host
    start()


def keep_replica_on_loopback() -> None:
    """Have a replica of Ray Serve, in whose process this is, take gRPC from this machine alone: it has no tokens. By
    default nothing uses that port.
    """
    from ray._common.tls_utils import add_port_to_grpc_server
    from ray.serve._private import replica

    replica.add_port_to_grpc_server = lambda server, _: add_port_to_grpc_server(server, "127.0.0.1:0")

"""Serve commands over gRPC, with reflection, health and channelz."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import grpc
from grpc_channelz.v1 import channelz, channelz_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ninelives_control.transports.grpc.channelz import ChannelzGuard
from ninelives_control.transports.grpc.service import NAME, SERVICE, ControlService
from ninelives_control.transports.grpc.unknown import UnknownMethods
from ninelives_control.transports.transport import ensure_free
from ninelives_control.transports.unix_socket import placed, removed

if TYPE_CHECKING:
    from pathlib import Path

    from ninelives_control.limits import Limits
    from ninelives_control.server import ControlPlane
    from ninelives_control.transports.transport import Address

_LARGEST_REQUEST = 2**20
_LARGEST_METADATA = 2**14
_GRACE = 1.0
"""Seconds that calls get to end when the control plane stops."""

OPTIONS = (
    # Two servers on one port would share its connections, unseen.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", _LARGEST_REQUEST),
    ("grpc.max_metadata_size", _LARGEST_METADATA),
    ("grpc.absolute_max_metadata_size", _LARGEST_METADATA),
    ("grpc.max_concurrent_streams", 100),
    # Who is not there any more is found out, and who pings all the time is cut off.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 2),
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.enable_channelz", 1),
)


def options(limits: Limits) -> list[tuple[str, int]]:
    """Return the options of the server."""
    return [
        *OPTIONS,
        # From the first byte of TLS to the settings frame of HTTP/2.
        ("grpc.server_handshake_timeout_ms", round(limits.patience * 1000)),
        ("grpc.max_allowed_incoming_connections", limits.connections),
    ]


class GrpcTransport:
    """The gRPC server of the control plane."""

    name: ClassVar[str] = NAME

    def __init__(self) -> None:
        """Begin without a server."""
        self._server: grpc.aio.Server | None = None
        self._socket: Path | None = None
        self._health = health.aio.HealthServicer()

    async def start(self, plane: ControlPlane) -> int:
        """Begin to serve, and return the port, or 0 without one.

        Raises:
            AddressError: The port or socket is in use.
        """
        address = plane.address(NAME)
        if address.port is not None:
            ensure_free(address.host, address.port, "grpc_port")
        guards = [UnknownMethods(plane.dispatcher), ChannelzGuard(plane.dispatcher)]
        server = grpc.aio.server(options=options(plane.limits), interceptors=guards)
        server.add_generic_rpc_handlers((ControlService(plane.dispatcher).handler(),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        channelz.add_channelz_servicer(server)
        names = [
            SERVICE.full_name,
            health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
            channelz_pb2.DESCRIPTOR.services_by_name["Channelz"].full_name,
            reflection.SERVICE_NAME,
        ]
        reflection.enable_server_reflection(names, server)
        self._server = server
        port = 0 if address.port is None else _listen(server, address, address.port)
        if address.socket is not None:
            placed(
                address.socket,
                "grpc_socket",
                lambda path: server.add_insecure_port(f"unix:{path}"),
            )
            self._socket = address.socket
        await self._health.set(SERVICE.full_name, health_pb2.HealthCheckResponse.SERVING)
        await server.start()
        return port

    async def stop(self) -> None:
        """Tell that the service ends, give calls a moment, and let go of port and socket."""
        if self._server is not None:
            await self._health.enter_graceful_shutdown()
            await self._server.stop(_GRACE)
            self._server = None
        if self._socket is not None:
            removed(self._socket)
            self._socket = None


def _listen(server: grpc.aio.Server, address: Address, port: int) -> int:
    host = f"[{address.host}]" if ":" in address.host else address.host
    if address.tls is None:
        return server.add_insecure_port(f"{host}:{port}")
    return server.add_secure_port(f"{host}:{port}", address.tls.credentials())

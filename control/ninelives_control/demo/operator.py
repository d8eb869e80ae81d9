"""The demo's operator: changes parameters over the network, with a token, as anybody would."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import grpc
from google.protobuf.struct_pb2 import Value

from ninelives_control.v1 import control_pb2 as pb
from ninelives_control.v1 import control_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from ninelives_control.server import ControlPlane

_TIMEOUT = 5.0


class Operator:
    """A client of the control service."""

    def __init__(self, plane: ControlPlane, token: str) -> None:
        """Connect to a control plane on this machine."""
        self._channel = grpc.insecure_channel(f"{plane.host}:{plane.grpc_port}")
        self._service = pb_grpc.ControlServiceStub(self._channel)
        self._metadata = (("authorization", f"Bearer {token}"),)

    def set_parameter(self, path: str, value: float, reason: str) -> str:
        """Change a parameter and say what it was and is."""
        request = pb.SetParameterRequest(path=path, value=Value(number_value=value), reason=reason)
        changed = self._service.SetParameter(request, timeout=_TIMEOUT, metadata=self._metadata)
        old, new = changed.old.number_value, changed.new.number_value
        return f"{changed.path}: {old:g} -> {new:g}"

    def __enter__(self) -> Self:
        """Close the channel at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the channel."""
        self._channel.close()

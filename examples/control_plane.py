"""A control plane beside the application, and a client of it: set a parameter while it runs."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from urllib.request import Request, urlopen

import grpc

from ninelives_control import ControlPlane, Role
from ninelives_control.identity import tokens
from ninelives_control.v1 import control_pb2, control_pb2_grpc
from ninelives_grpc import Registry, Retry, Stack


def main(folder: Path) -> None:
    """Serve a control plane, change a parameter over gRPC, and read it over GraphQL."""
    registry = Registry()
    stack = Stack("shop", Retry(3), registry=registry)
    token = tokens.create(folder / "tokens.json", "alice", Role.OPERATOR)

    with ControlPlane(
        registry,
        grpc_port=0,
        http_port=0,
        tokens=folder / "tokens.json",
        audit=folder / "audit.sqlite",
    ) as plane:
        set_attempts(f"{plane.host}:{plane.grpc_port}", token, 5)
        print(stack.parameters["retry/max_attempts"])

        try:
            set_attempts(f"{plane.host}:{plane.grpc_port}", token, 1000)
        except grpc.RpcError as error:
            print(error.code().name, error.details())

        print(state(f"http://{plane.host}:{plane.http_port}/graphql", token))


def set_attempts(address: str, token: str, value: int) -> None:
    """Change a parameter over gRPC."""
    with grpc.insecure_channel(address) as channel:
        service = control_pb2_grpc.ControlServiceStub(channel)
        changed = service.SetParameter(
            control_pb2.SetParameterRequest(
                path="shop/retry/max_attempts",
                value={"number_value": value},
                reason="the backend flaps",
            ),
            metadata=[("authorization", f"Bearer {token}")],
        )
    print(f"revision {changed.revision}")


def state(url: str, token: str) -> object:
    """Read the state over GraphQL, as any HTTP client can."""
    query = "{ getState { stacks { name policies { path kind revision } } } }"
    request = Request(
        url,
        data=json.dumps({"query": query}).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    with urlopen(request, timeout=10) as answer:
        return json.load(answer)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))

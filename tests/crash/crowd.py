"""Clients that set parameters over every transport, and remember what they were told."""

from __future__ import annotations

import http.client
import json
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import grpc

from ninelives_control.v1.control_pb2 import GetParameterRequest, SetParameterRequest
from ninelives_control.v1.control_pb2_grpc import ControlServiceStub
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 20.0
GONE = (OSError, http.client.HTTPException, grpc.RpcError, RuntimeError)
"""What a client sees of a server that was killed."""
_MUTATION = """mutation ($path: String!, $value: ParameterValue) {
  setParameter(path: $path, value: $value) { id new }
}"""
_MCP = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "crowd", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


@dataclass(frozen=True, slots=True)
class Ports:
    grpc: int
    http: int


class Way(Protocol):
    """One way to the control plane."""

    def set(self, path: str, value: int) -> tuple[str, int]:
        """Set a parameter, and return the id of the command and the new value, as told."""

    def close(self) -> None:
        """Let go of the connection."""


class OverGrpc:
    def __init__(self, ports: Ports, token: str) -> None:
        # A connection of its own.
        options = (("grpc.use_local_subchannel_pool", 1),)
        self._channel = grpc.insecure_channel(f"127.0.0.1:{ports.grpc}", options=options)
        self._stub = ControlServiceStub(self._channel)
        self._metadata = (("authorization", f"Bearer {token}"),)

    def set(self, path: str, value: int) -> tuple[str, int]:
        request = SetParameterRequest(path=path)
        request.value.number_value = value
        answer = self._stub.SetParameter(request, metadata=self._metadata, timeout=PATIENCE)
        return answer.id, int(answer.new.number_value)

    def get(self, path: str) -> int:
        """Return the value of a parameter."""
        request = GetParameterRequest(path=path)
        answer = self._stub.GetParameter(request, metadata=self._metadata, timeout=PATIENCE)
        return int(answer.value.number_value)

    def close(self) -> None:
        self._channel.close()


class OverHttp:
    def __init__(self, ports: Ports, token: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", ports.http, timeout=PATIENCE)
        self._headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}

    def post(self, where: str, body: Any, **headers: str) -> Any:
        self._connection.request("POST", where, json.dumps(body), self._headers | headers)
        answer = self._connection.getresponse()
        told = json.loads(answer.read())
        assert answer.status == 200, told
        return told

    def close(self) -> None:
        self._connection.close()


class OverRest(OverHttp):
    def set(self, path: str, value: int) -> tuple[str, int]:
        told = self.post("/v1/commands/set_parameter", {"path": path, "value": value})
        return told["id"], told["new"]


class OverGraphQL(OverHttp):
    def set(self, path: str, value: int) -> tuple[str, int]:
        variables = {"path": path, "value": value}
        told = self.post("/graphql", {"query": _MUTATION, "variables": variables})
        return told["data"]["setParameter"]["id"], told["data"]["setParameter"]["new"]


class OverMcp(OverHttp):
    def set(self, path: str, value: int) -> tuple[str, int]:
        arguments = {"path": path, "value": value}
        params = {"name": "set_parameter", "arguments": arguments, "_meta": _MCP}
        told = self.post(
            "/mcp",
            {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params},
            **{
                "accept": "application/json, text/event-stream",
                "mcp-protocol-version": "2026-07-28",
                "mcp-method": "tools/call",
                "mcp-name": "set_parameter",
            },
        )
        content = told["result"]["structuredContent"]
        return content["id"], content["new"]


WAYS = (OverGrpc, OverRest, OverGraphQL, OverMcp)


@dataclass
class Told:
    """What the clients of one life of the server sent, and what they were told.

    Attributes:
        sent: The values that were sent, by address.
        acknowledged: The id of the command and the value, by address, in order.
        surprises: Anything else that clients saw.
    """

    sent: dict[str, list[int]] = field(default_factory=dict)
    acknowledged: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    surprises: list[BaseException] = field(default_factory=list)

    @property
    def count(self) -> int:
        return sum(len(answers) for answers in self.acknowledged.values())


class Crowd:
    """So many clients at once; each has a parameter of its own, and sets it again and again."""

    def __init__(self, clients: int, ports: Ports, token: str, values: Iterator[int]) -> None:
        self.told = Told()
        self._values = values
        self._ending = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._run,
                args=(WAYS[number % len(WAYS)](ports, token), f"stack{number}"),
                daemon=True,
            )
            for number in range(clients)
        ]
        for thread in self._threads:
            thread.start()

    def work_until(self, acknowledged: int) -> None:
        """Wait until so many commands were acknowledged, or something else came up."""
        until(
            lambda: self.told.count >= acknowledged or self.told.surprises,
            patience=PATIENCE + acknowledged,
        )

    def end(self) -> Told:
        """Wait for all clients: they end with their server."""
        self._ending.set()
        for thread in self._threads:
            thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in self._threads)
        return self.told

    def _run(self, way: Way, stack: str) -> None:
        path = f"{stack}/bulkhead/max_concurrent"
        sent = self.told.sent.setdefault(path, [])
        acknowledged = self.told.acknowledged.setdefault(path, [])
        try:
            while not self._ending.is_set():
                value = next(self._values)
                sent.append(value)
                acknowledged.append(way.set(path, value))
        except GONE:
            pass
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test tells
            self.told.surprises.append(error)
        finally:
            way.close()

"""What a `.proto` says of a method decides over real channels what is repeated and hedged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc import StatusCode

from ninelives_grpc import Hedge, Retry
from ninelives_grpc.outcome import code_of

from .backend import ANSWER, STALL, Backend, RpcKind, fail
from .clients import PROTECTED, SyncClient
from .handlers import plain_handlers
from .servers import SyncServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ninelives_grpc import Stack

    from .clients import Client

LEVELS = {"Get": "NO_SIDE_EFFECTS", "Put": "IDEMPOTENT", "Post": "IDEMPOTENCY_UNKNOWN"}
every_client = pytest.mark.parametrize("protected", PROTECTED)
methods = pytest.mark.parametrize(
    ("method", "again"), [("Get", True), ("Put", True), ("Post", False)]
)


@pytest.fixture(scope="module")
def service() -> str:
    """Put a service into the pool, as importing generated code does."""
    file = descriptor_pb2.FileDescriptorProto(
        name="marked.proto", package="marked.test", syntax="proto3"
    )
    file.message_type.add(name="Empty")
    declared = file.service.add(name="Store")
    for name, level in LEVELS.items():
        kind = ".marked.test.Empty"
        method = declared.method.add(name=name, input_type=kind, output_type=kind)
        levels = descriptor_pb2.MethodOptions.IdempotencyLevel
        method.options.idempotency_level = levels.Value(level)
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
    return "marked.test.Store"


@pytest.fixture
def target(service: str, backend: Backend) -> Iterator[str]:
    """Address of a server of that service, which plays the script of `backend`."""

    class Details(grpc.HandlerCallDetails):
        method = RpcKind.UNARY_UNARY.path
        invocation_metadata = ()

    handler: Any = plain_handlers(backend).service(Details())
    handlers = grpc.method_handlers_generic_handler(service, dict.fromkeys(LEVELS, handler))
    server = SyncServer(handlers)
    yield server.target
    backend.release()
    server.close()


def ask(client: Any, service: str, method: str, seconds: float = 5.0) -> object:
    """Make a unary call, and return its answer or the code of its error."""
    call: Any = client.channel.unary_unary(f"/{service}/{method}")

    async def wait() -> object:
        return await call(b"a", timeout=seconds)

    try:
        sync = isinstance(client, SyncClient)
        return call(b"a", timeout=seconds) if sync else client._loop.run(wait())
    except grpc.RpcError as error:
        return code_of(error)


@every_client
@methods
def test_a_failure_whose_cause_is_unknown_is_repeated_where_that_does_no_harm(
    protected: str,
    method: str,
    again: bool,
    service: str,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    client = connect(protected, new_stack(Retry(initial_backoff=0.001)))
    backend.plays(fail(StatusCode.INTERNAL), ANSWER)

    answer = ask(client, service, method)

    assert answer == (b"a" if again else StatusCode.INTERNAL)
    assert backend.attempts == 1 + again


@every_client
@methods
def test_a_slow_answer_is_hedged_where_that_does_no_harm(
    protected: str,
    method: str,
    again: bool,
    service: str,
    connect: Callable[..., Client],
    new_stack: Callable[..., Stack],
    backend: Backend,
) -> None:
    client = connect(protected, new_stack(Hedge(0.02)))
    backend.plays(STALL, ANSWER)

    answer = ask(client, service, method, 5.0 if again else 0.2)

    assert answer == (b"a" if again else StatusCode.DEADLINE_EXCEEDED)
    assert backend.attempts == 1 + again
    backend.wait_until_gone()

"""What a `.proto` says of a method decides whether it may be repeated without harm."""

import subprocess
import sys

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from ninelives_grpc import Method, Retry, Stack, client_interceptors, wrap_channel
from ninelives_grpc.call import Side
from ninelives_grpc.idempotency import marked_idempotent

LEVELS = {"Get": "NO_SIDE_EFFECTS", "Put": "IDEMPOTENT", "Post": "IDEMPOTENCY_UNKNOWN"}


def declare(package):
    """Put a service with a method of each kind into the pool, as generated code does."""
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package}.proto", package=package, syntax="proto3"
    )
    file.message_type.add(name="Empty")
    service = file.service.add(name="Store")
    for name, level in {**LEVELS, "Plain": None}.items():
        kind = f".{package}.Empty"
        method = service.method.add(name=name, input_type=kind, output_type=kind)
        if level is not None:
            method.options.idempotency_level = descriptor_pb2.MethodOptions.IdempotencyLevel.Value(
                level
            )
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())


@pytest.fixture(scope="module")
def store():
    declare("idempotency.test")
    return "idempotency.test.Store"


@pytest.mark.parametrize(
    ("method", "marked"),
    [("Get", True), ("Put", True), ("Post", False), ("Plain", False), ("Other", False)],
)
def test_the_mark_of_a_method_counts(store, method, marked):
    assert marked_idempotent(f"{store}/{method}") is marked
    assert Method(f"/{store}/{method}", side=Side.CLIENT).idempotent is marked


@pytest.mark.parametrize("name", ["", "nonsense", "a/b/c", "no.such.Service/Get", "\u00e4/\u00f6"])
def test_what_nobody_has_declared_is_not_idempotent(name):
    assert not marked_idempotent(name)


def test_what_is_told_holds_whatever_is_marked(store):
    assert Method(f"{store}/Post", side=Side.CLIENT, idempotent=True).idempotent


def test_functions_and_served_methods_are_not_looked_up(store):
    assert not Method(f"{store}/Get").idempotent
    assert not Method(f"{store}/Get", side=Side.SERVER).idempotent


def test_code_that_is_loaded_later_counts_for_methods_made_after_it():
    name = "idempotency.later.Store/Get"

    before = Method(name, side=Side.CLIENT)
    declare("idempotency.later")

    assert not before.idempotent
    assert Method(name, side=Side.CLIENT).idempotent


class Failing(grpc.GenericRpcHandler):
    def __init__(self):
        self.attempts = 0

    def service(self, _):
        def fail(_request, context):
            self.attempts += 1
            context.abort(grpc.StatusCode.INTERNAL, "broken")

        return grpc.unary_unary_rpc_method_handler(fail)


@pytest.fixture
def failing():
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    handler = Failing()
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers([handler])
        handler.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        yield handler
        server.stop(None).wait()


def wrapped(channel, stack):
    return wrap_channel(channel, stack)


def intercepted(channel, stack):
    return grpc.intercept_channel(channel, *client_interceptors(stack))


@pytest.mark.parametrize("protect", [wrapped, intercepted])
@pytest.mark.parametrize(("method", "attempts"), [("Get", 3), ("Put", 3), ("Post", 1)])
def test_a_marked_method_is_repeated_after_an_internal_error(
    registry, store, failing, protect, method, attempts
):
    stack = Stack("s", Retry(3, initial_backoff=0.0), registry=registry)

    with grpc.insecure_channel(failing.address) as bare:
        call = protect(bare, stack).unary_unary(f"/{store}/{method}")
        with pytest.raises(grpc.RpcError, match="broken"):
            call(b"", timeout=20)

    assert failing.attempts == attempts


def test_protobuf_is_not_imported_for_it():
    program = (
        "import sys\n"
        "from ninelives_grpc.idempotency import marked_idempotent\n"
        "print(marked_idempotent('a.B/C'), 'google.protobuf' in sys.modules)"
    )

    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert ended.stdout.split() == ["False", "False"]

import json
import subprocess
import sys
import threading

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.struct_pb2 import Struct, Value
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from pydantic import Field

from ninelives_control import ControlPlane
from ninelives_control.command import Context, Effect
from ninelives_control.model import Arguments, Result
from ninelives_control.transports.grpc.service import _from_here
from ninelives_control.v1 import control_pb2 as pb
from ninelives_control.v1.control_pb2_grpc import ControlServiceStub
from ninelives_grpc import Retry, Stack
from tests.control import added

PATH = "shop/retry/max_attempts"
SERVING = health_pb2.HealthCheckResponse.SERVING


def status_of(call, *args, **kwargs):
    with pytest.raises(grpc.RpcError) as caught:
        call(*args, timeout=10, **kwargs)
    return caught.value.code()


def test_a_parameter_is_read_and_changed(stub, show, shop):
    before = stub.GetParameter(pb.GetParameterRequest(path=PATH), metadata=show("viewer"))
    change = stub.SetParameter(
        pb.SetParameterRequest(
            path=PATH,
            value=Value(number_value=5),
            expected_revision=before.revision,
            reason="a try",
        ),
        metadata=show("operator"),
    )

    assert (before.value.number_value, before.type) == (3, pb.PARAMETER_TYPE_INT)
    assert (change.old.number_value, change.new.number_value, change.revision) == (3, 5, 2)
    assert shop.parameters["retry/max_attempts"].get() == 5


def test_the_change_stands_in_the_audit_once(stub, show, plane):
    stub.SetParameter(
        pb.SetParameterRequest(path=PATH, value=Value(number_value=5)), metadata=show("operator")
    )

    (entry,) = plane.dispatcher._journal._audit.entries()
    assert (entry.identity, entry.transport, entry.old, entry.new) == ("operator", "grpc", 3, 5)


def test_who_declines_a_command_is_written_down_and_nothing_is_done(stub, show, plane):
    plane.commands.add(added.erase)
    arguments = Struct()
    arguments.update({"text": "all", "password": "swordfish"})
    request = pb.DeclineRequest(command="erase", arguments=arguments, answer="cancel")

    with pytest.raises(grpc.RpcError, match=r"erase was not confirmed \(cancel\)") as caught:
        stub.Decline(request, metadata=show("admin"))
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert status_of(stub.Decline, request) is grpc.StatusCode.UNAUTHENTICATED
    other = pb.DeclineRequest(command="erase_all")
    assert status_of(stub.Decline, other, metadata=show("admin")) is grpc.StatusCode.NOT_FOUND

    entries = plane.dispatcher._journal._audit.entries()
    assert [(entry.identity, entry.command, entry.reason) for entry in entries] == [
        ("admin", "erase", "permission_denied"),
        ("", "erase", "unauthenticated"),
        ("admin", "erase_all", "unknown_command"),
    ]
    assert {entry.status for entry in entries} == {"refused"}
    assert "swordfish" not in str(entries[0])


def test_state_and_events_are_told_as_they_are(stub, show, shop):
    shop.call(lambda: 1)
    stub.ForceCircuitBreaker(
        pb.ForceCircuitBreakerRequest(path="shop/circuit_breaker", mode=pb.MODE_OPEN),
        metadata=show("operator"),
    )

    state = stub.GetState(pb.GetStateRequest(stack="shop"), metadata=show("viewer"))
    events = stub.ListEvents(pb.ListEventsRequest(), metadata=show("viewer"))

    assert (state.stacks[0].traffic.calls, state.stacks[0].traffic.HasField("p99")) == (1, True)
    (event,) = events.events
    assert {entry.name: entry.value.string_value for entry in event.details}["new"] == "open"
    assert (event.number, events.cursor.partition("-")[2], event.severity) == (
        1,
        "1",
        pb.SEVERITY_INFO,
    )
    assert event.why == "mode changed from auto to open by operator"


def test_commands_that_were_added_are_run_by_execute(stub, show, plane):
    plane.commands.add(added.note)
    arguments = Struct()
    arguments.update({"text": "hello"})

    answer = stub.Execute(
        pb.ExecuteRequest(command="note", arguments=arguments), metadata=show("operator")
    )

    assert dict(answer.result.items()) == {"text": "hello", "by": "operator"}


class Large(Result):
    """A number that protobuf has no room for."""

    number: int = Field(description="It.")


def large(arguments: Arguments, context: Context) -> Large:
    """Return a number that protobuf has no room for."""
    return Large(number=10**400)


def test_an_answer_that_cannot_be_sent_tells_nothing_of_why(stub, show, plane, caplog):
    plane.commands.command(Effect.READ)(large)

    with pytest.raises(grpc.RpcError) as caught:
        stub.Execute(pb.ExecuteRequest(command="large"), metadata=show("viewer"))

    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "float" not in caught.value.details()
    assert "OverflowError" in caplog.text


def test_a_token_of_another_kind_is_an_unknown_one(stub, tokens):
    for header in (f"Basic {tokens['admin']}", tokens["admin"], ""):
        metadata = (("authorization", header),)
        request = pb.ListStacksRequest()
        assert status_of(stub.ListStacks, request, metadata=metadata) is (
            grpc.StatusCode.UNAUTHENTICATED
        )


def test_without_tokens_callers_on_this_machine_can_only_read(registry, shop):
    with (
        ControlPlane(registry, grpc_port=0, http_port=None) as plane,
        grpc.insecure_channel(f"127.0.0.1:{plane.grpc_port}") as channel,
    ):
        stub = ControlServiceStub(channel)

        assert len(stub.ListStacks(pb.ListStacksRequest()).stacks) == 1
        request = pb.SetParameterRequest(path=PATH, value=Value(number_value=5))
        assert status_of(stub.SetParameter, request) is grpc.StatusCode.PERMISSION_DENIED
    assert shop.parameters["retry/max_attempts"].get() == 3


@pytest.mark.parametrize(
    ("peer", "here"),
    [
        ("ipv4:127.0.0.1:4711", True),
        ("ipv6:%5B::1%5D:4711", True),
        ("ipv6:[::1]:4711", True),
        ("unix:", True),
        ("unix:/run/x.sock", True),
        ("ipv4:10.0.0.1:4711", False),
        ("ipv6:%5B2001:db8::1%5D:4711", False),
        ("", False),
    ],
)
def test_who_is_on_this_machine_is_told_by_the_peer(peer, here):
    assert _from_here(peer) is here


def test_the_service_is_healthy(channel):
    health = health_pb2_grpc.HealthStub(channel)

    for service in ("", "ninelives_control.v1.ControlService"):
        request = health_pb2.HealthCheckRequest(service=service)
        assert health.Check(request).status == SERVING
    assert status_of(health.Check, health_pb2.HealthCheckRequest(service="other")) is (
        grpc.StatusCode.NOT_FOUND
    )


def test_who_watches_the_health_learns_that_it_ends(plane, channel):
    request = health_pb2.HealthCheckRequest(service="ninelives_control.v1.ControlService")
    told = health_pb2_grpc.HealthStub(channel).Watch(request)
    assert next(told).status == SERVING

    plane.stop()

    assert next(told).status == health_pb2.HealthCheckResponse.NOT_SERVING
    with pytest.raises(grpc.RpcError):
        next(told)


def test_reflection_tells_the_whole_service(channel):
    database = ProtoReflectionDescriptorDatabase(channel)

    services = database.get_services()
    described = DescriptorPool(database).FindServiceByName("ninelives_control.v1.ControlService")

    assert set(services) == {
        "ninelives_control.v1.ControlService",
        "grpc.health.v1.Health",
        "grpc.channelz.v1.Channelz",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    assert "SetParameter" in described.methods_by_name


def test_channelz_is_for_those_who_may(channel, show, plane):
    channelz = channelz_pb2_grpc.ChannelzStub(channel)

    assert status_of(channelz.GetServers, channelz_pb2.GetServersRequest()) is (
        grpc.StatusCode.UNAUTHENTICATED
    )
    found = channelz.GetServers(channelz_pb2.GetServersRequest(), metadata=show("viewer"))
    assert len(found.server) >= 1
    (entry,) = plane.dispatcher._journal._audit.entries()
    assert (entry.command, entry.reason) == ("channelz", "unauthenticated")


def test_a_method_that_is_not_there_is_unimplemented_and_is_in_the_audit(channel, plane):
    for name in ("/ninelives_control.v1.ControlService/Nothing", "/grpc.channelz.v1.X/Nothing"):
        call = channel.unary_unary(name)
        assert status_of(call, b"") is grpc.StatusCode.UNIMPLEMENTED
        assert channel.unary_stream(name)(b"", timeout=10).code() is grpc.StatusCode.UNIMPLEMENTED
        with pytest.raises(grpc.RpcError) as caught:
            channel.stream_unary(name)(iter([b"", b""]))
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED

    plane.dispatcher.end_floods()
    entries = plane.dispatcher._journal._audit.entries()
    assert {(entry.command, entry.reason) for entry in entries} == {("grpc", "unknown_command")}
    assert sum(json.loads(entry.arguments)["count"] for entry in entries) == 6


def test_a_request_that_is_too_large_is_not_read(stub, show):
    request = pb.GetParameterRequest(path="x" * 2**21)

    assert status_of(stub.GetParameter, request, metadata=show("viewer")) is (
        grpc.StatusCode.RESOURCE_EXHAUSTED
    )


def test_a_watch_tells_the_state_and_then_events(stub, show, plane, registry):
    Stack("search", Retry(3), registry=registry)
    told = stub.Watch(pb.WatchRequest(stack="shop"), metadata=show("viewer"))

    first = next(told)
    plane.execute("set_parameter", path="search/retry/max_attempts", value=5)
    plane.execute("set_parameter", path=PATH, value=5)
    second = next(told)
    told.cancel()

    assert [state.name for state in first.state] == ["shop"]
    assert [event.stack for event in second.events] == ["shop"]
    assert second.events[0].name == "ParameterChanged"
    assert not second.events[0].HasField("number")


def test_a_watch_that_is_refused_says_why(stub, show, plane):
    for request, metadata, code in (
        (pb.WatchRequest(), (), grpc.StatusCode.UNAUTHENTICATED),
        (pb.WatchRequest(stack="shp"), show("viewer"), grpc.StatusCode.NOT_FOUND),
    ):
        told = stub.Watch(request, metadata=metadata)
        with pytest.raises(grpc.RpcError) as caught:
            next(told)
        assert caught.value.code() is code
    assert [entry.command for entry in plane.dispatcher._journal._audit.entries()] == ["watch"] * 2


def test_a_watch_whose_client_has_gone_is_closed(stub, show, plane):
    stream = plane.dispatcher._stream
    told = stub.Watch(pb.WatchRequest(), metadata=show("viewer"))
    next(told)
    assert stream.subscribers == 1

    gone = threading.Event()
    real = stream.unsubscribe
    stream.unsubscribe = lambda subscription: (real(subscription), gone.set())
    told.cancel()

    assert gone.wait(10)
    assert stream.subscribers == 0


def test_watches_end_when_the_control_plane_stops(stub, show, plane):
    told = stub.Watch(pb.WatchRequest(), metadata=show("viewer"))
    next(told)

    plane.stop()

    with pytest.raises(grpc.RpcError) as caught:
        next(told)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "the control plane stops" in caught.value.details()


def test_asyncio_clients_are_served_too(plane, tokens):
    code = f"""
import asyncio, grpc
from ninelives_control.v1 import control_pb2 as pb
from ninelives_control.v1.control_pb2_grpc import ControlServiceStub
async def main():
    async with grpc.aio.insecure_channel("127.0.0.1:{plane.grpc_port}") as channel:
        metadata = (("authorization", "Bearer {tokens["viewer"]}"),)
        answer = await ControlServiceStub(channel).ListStacks(
            pb.ListStacksRequest(), metadata=metadata
        )
        print(answer.total)
asyncio.run(main())
"""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )

    assert (ended.stdout, ended.stderr) == ("1\n", "")

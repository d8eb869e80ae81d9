"""A feedback loop is read and tuned as any policy is, by every transport, with nothing added."""

import grpc
import pytest
from google.protobuf.struct_pb2 import Value

from ninelives_control.errors import CommandError
from ninelives_control.v1 import control_pb2 as pb
from ninelives_grpc import FeedbackLoop, laws


@pytest.fixture
def loop(registry, shop):
    handle = shop.parameters["bulkhead/max_concurrent"]
    loop = FeedbackLoop(laws.AimdLaw(latency=0.2), handle, interval=5.0, bounds=(2, 40))
    yield registry.add_loop(loop, start=False)
    registry.remove_loop(loop)


def values(entries):
    return {entry.name: entry.value for entry in entries}


def test_a_loop_is_listed_and_described_with_its_law(desk, loop):
    listed = desk.ask("viewer", "list_policies", stack="shop").policies[-1]
    described = desk.ask("viewer", "describe_policy", path="shop/aimd")

    assert (listed.path, listed.kind) == ("shop/aimd", "AimdLaw")
    assert described.summary == (
        "Raise a limit step by step while it is used, and cut it when calls fail or take too long."
    )
    assert described.declaration == "AimdLaw(low=2.0, high=40.0, latency=0.2)"
    backoff = next(each for each in described.parameters if each.path == "shop/aimd/backoff")
    assert (backoff.value, backoff.minimum, backoff.maximum) == (0.9, 0.01, 1.0)
    assert values(described.state)["parameter"] == "shop/bulkhead/max_concurrent"
    assert values(described.state)["paused"] == ""


def test_a_loop_is_tuned_and_turned_off_over_grpc(stub, show, loop):
    answer = stub.SetParameter(
        pb.SetParameterRequest(
            path="shop/aimd/backoff", value=Value(number_value=0.5), reason="cut deeper"
        ),
        metadata=show("operator"),
    )
    stub.SetParameter(
        pb.SetParameterRequest(path="shop/aimd/enabled", value=Value(bool_value=False)),
        metadata=show("operator"),
    )
    with pytest.raises(grpc.RpcError) as caught:
        stub.SetParameter(
            pb.SetParameterRequest(path="shop/aimd/interval", value=Value(number_value=0.0)),
            metadata=show("operator"),
        )

    assert answer.revision == 2
    assert (loop.policy.backoff, loop.policy.enabled) == (0.5, False)
    assert "from 0.01 to 3600 seconds" in caught.value.details()
    listed = stub.ListParameters(
        pb.ListParametersRequest(match="shop/aimd/*"), metadata=show("viewer")
    )
    assert {each.path for each in listed.parameters} == {f"shop/aimd/{name}" for name in loop.specs}


def test_what_a_loop_did_is_among_the_events(desk, shop, loop):
    for _ in range(20):
        shop.call(lambda: None)
    loop.parameter("used_from").set(0.0)

    change = loop.tick(loop.due)

    assert change.new == 5
    events = desk.ask("viewer", "list_events", kinds=["LawAdjusted"]).events
    assert [event.policy for event in events] == ["aimd"]


def test_a_change_of_what_a_loop_moves_is_refused_for_another_revision(desk, shop, loop):
    for _ in range(20):
        shop.call(lambda: None)
    loop.parameter("used_from").set(0.0)
    before = desk.ask("viewer", "get_parameter", path="shop/bulkhead/max_concurrent").revision
    loop.tick(loop.due)

    with pytest.raises(CommandError, match="revision"):
        desk.ask(
            "operator",
            "set_parameter",
            path="shop/bulkhead/max_concurrent",
            value=8,
            expected_revision=before,
        )

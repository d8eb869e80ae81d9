import grpc
import pytest

from ninelives_grpc import ConfigError, Method, Stack, Target, Timeout
from ninelives_grpc.call import Call
from ninelives_grpc.outcome import failed, succeeded
from ninelives_grpc.stacks.execution import Execution
from ninelives_grpc.stacks.step import Step
from tests.unit.backend import StatusError


@pytest.fixture
def channel():
    with grpc.insecure_channel("localhost:1") as channel:
        yield channel


@pytest.mark.parametrize("channel", [None, "localhost:50051", object()])
def test_only_a_channel_can_be_a_target(channel):
    with pytest.raises(ConfigError, match=r"Target.channel: must be a channel, not"):
        Target(channel)


def execution_of(stack):
    return Execution(stack.plan, Call(Method("m"), 0.0), None)


def test_what_is_inside_goes_to_its_channel_and_what_is_outside_does_not(channel, registry):
    stack = Stack("s", Timeout(1.0) | Target(channel) + Timeout(2.0), registry=registry)
    execution = execution_of(stack)

    execution.start(0.0)
    first = execution.current().target
    step = execution.settle(failed(StatusError(), 0.0), 0.0)
    second = execution.current().target
    execution.settle(succeeded(0.0), 0.0)

    assert step is Step.ATTEMPT
    assert (first, second) == (None, channel)
    assert execution.target is None


def test_a_target_knows_its_channel(channel, registry):
    stack = Stack("s", Target(channel), registry=registry)

    assert stack.policy("target").channel is channel
    assert stack.policy("target").state(0.0) == {}

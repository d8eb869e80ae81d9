"""The environment turns everything off, and overrides parameters, with errors that name it."""

import subprocess
import sys

import pytest

from ninelives_grpc import Bulkhead, CircuitBreaker, ConfigError, Retry, Stack, Timeout, config
from ninelives_grpc.environment import disabled
from ninelives_grpc.sinks import MemorySink

PROGRAM = """
import asyncio
from concurrent.futures import ThreadPoolExecutor
import grpc
from ninelives_grpc import Bulkhead, Respond, Stack, aio, client_interceptors
from ninelives_grpc import server_interceptor, wrap_channel

stack = Stack("s", Bulkhead(1) + Respond(b"from the stack"))

def handle(request, context):
    return b"from the server"

class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(handle)

server = grpc.server(ThreadPoolExecutor(2), interceptors=[server_interceptor(stack)])
server.add_generic_rpc_handlers([Handler()])
address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
server.start()

with grpc.insecure_channel(address) as bare:
    wrapped = wrap_channel(bare, stack)
    print(wrapped is bare, wrapped.unary_unary("/s.S/M")(b""))
    intercepted = grpc.intercept_channel(bare, *client_interceptors(stack))
    print(intercepted.unary_unary("/s.S/M")(b""))

async def main():
    made = aio.client_interceptors(stack)
    async with grpc.aio.insecure_channel(address, interceptors=made) as bare:
        wrapped = wrap_channel(bare, stack)
        print(wrapped is bare, await wrapped.unary_unary("/s.S/M")(b""))
    served = grpc.aio.server(interceptors=[aio.server_interceptor(stack)])
    served.add_generic_rpc_handlers([Handler()])
    port = served.add_insecure_port("127.0.0.1:0")
    await served.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as bare:
        print(await bare.unary_unary("/s.S/M")(b""))
    await served.stop(None)

    async def work():
        return "from the coroutine"

    print(await stack.acall(work))

asyncio.run(main())
print(stack.call(lambda: "from the function"))
server.stop(None).wait()
"""
UNTOUCHED = """\
True b'from the server'
b'from the server'
True b'from the server'
b'from the server'
from the coroutine
from the function
"""
PROTECTED = """\
False b'from the stack'
b'from the stack'
False b'from the stack'
b'from the stack'
b'from the stack'
b'from the stack'
"""


@pytest.mark.parametrize(
    ("value", "printed"), [("1", UNTOUCHED), ("TRUE", UNTOUCHED), ("0", PROTECTED)]
)
def test_one_variable_lets_every_call_pass_untouched(monkeypatch, value, printed):
    monkeypatch.setenv("NINELIVES_DISABLED", value)
    monkeypatch.setenv("GRPC_VERBOSITY", "NONE")

    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    warned = "NINELIVES_DISABLED is set: no call is protected\n" if printed is UNTOUCHED else ""
    assert (ended.stdout, ended.stderr) == (printed, warned)


@pytest.mark.parametrize("value", ["", "0", "false", "No", "off"])
def test_it_can_be_said_that_nothing_is_turned_off(monkeypatch, value):
    monkeypatch.setenv("NINELIVES_DISABLED", value)

    assert not disabled()


def test_a_switch_that_says_neither_is_an_error(monkeypatch):
    monkeypatch.setenv("NINELIVES_DISABLED", "treu")

    with pytest.raises(ConfigError) as caught:
        disabled()

    assert str(caught.value) == "NINELIVES_DISABLED: must be 1 or 0, not 'treu'"


@pytest.fixture
def stack(registry):
    expression = Timeout(2.0) + Retry() + CircuitBreaker() + Bulkhead(4)
    return Stack("every-thing 1", expression, registry=registry)


PREFIX = "NINELIVES_EVERY_THING_1__"


@pytest.mark.parametrize(
    ("variable", "text", "parameter", "value"),
    [
        ("RETRY__MAX_ATTEMPTS", "5", "retry/max_attempts", 5),
        ("TIMEOUT__SECONDS", "0.5", "timeout/seconds", 0.5),
        ("TIMEOUT__REFUSE_HOPELESS", "false", "timeout/refuse_hopeless", False),
        ("RETRY__JITTER", "none", "retry/jitter", "none"),
        ("CIRCUIT_BREAKER__CONSECUTIVE_FAILURES", "7", "circuit_breaker/consecutive_failures", 7),
        ("CIRCUIT_BREAKER__SLOW_CALL_DURATION", "null", "circuit_breaker/slow_call_duration", None),
    ],
)
def test_a_variable_sets_a_parameter(stack, variable, text, parameter, value):
    (change,) = config.apply_environment([stack], {PREFIX + variable: text, "HOME": "/"})

    assert stack.parameters[parameter].get() == value
    assert change.path == f"every-thing 1/{parameter}"


def test_a_change_says_where_it_comes_from(stack):
    sink = MemorySink()
    stack.attach(sink)

    config.apply_environment([stack], {f"{PREFIX}RETRY__MAX_ATTEMPTS": "5"})

    (event,) = sink.events
    assert (event.old, event.new, event.by) == (3, 5, "environment")
    assert event.reason == f"{PREFIX}RETRY__MAX_ATTEMPTS"


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        (
            "RETRY__MAX_ATTEMPTS",
            "0",
            "must be a whole number from 1 to 100 attempts, not 0",
        ),
        (
            "RETRY__MAX_ATTEMPTS",
            "many",
            "must be a whole number from 1 to 100 attempts, not 'many'",
        ),
        (
            "TIMEOUT__SECONDS",
            "NaN",
            "must be a number from 0.001 to 86400 seconds, not nan",
        ),
        (
            "RETRY__MAX_ATEMPTS",
            "5",
            "no parameter in stack 'every-thing 1' named 'retry/max_atempts'; did you mean",
        ),
        (
            "RETRY",
            "5",
            "no parameter in stack 'every-thing 1' named 'retry'; there are:",
        ),
        (
            "CIRCUIT_BREAKER__OPEN_DURATION",
            "9",
            "max_open_duration 5 must not be less than open_duration 9",
        ),
    ],
)
def test_an_error_names_the_variable_and_says_what_is_allowed(stack, variable, text, message):
    with pytest.raises(ConfigError) as caught:
        config.apply_environment([stack], {PREFIX + variable: text})

    assert str(caught.value).startswith(f"{PREFIX}{variable}: {message}")


def test_nothing_is_changed_when_one_variable_is_wrong(stack):
    environ = {f"{PREFIX}BULKHEAD__MAX_CONCURRENT": "9", f"{PREFIX}RETRY__MAX_ATTEMPTS": "0"}

    with pytest.raises(ConfigError):
        config.apply_environment([stack], environ)

    assert stack.parameters["bulkhead/max_concurrent"].get() == 4


def test_values_that_go_together_are_set_together(stack):
    environ = {
        f"{PREFIX}CIRCUIT_BREAKER__OPEN_DURATION": "9",
        f"{PREFIX}CIRCUIT_BREAKER__MAX_OPEN_DURATION": "20",
    }

    config.apply_environment([stack], environ)

    assert stack.parameters["circuit_breaker/open_duration"].get() == 9.0


def test_the_stack_of_the_longest_name_is_meant(registry):
    short = Stack("a", Retry(), registry=registry)
    long = Stack("a--b", Retry(), registry=registry)

    config.apply_environment(registry, {"NINELIVES_A__B__RETRY__MAX_ATTEMPTS": "7"})

    assert short.parameters["retry/max_attempts"].get() == 3
    assert long.parameters["retry/max_attempts"].get() == 7


def test_a_variable_that_could_mean_two_stacks_is_an_error(registry):
    for name in ("a-b", "a.b"):
        Stack(name, Retry(), registry=registry)

    config.apply_environment(registry, {})
    with pytest.raises(ConfigError, match=r"stands for the stacks 'a-b' and 'a\.b'"):
        config.apply_environment(registry, {"NINELIVES_A_B__RETRY__MAX_ATTEMPTS": "7"})


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text('[stacks.shop]\nexpression = "retry"\nretry = { max_attempts = 2 }\n')
    return path


def test_the_environment_wins_over_a_file(monkeypatch, registry, file):
    monkeypatch.setenv("NINELIVES_SHOP__RETRY__MAX_ATTEMPTS", "7")
    monkeypatch.setenv("NINELIVES_ANOTHER__RETRY__MAX_ATTEMPTS", "0")

    config.load(file, registry=registry)

    assert registry.parameter("shop/retry/max_attempts").get() == 7


def test_nothing_is_built_when_a_variable_is_wrong(monkeypatch, registry, file):
    monkeypatch.setenv("NINELIVES_SHOP__RETRY__MAX_ATTEMPTS", "0")

    with pytest.raises(ConfigError, match="NINELIVES_SHOP__RETRY__MAX_ATTEMPTS: must be a whole"):
        config.load(file, registry=registry)

    assert len(registry) == 0

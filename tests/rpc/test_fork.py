"""A process that forks, as gunicorn does: stacks are made before, channels and servers after.

The programs run in processes of their own, as this one has gRPC's threads.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nothing forks on Windows")

PREFORK = """
import asyncio, json, os, threading
from concurrent.futures import ThreadPoolExecutor

import grpc

from ninelives_grpc import *
from ninelives_grpc.sinks import NonBlockingSink
from ninelives_grpc.testing import MemorySink

seen = MemorySink()
sink = NonBlockingSink(seen)
client = Stack(
    "client",
    Timeout(20.0)
    + Throttle()
    + Retry(initial_backoff=0.001)
    + CircuitBreaker()
    + Bulkhead(1, max_queue=1),
    sink=sink,
)
shed = LoadShed(memory_limit=1 << 50, sources=["memory", "cpu"], interval=0.01)
server = Stack("server", shed + Timeout(20.0) + CircuitBreaker() + Bulkhead(4), sink=sink)
server.call(len, "abc")
assert client.call(len, "abc") == 3

def handler():
    calls = []
    def echo(request, context):
        calls.append(request)
        if len(calls) % 2:
            context.abort(grpc.StatusCode.UNAVAILABLE, "every other time")
        return request
    def stream(request, context):
        echo(request, context)
        yield request
        yield request
    return grpc.method_handlers_generic_handler("test.Echo", {
        "Say": grpc.unary_unary_rpc_method_handler(echo),
        "Tell": grpc.unary_stream_rpc_method_handler(stream),
    })

async def served_by_asyncio():
    async def echo(request, context):
        return request
    guarded = grpc.aio.server(interceptors=[aio.server_interceptor(server)])
    method = grpc.unary_unary_rpc_method_handler(echo)
    handlers = grpc.method_handlers_generic_handler("test.Echo", {"Say": method})
    guarded.add_generic_rpc_handlers((handlers,))
    target = "127.0.0.1:%d" % guarded.add_insecure_port("127.0.0.1:0")
    await guarded.start()
    async with wrap_channel(grpc.aio.insecure_channel(target), client) as channel:
        said = await channel.unary_unary("/test.Echo/Say")(b"z")
    await guarded.stop(None)
    return said

async def under_asyncio(target):
    async with wrap_channel(grpc.aio.insecure_channel(target), client) as channel:
        said = await channel.unary_unary("/test.Echo/Say")(b"a")
        return [said, *[message async for message in channel.unary_stream("/test.Echo/Tell")(b"b")]]

def work():
    pool = ThreadPoolExecutor(4)
    served = grpc.server(pool, interceptors=[server_interceptor(server)])
    served.add_generic_rpc_handlers((handler(),))
    target = "127.0.0.1:%d" % served.add_insecure_port("127.0.0.1:0")
    served.start()
    with wrap_channel(grpc.insecure_channel(target), client) as channel:
        say, tell = channel.unary_unary("/test.Echo/Say"), channel.unary_stream("/test.Echo/Tell")
        answers = [say(b"c"), say.future(b"d").result(20), *tell(b"e")]
    answers += asyncio.run(under_asyncio(target))
    answers.append(asyncio.run(served_by_asyncio()))
    served.stop(None).wait()
    sink.close()
    traffic = client.state().traffic
    return {
        "answers": b"".join(answers).decode(),
        "calls": traffic.calls,
        "retried": sum(event.name == "RetryAttempt" for event in seen.events),
    }

children = []
for number in range(2):
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, json.dumps(work()).encode())
        os._exit(0)
    os.close(writing)
    children.append((child, reading))
for child, reading in children:
    print(open(reading).read())
    assert os.waitpid(child, 0)[1] == 0
"""

EXECUTOR = """
import json, os, threading

import grpc

from ninelives_grpc import *

stack = Stack("s", AdmissionQueue())
pool = AdmissionExecutor(1)
go_on = threading.Event()
held = pool.submit(go_on.wait)
child = os.fork()
if not child:
    server = grpc.server(pool, interceptors=[server_interceptor(stack)])
    method = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
    handlers = grpc.method_handlers_generic_handler("test.Echo", {"Say": method})
    server.add_generic_rpc_handlers((handlers,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel("127.0.0.1:%d" % port) as channel:
        say = channel.unary_unary("/test.Echo/Say")
        answers = [say(b"a", timeout=20), say(b"b", timeout=20)]
    server.stop(None).wait()
    pool.shutdown()
    print(json.dumps([answer.decode() for answer in answers]), flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
go_on.set()
held.result(20)
pool.shutdown()
"""

IN_THE_MIDDLE = """
import json, os, signal, threading

from ninelives_grpc import *
from ninelives_grpc.sinks import MemorySink, StreamingSink

heard = []
events = StreamingSink(routine=True)
subscription = events.subscribe(lambda: heard.append(1), routine=True)
memory = MemorySink(routine=True)
stack = Stack(
    "s",
    Retry(budget=ConcurrencyBudget()) + CircuitBreaker() + Bulkhead(1, max_queue=1, max_wait=60.0),
    sink=events + memory,
)
inside, leave = threading.Event(), threading.Event()

def hold():
    inside.set()
    leave.wait()

caller = threading.Thread(target=stack.call, args=(hold,))
caller.start()
inside.wait()
waiter = threading.Thread(target=stack.call, args=(hold,))
waiter.start()
while not stack.state().policies[-1].values["queued"]:
    pass

locked = threading.Event()
def lock():
    for thing in (
        *stack.policies.values(), stack.recorder, stack.emitter, default_registry, events,
        subscription, memory,
    ):
        thing._lock.acquire()
    locked.set()
    leave.wait()
    for thing in (
        *stack.policies.values(), stack.recorder, stack.emitter, default_registry, events,
        subscription, memory,
    ):
        thing._lock.release()

locker = threading.Thread(target=lock)
locker.start()
locked.wait()

child = os.fork()
if not child:
    signal.alarm(20)
    length = stack.call(len, "abc")
    values = stack.state().policies[-1].values
    Stack("another", Bulkhead(1))
    print(json.dumps([length, values["in_flight"], values["queued"]]), flush=True)
    os._exit(0)
status = os.waitpid(child, 0)[1]
leave.set()
for thread in (caller, waiter, locker):
    thread.join()
values = stack.state().policies[-1].values
print(json.dumps([status, values["in_flight"], values["queued"]]))
"""

METRICS = """
import json, os

from opentelemetry.metrics import set_meter_provider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from ninelives_grpc import *

stack = Stack("s", Bulkhead(1))

if not os.fork():
    reader = InMemoryMetricReader()
    set_meter_provider(MeterProvider(metric_readers=[reader]))
    stack.call(len, "abc")
    metrics = {
        metric.name: metric
        for resource in reader.get_metrics_data().resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    points = metrics["ninelives.calls"].data.data_points
    print(json.dumps([point.value for point in points]), flush=True)
    os._exit(0)
os.wait()
"""


def run(program: str) -> list[object]:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=50
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_stacks_made_before_the_fork_protect_channels_and_servers_of_each_child() -> None:
    first, second = run(PREFORK)

    # One call was made by the parent, before the fork; each child counts on from there.
    assert first == second == {"answers": "cdeeabbz", "calls": 7, "retried": 5}


def test_a_child_does_not_inherit_what_threads_of_its_parent_hold() -> None:
    child, parent = run(IN_THE_MIDDLE)

    assert child == [3, 0, 0]
    assert parent == [0, 0, 0]


def test_metrics_are_published_by_the_provider_that_a_child_sets() -> None:
    assert run(METRICS) == [[1]]


READ_IN_CHILDREN = """
import os, threading

from ninelives_grpc import *

class Told:
    name = "told"
    def __init__(self):
        self.read_by = set()
        self.known = threading.Event()
    def read(self):
        self.read_by.add(os.getpid())
        self.known.set()
        return 0.95

told = Told()
stack = Stack("s", LoadShed(sources=[], sensors=[told], rise=0.0001, interval=0.01))
stack.call(len, "abc")
assert told.known.wait(20)
while stack.policy("load_shed").share == 1.0:
    pass
child = os.fork()
if not child:
    told.known.clear()
    try:
        stack.call(len, "abc")
    except Refused:
        pass
    known = told.known.wait(20)
    os._exit(0 if known and os.getpid() in told.read_by and threading.active_count() == 2 else 1)
assert os.waitpid(child, 0)[1] == 0
"""


def test_sensors_are_read_on_in_a_forked_child() -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", READ_IN_CHILDREN],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert (ended.returncode, ended.stderr) == (0, "")


def test_an_executor_that_was_at_work_before_the_fork_serves_a_child() -> None:
    assert run(EXECUTOR) == [["a", "b"]]

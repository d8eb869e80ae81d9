"""Every example runs, as a user runs it, and prints what it promises."""

import os
import subprocess
import sys

import pytest

from .readme import EXAMPLES, blocks

PRINTED = {
    "quickstart.py": blocks("text")[0],
    "sync_server.py": """\
RESOURCE_EXHAUSTED bulkhead shop-server/bulkhead is full: 2 calls run at once
[b'first', b'second']
""",
    "aio_server.py": """\
b'tea costs 3.90'
[b'tea 1', b'tea 2', b'tea 3']
DEADLINE_EXCEEDED
""",
    "config_client.py": """\
Routes({'shop.Shop/*': 'prices', '*': 'everything-else'})
b'ask again later'
wrong.toml: stacks.prices.expression: no policy or stack named 'bulkhed'; did you mean bulkhead?
""",
    "control_plane.py": """\
revision 2
<Adaptive shop/retry/max_attempts = 5>
INVALID_ARGUMENT shop/retry/max_attempts: must be a whole number from 1 to 100 attempts, not 1000
{'data': {'getState': {'stacks': [{'name': 'shop', 'policies': [\
{'path': 'shop/retry', 'kind': 'Retry', 'revision': 2}, \
{'path': 'shop/retry_budget', 'kind': 'RetryBudget', 'revision': 1}]}]}}}
""",
    "agent_at_night.py": """\
tools: apply_parameters, describe_policy, end_lease ...
1 of 3 attempts fails: no answer within 0.2 s
Timeout(2.0) + (Retry() + CircuitBreaker() + Timeout(0.2, name='attempt')): \
the limit is 0.2 seconds
2.0? rule agents-tune allows prices/attempt/seconds numbers from 0.05 to 0.8, \
as 0.2 is declared and the factor is 4
0.8? 3 attempts of 0.8 s take longer than the 2 s of prices/timeout
0.6? good
lent: 0.6 in place of 0.2
timeouts: only of calls before
returned: 0.2
audit: night-watch set_parameter refused by agents-tune
audit: night-watch set_parameter succeeded by agents-tune
audit: night-watch set_parameter succeeded by agents-tune
audit: night-watch set_parameter succeeded by agents-tune
audit: night-watch end_lease succeeded by lease
""",
    "aimd_on_a_bulkhead.py": """\
after 5 s: 7 at once for 8 workers; all is well, and what there is is used
after 30 s: 8 at once for 8 workers; all is well, and what there is is used
after 60 s: 4 at once for 4 workers; p99 is 0.199 s, more than 0.15 s
""",
    "rate_by_health.py": """\
200/s possible: 200/s let through, 1 failed
60/s possible: 60/s let through, 241 failed
200/s possible: 181/s let through, 0 failed
""",
    "any_function.py": """\
from the cache
failed: no route
failed: no route
refused: circuit remote/circuit_breaker is open after UNAVAILABLE: no route
""",
    "commands_by_lines.py": """\
tried invalid_argument shop/retry/max_attempts: must be a whole number from 1 to 100 attempts, \
not 500
set 5
got 5
""",
    "algebra.py": """\
Timeout(2.0) + Retry()
Retry() + Timeout(2.0)
(Retry() + CircuitBreaker()) | Respond(b'from the cache')
Timeout(1.0) + (Retry() & Retry())
Timeout(1.0) | (Retry() & (Retry() + Timeout(1.0)))
the first
""",
    "hedged_reads.py": """\
b'tea costs 3.90'
['HedgeStarted', 'HedgeWon']
""",
    "regional_failover.py": """\
b'north: tea costs 3.90'
b'north: cake costs 3.90'
own region: open
""",
    "tenant_quotas.py": """\
greedy b'tea costs 3.90'
greedy b'tea costs 3.90'
greedy RESOURCE_EXHAUSTED come back in 1 min
modest b'tea costs 3.90'
""",
    "deadline_over_two_hops.py": """\
b'tea: B has seconds; the log: B has a minute'
""",
    "shed_by_memory.py": """\
without load shedding
  killed by SIGKILL
with load shedding
  burst: all served or refused
  later: 20 of 20 served
""",
    "sync_server_stops_work.py": """\
stopped: nobody waits for shop.Shop/Count any more
at work: 0
""",
    "what_matters_most.py": """\
report: RESOURCE_EXHAUSTED
served: first, login, page
""",
    "priorities_under_overload.py": """\
critical: 10 of 10 served
high: 10 of 10 served
normal: 0 of 10 served
background: 0 of 10 served
in this order: critical, high
""",
    "noisy_tenant.py": """\
noisy: 14 of 30 served
red: 2 of 2 served
green: 2 of 2 served
blue: 2 of 2 served
first: noisy, red, green, blue, noisy, red, green, blue
""",
    "what_happens.py": """\
prices/circuit_breaker: closed -> open
errors: 1.0
refused: {'open': 2} of 5
why: 3 calls failed in a row, UNAVAILABLE: down
written: 8
recorded: RequestFailed CircuitOpened CircuitRefused
""",
    "try_a_limit.py": """\
nothing: 0.0 of what is possible, >= 0.95 is missed
bulkhead: 0.6 of what is possible, >= 0.95 is missed
concurrency_limit: 1.0 of what is possible, >= 0.95 is reached
""",
    "retry_storm.py": """\
no_retries: 1.0 attempts a call; a second later 1.0 are answered
loop: 3.5 attempts a call; a second later 0.0 are answered
budget: 1.1 attempts a call; a second later 1.0 are answered
""",
    "rate_limiting.py": """\
20/s each: greedy 24 of 50, modest 15 of 15
40/s each: greedy 40 of 50, modest 15 of 15
10/s each: greedy 10 of 50, modest 14 of 15
""",
    "throttled_client.py": """\
all is sent: 0.0 of what is possible during the rush, 1.0 after it
throttle: 0.9 of what is possible during the rush, 1.0 after it
throttle as in the SRE book: 0.9 of what is possible during the rush, 0.2 after it
""",
    "entry_points.py": """\
timeout/seconds: 2.0
""",
}
PROGRAMS = sorted(path.name for path in EXAMPLES.glob("*.py") if path.name != "backends.py")


def run(example: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / example],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=50,
        check=False,
        env={**os.environ, "GRPC_VERBOSITY": "NONE", "PYTHONIOENCODING": "utf-8"},
    )


@pytest.mark.parametrize("example", PROGRAMS)
def test_example_runs(example):
    if example == "shed_by_memory.py" and sys.platform != "linux":
        pytest.skip("it looks into /proc")
    ended = run(example)

    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    assert ended.stdout == PRINTED[example]

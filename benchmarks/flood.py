"""What a flood against the control plane does to the protected calls of the same process.

    python benchmarks/flood.py [--seconds 3] [--rounds 8] [--clients 16]

A process serves unary calls under a full stack, sync or asyncio, with a control plane beside it.
Another one calls it one call after the other, and a third floods the control plane: with reads of
somebody known, with changes, and with tokens that nobody has, over gRPC and HTTP; and with them
without limits, to show what they are good for. All take turns in each round, each next to a quiet
time of its own, which its ratio is to. `bystander` is a flood against another process: what the
same clients do to the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent import futures
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from measure import REQUEST, _handlers, _say, _say_async, bare_channel, server_stack, stub

from ninelives_control import ControlPlane, Limits
from ninelives_control.identity import tokens as token_file
from ninelives_control.identity.identity import Role
from ninelives_control.v1.control_pb2 import GetParameterRequest, SetParameterRequest
from ninelives_control.v1.control_pb2_grpc import ControlServiceStub
from ninelives_grpc import Registry, Stack, aio, server_interceptor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATH = "server/bulkhead/max_concurrent"
_BURST = 1.5
FLOODS = ("reads", "changes", "strangers")
LIFTED = Limits(
    commands_per_second=1e6,
    burst=1e6,
    changes_per_second=1e6,
    changes_burst=1e6,
    concurrent=1000,
    unknown_per_second=1e6,
    unknown_burst=1e6,
)


# --- the process that is measured ----------------------------------------------------------------


def serve(kind: str, limited: str, folder: str) -> None:
    """Serve calls and a control plane until standard input ends."""
    tokens = Path(folder, "tokens.json")
    registry = Registry()
    stack = server_stack("server")
    registry.add(stack)
    limits = Limits() if limited == "limited" else LIFTED
    plane = ControlPlane(
        registry,
        grpc_port=0,
        http_port=0,
        tokens=tokens,
        audit=Path(folder, f"{kind}-{limited}.sqlite"),
        limits=limits,
    )
    with plane:
        if kind == "sync":
            server = grpc.server(
                futures.ThreadPoolExecutor(16), interceptors=[server_interceptor(stack)]
            )
            server.add_generic_rpc_handlers((_handlers(_say, _say, _say),))
            _announce(server.add_insecure_port("127.0.0.1:0"), plane)
            server.start()
            sys.stdin.read()
            server.stop(None)
        else:
            asyncio.run(_serve_aio(stack, plane))


async def _serve_aio(stack: Stack, plane: ControlPlane) -> None:
    server = grpc.aio.server(interceptors=[aio.server_interceptor(stack)])
    server.add_generic_rpc_handlers((_handlers(_say_async, _say_async, _say_async),))
    _announce(server.add_insecure_port("127.0.0.1:0"), plane)
    await server.start()
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


def _announce(port: int, plane: ControlPlane) -> None:
    print(port, plane.grpc_port, plane.http_port, flush=True)


# --- the process that floods ---------------------------------------------------------------------


def flood(kind: str, ports: list[int], token: str, clients: int) -> None:
    """Ask as fast as possible until standard input ends, and print how often that was."""
    shown = token if kind != "strangers" else "ninelives_" + "a" * 43
    ending, counts = threading.Event(), [0] * clients

    def run(number: int) -> None:
        ask = (_over_grpc, _over_http)[number % 2](kind, ports, shown, number)
        while not ending.is_set():
            with contextlib.suppress(grpc.RpcError, OSError, http.client.HTTPException):
                ask()
            counts[number] += 1

    threads = [
        threading.Thread(target=run, args=(number,), daemon=True) for number in range(clients)
    ]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    sys.stdin.read()
    ending.set()
    print(sum(counts), flush=True)


def _over_grpc(kind: str, ports: list[int], token: str, number: int) -> Callable[[], object]:
    plane = ControlServiceStub(bare_channel(f"127.0.0.1:{ports[0]}"))
    metadata = (("authorization", f"Bearer {token}"),)
    if kind == "changes":
        change = SetParameterRequest(path=PATH)
        change.value.number_value = 1000 + number
        return lambda: plane.SetParameter(change, metadata=metadata, timeout=5)
    read = GetParameterRequest(path=PATH)
    return lambda: plane.GetParameter(read, metadata=metadata, timeout=5)


def _over_http(kind: str, ports: list[int], token: str, number: int) -> Callable[[], object]:
    connection = http.client.HTTPConnection("127.0.0.1", ports[1], timeout=5)
    headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
    command = "get_parameter"
    arguments: dict[str, object] = {"path": PATH}
    if kind == "changes":
        command, arguments = "set_parameter", {"path": PATH, "value": 1000 + number}
    body = json.dumps(arguments)

    def ask() -> None:
        try:
            connection.request("POST", f"/v1/commands/{command}", body, headers)
            connection.getresponse().read()
        except BaseException:
            connection.close()
            raise

    return ask


# --- the process that measures -------------------------------------------------------------------


@contextlib.contextmanager
def _process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, __file__, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.communicate()


def _durations(call: Callable[[object], object], seconds: float) -> list[float]:
    end = time.perf_counter() + seconds
    durations, now = [], time.perf_counter()
    while now < end:
        call(REQUEST)
        before, now = now, time.perf_counter()
        durations.append(now - before)
        # Not as fast as possible: two processes that never rest would share the machine by turns.
        time.sleep(0.001)
        now = time.perf_counter()
    return durations


def _p(durations: list[float], share: float) -> float:
    return sorted(durations)[int(share * (len(durations) - 1))] * 1e3


def measure(sides: list[str], seconds: float, rounds: int, clients: int) -> None:
    """Print what each flood does to p50 and p99 of calls, and how much of it came through."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        token = token_file.create(Path(folder, "tokens.json"), "flood", Role.OPERATOR)
        for side in sides:
            served = {}
            for limited in ("limited", "unlimited"):
                process = stack.enter_context(_process("serve", side, limited, folder))
                assert process.stdout is not None
                served[limited] = [int(port) for port in process.stdout.readline().split()]
            variants = [(limited, kind) for limited in served for kind in FLOODS]
            variants.append(("bystander", "reads"))
            calls = {
                name: stub(bare_channel(f"127.0.0.1:{ports[0]}")) for name, ports in served.items()
            }
            rows: dict[tuple[str, str], list[tuple[float, ...]]] = {each: [] for each in variants}
            for number in range(-1, rounds):
                for limited, kind in variants:
                    # A bystander calls one server while the other is flooded.
                    target = "limited" if limited == "bystander" else limited
                    flooded = "unlimited" if limited == "bystander" else limited
                    quiet = _durations(calls[target], seconds)
                    arguments = [kind, *map(str, served[flooded][1:]), token, str(clients)]
                    with _process("flood", *arguments) as attacker:
                        assert attacker.stdout is not None
                        attacker.stdout.readline()
                        # The burst is let through: what lasts is measured.
                        time.sleep(_BURST)
                        loud = _durations(calls[target], seconds)
                        told, _ = attacker.communicate()
                    if number >= 0:
                        rows[limited, kind].append((
                            _p(quiet, 0.5), _p(quiet, 0.99), _p(loud, 0.5), _p(loud, 0.99),
                            int(told) / (seconds + _BURST),
                        ))  # fmt: skip
            _report(side, rows)


def _report(side: str, rows: dict[tuple[str, str], list[tuple[float, ...]]]) -> None:
    print(f"\n{side} server, median over the rounds")
    print(f"  {'':24}{'p50 ms':>8}{'p99 ms':>8}{'p50 x':>8}{'p99 x':>8}{'asked/s':>10}")
    for (limited, kind), measured in rows.items():
        p50, p99 = (statistics.median(row[index] for row in measured) for index in (2, 3))
        times50 = statistics.median(row[2] / row[0] for row in measured)
        times99 = statistics.median(row[3] / row[1] for row in measured)
        asked = statistics.median(row[4] for row in measured)
        name = f"{limited}, {kind}"
        print(
            f"  {name:24}{p50:8.2f}{p99:8.2f}{times50:8.2f}{times99:8.2f}{asked:10.0f}", flush=True
        )


def main() -> None:
    """Measure; or serve or flood, as one of the processes that it starts."""
    match sys.argv[1:]:
        case ["serve", kind, limited, folder]:
            serve(kind, limited, folder)
        case ["flood", kind, grpc_port, http_port, token, clients]:
            flood(kind, [int(grpc_port), int(http_port)], token, int(clients))
        case _:
            parser = argparse.ArgumentParser(
                description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
            )
            parser.add_argument("--seconds", type=float, default=3.0)
            parser.add_argument("--rounds", type=int, default=8)
            parser.add_argument("--clients", type=int, default=16)
            parser.add_argument("--sides", nargs="+", default=["sync", "aio"])
            given = parser.parse_args()
            measure(given.sides, given.seconds, given.rounds, given.clients)


if __name__ == "__main__":
    main()

"""A server under a burst that takes more memory than it may: one is killed, one sheds load."""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc

from ninelives_grpc import LoadShed, Stack, Timeout, aio

MB = 1_000_000
LIMIT = 300 * MB
PER_CALL = b"x" * (2 * MB)


async def resize(request: bytes, _: grpc.aio.ServicerContext) -> bytes:
    """Hold two megabytes for as many seconds as asked."""
    with mmap.mmap(-1, len(PER_CALL)) as picture:
        picture.write(PER_CALL)
        await asyncio.sleep(float(request))
        return request


async def serve(*, sheds: bool, limit: int | None) -> None:
    """Serve until killed; without a limit, that of the control group counts."""
    policies = Timeout(10.0)
    if sheds:
        # It reacts and recovers faster than by default, as the burst comes within a second.
        policies = policies + LoadShed(
            memory_limit=limit, interval=0.01, cut_interval=0.05, rise=1.0,
            recover_below=0.4, degrade_above=0.5, critical_above=0.65,
        )  # fmt: skip
    stack = Stack("pictures", policies)
    server = grpc.aio.server(interceptors=[aio.server_interceptor(stack)])
    handlers = {"Resize": grpc.unary_unary_rpc_method_handler(resize)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a.Pictures", handlers),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()


def guard(server: subprocess.Popen[str]) -> None:
    """Kill the server when it holds more than it may, as a kernel does with a container."""
    while server.poll() is None:
        with contextlib.suppress(OSError):  # it may have ended just now
            pages = int(Path(f"/proc/{server.pid}/statm").read_text(encoding="utf-8").split()[1])
            if pages * os.sysconf("SC_PAGE_SIZE") > LIMIT:
                server.kill()
        time.sleep(0.003)


def send(
    call: grpc.UnaryUnaryMultiCallable, calls: int, rate: float, *, each: bytes
) -> list[grpc.StatusCode]:
    """Send calls at a rate, whatever becomes of them; returns how they ended."""
    futures, start = [], time.monotonic()
    for number in range(calls):
        time.sleep(max(0.0, start + number / rate - time.monotonic()))
        futures.append(call.future(each, timeout=10.0))
    return [future.code() for future in futures]


def run(server: subprocess.Popen[str]) -> None:
    """Send a burst that would take 960 MB, and then a few calls until all of them are served."""
    assert server.stdout is not None
    port = int(server.stdout.readline())
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/a.Pictures/Resize")
        ended = send(call, 480, 400.0, each=b"2.0")
        if server.poll() is not None:
            print("  killed by", signal.Signals(-server.returncode).name)
            return
        served = ended.count(grpc.StatusCode.OK)
        refused = ended.count(grpc.StatusCode.RESOURCE_EXHAUSTED)
        told = "all served or refused" if served and served + refused == len(ended) else ended
        print("  burst:", told)
        for _ in range(20):
            ended = send(call, 20, 100.0, each=b"0.2")
            if set(ended) == {grpc.StatusCode.OK}:
                break
        print("  later:", ended.count(grpc.StatusCode.OK), "of 20 served")


def main() -> None:
    """Let the burst come over a server that sheds no load, and over one that does."""
    for how in ("without", "with"):
        print(how, "load shedding")
        command = [sys.executable, __file__, "serve", how, str(LIMIT)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603
            threading.Thread(target=guard, args=[server]).start()
            run(server)
            server.kill()


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        how, bound = sys.argv[2], int(sys.argv[3])
        asyncio.run(serve(sheds=how == "with", limit=bound or None))
    else:
        main()

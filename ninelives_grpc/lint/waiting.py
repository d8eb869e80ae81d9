"""Waits that are of no use: too long, twice, in the wrong place, or by a rank nobody asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ninelives_grpc.lint.finding import Finding
from ninelives_grpc.lint.timeouts import seconds_of, shortest_timeout
from ninelives_grpc.policies.admission_queue import AdmissionQueue
from ninelives_grpc.policies.bulkhead import Bulkhead, Order
from ninelives_grpc.policies.rate_limit import RateLimit
from ninelives_grpc.policies.scope import STACK
from ninelives_grpc.policies.timeout import Timeout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ninelives_grpc.lint.finding import Way


def queue_outlasts_deadline(way: Way) -> Iterator[Finding]:
    """Find waits for a place or a turn that leave no time for the call itself."""
    for index, live in enumerate(way):
        policy, outer = live.policy, shortest_timeout(way[:index])
        if outer is None or not isinstance(policy, Bulkhead | RateLimit):
            continue
        if isinstance(policy, Bulkhead) and policy.max_queue == 0:
            continue
        if policy.max_wait >= seconds_of(outer):
            yield Finding(
                rule="queue-outlasts-deadline",
                path=live.path,
                message=f"a call may wait {policy.max_wait:g} s, and has {seconds_of(outer):g} s "
                f"in all, by {outer.path}",
                fix=f"set {live.path}/max_wait to a fraction of that",
            )


def idle_outlasts_limit(way: Way) -> Iterator[Finding]:
    """Find limits for the silence of a stream that are longer than the stream may last."""
    shortest = shortest_timeout(way)
    for live in way:
        idle = live.policy.idle if isinstance(live.policy, Timeout) else None
        if idle is not None and shortest is not None and idle >= seconds_of(shortest):
            yield Finding(
                rule="idle-outlasts-limit",
                path=live.path,
                message=f"a stream may be silent for {idle:g} s, and lasts no more than "
                f"{seconds_of(shortest):g} s, by {shortest.path}",
                fix=f"set {live.path}/idle to a fraction of that, or to null",
            )


def rank_without_queue(way: Way) -> Iterator[Finding]:
    """Find bulkheads that are told who comes first, and have nobody wait."""
    for live in way:
        policy = live.policy
        if not isinstance(policy, Bulkhead):
            continue
        if policy.order is Order.PRIORITY and not (policy.max_queue and policy.max_wait):
            message, fix = "nobody waits, so nobody comes first", "set max_queue and max_wait"
        elif policy.fair_by != STACK and policy.order is not Order.PRIORITY:
            message = f"fair_by has no effect with the order {policy.order}"
            fix = f'set {live.path}/order to "priority"'
        else:
            continue
        yield Finding(rule="rank-without-queue", path=live.path, message=message, fix=fix)


def queue_without_executor(way: Way) -> Iterator[Finding]:
    """Find queues of sync servers in which threads wait, behind the queue of their own pool."""
    for live in way:
        if isinstance(live.policy, AdmissionQueue) and live.in_threads and not live.workers:  # type: ignore[attr-defined]
            yield Finding(
                rule="queue-without-executor",
                path=live.path,
                message="calls wait for a thread of the server before it sees them, and then in it",
                fix="give the server an AdmissionExecutor in place of its ThreadPoolExecutor",
            )


def width_over_workers(way: Way) -> Iterator[Finding]:
    """Find queues that would have more calls run than there are workers."""
    for live in way:
        if not isinstance(live.policy, AdmissionQueue):
            continue
        width, workers = live.policy.width, live.workers  # type: ignore[attr-defined]
        if width is not None and 0 < workers < width:
            yield Finding(
                rule="width-over-workers",
                path=live.path,
                message=f"{width} calls may run, and the executor has {workers} workers",
                fix=f"set {live.path}/width to {workers} or null, or give it more workers",
            )


def queue_of_several_executors(way: Way) -> Iterator[Finding]:
    """Find queues that take the workers of several servers for those of one."""
    for live in way:
        if isinstance(live.policy, AdmissionQueue) and live.executors > 1:  # type: ignore[attr-defined]
            yield Finding(
                rule="queue-of-several-executors",
                path=live.path,
                message=f"{live.executors} executors keep it, and calls are let in that wait for "  # type: ignore[attr-defined]
                "a worker of one of them while another has nothing to do",
                fix="give the servers one executor, or each of them a stack of its own",
            )


def waits_twice(way: Way) -> Iterator[Finding]:
    """Find waits inside of a queue, which takes them for work, or outside, where nothing counts."""
    queues = [live for live in way if isinstance(live.policy, AdmissionQueue)]
    for live in way:
        policy = live.policy
        waits = isinstance(policy, Bulkhead) and policy.max_queue and policy.max_wait > 0
        if queues and (waits or (isinstance(policy, RateLimit) and policy.max_wait > 0)):
            yield Finding(
                rule="waits-twice",
                path=live.path,
                message=f"calls wait here and in {queues[0].path}, which does not know of it",
                fix=f"set {live.path}/max_wait to 0",
            )

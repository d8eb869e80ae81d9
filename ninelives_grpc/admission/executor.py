"""Keep the queue of a sync server's calls where it arises: before the workers."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from ninelives_grpc.admission.at_once import AT_ONCE
from ninelives_grpc.admission.job import Job
from ninelives_grpc.admission.lines import Place
from ninelives_grpc.admission.ticket import arrival_of
from ninelives_grpc.forking import afresh_in_children
from ninelives_grpc.policies.admission_queue import DEFAULT_WORKERS
from ninelives_grpc.policies.gate import Permit, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from ninelives_grpc.admission.ticket import Entrance
    from ninelives_grpc.policies.admission_queue import AdmissionQueueGate


class AdmissionExecutor(ThreadPoolExecutor):
    """The thread pool of a sync server whose stacks have an `AdmissionQueue`.

        stack = Stack("shop", AdmissionQueue())
        pool = AdmissionExecutor(16)
        server = grpc.server(pool, interceptors=[server_interceptor(stack)])

    gRPC's server reads calls as fast as they come, and they wait for a worker of its pool before
    any policy sees them. This pool asks the queue of the stack as soon as a call is there: it goes
    to a worker, or waits, or is refused, at once and by threads that do nothing else, so that a
    refusal does not wait for a worker. Workers are given calls in the order of the queue. A place
    is free again when its worker is, also if the client is gone and no handler ever ran.

    A `Timeout` of the stack begins with the handler, and outside of the queue shortens the wait.
    Functions, and calls of routes without a queue, such as those of health checks, run as in any
    pool, in as many other threads: they are answered while all workers are busy, and take none.
    Where several stacks have a queue they share the workers, and should share a queue; and servers
    whose stacks share a queue should share an executor.

    `shutdown` refuses the calls that wait, with UNAVAILABLE, and waits for those that run.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        refusal_workers: int = 4,
        thread_name_prefix: str = "ninelives-server",
    ) -> None:
        """Start no thread yet.

        Args:
            max_workers: Calls that can run at once; None takes what Python's pool would.
            refusal_workers: Threads that tell clients of refusals.
            thread_name_prefix: What the names of threads begin with.

        Raises:
            ValueError: A number is not positive.
        """
        self._number = DEFAULT_WORKERS if max_workers is None else max_workers
        self._refusals = refusal_workers
        self._prefix = thread_name_prefix
        self._begin()
        afresh_in_children(self)

    def _begin(self) -> None:
        super().__init__(self._number, self._prefix)
        self._others = ThreadPoolExecutor(self._number, f"{self._prefix}-other")
        self._refusing = ThreadPoolExecutor(self._refusals, f"{self._prefix}-refusal")
        self._gates: set[AdmissionQueueGate] = set()
        self._waiting: dict[Job, tuple[Future[Any], Place]] = {}
        self._timers: dict[AdmissionQueueGate, tuple[float, Callable[[], None]]] = {}
        self._timing = threading.RLock()
        self._closed = False

    def start_afresh(self) -> None:
        """Begin without threads and calls, as a forked child has none of them."""
        self._begin()

    @property
    def queued(self) -> int:
        """Calls that wait for a worker."""
        return len(self._waiting)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have a call of gRPC's server admitted, wait or be refused; run anything else.

        Raises:
            RuntimeError: It is no call behind a queue, and `shutdown` was called.
        """
        arrival = None if kwargs else arrival_of(fn)
        if arrival is None:
            return self._others.submit(fn, *args, **kwargs)
        job = Job(arrival, fn, args)
        gate = job.gate
        if gate not in self._gates:
            self._work_for(gate)
        if gate.enter(job.now()):
            return self._start(job)
        try:
            call = job.call
            verdict = gate.admit(call, call.started, call.deadline)
        except Exception:  # noqa: BLE001 - of `fair_by`, which raises it to the handler again
            return self._fail(job, fn, args)
        if isinstance(verdict, Permit):
            return self._start(job)
        if isinstance(verdict, Refusal):
            work = job.refuse(verdict)
            # Here where that is possible, as it is only a status to send: another thread would have
            # to be woken up first, and wait for Python's lock among those that are at work.
            return self._refuse(work) if work == job.run else AT_ONCE.submit(work)
        assert isinstance(verdict, Place)
        return self._wait(job, verdict)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work, and end: calls that wait are refused, or cancelled if asked to.

        Args:
            wait: Whether to wait for what runs.
            cancel_futures: Whether to cancel what has not begun, of which clients hear nothing.
        """
        with self._timing:
            self._closed = True
            for _, call_off in self._timers.values():
                call_off()
        for job, (future, _) in self._waiting.copy().items():
            if cancel_futures:
                future.cancel()
            self._woken(job)
        self._others.shutdown(wait=False, cancel_futures=cancel_futures)
        super().shutdown(wait=wait, cancel_futures=cancel_futures)
        self._others.shutdown(wait=wait)
        self._refusing.shutdown(wait=wait)
        with self._timing:
            gates, self._gates = self._gates, set()
        for gate in gates:
            gate.add_workers(-self._number)

    def _work_for(self, gate: AdmissionQueueGate) -> None:
        """Tell a queue of the workers, once; several servers may do so in threads of their own."""
        with self._timing:
            if gate not in self._gates and not self._closed:
                gate.add_workers(self._number)
                self._gates.add(gate)

    def _start(self, job: Job) -> Future[Any]:
        """Give a call that has a place to a worker."""
        try:
            future = super().submit(job.run)
        except RuntimeError:
            job.finished(None)
            return self._refuse(job.refuse(job.gate.shut(job.call, job.now())))
        future.add_done_callback(job.finished)
        return future

    def _fail(self, job: Job, fn: Callable[..., Any], args: Any) -> Future[Any]:
        """Run a call that no key is found for, so that it is told."""
        try:
            return self._others.submit(fn, *args)
        except RuntimeError:
            return self._refuse(job.refuse(job.gate.shut(job.call, job.now())))

    def _refuse(self, work: Callable[[], Any]) -> Future[Any]:
        """Have a client told that its call is refused."""
        try:
            return self._refusing.submit(work)
        except RuntimeError:
            # A call that came after the end has to be ended all the same, or its server never does.
            late: Future[Any] = Future()
            late.set_running_or_notify_cancel()
            own = partial(_do, late, work)
            try:
                threading.Thread(target=own, name=f"{self._prefix}-late", daemon=True).start()
            except RuntimeError as error:
                # The interpreter ends, and nobody is told anything any more.
                late.set_exception(error)
            return late

    def _wait(self, job: Job, place: Place) -> Future[Any]:
        """Keep a call until its turn comes, or it is thrown out."""
        future: Future[Any] = Future()
        self._waiting[job] = (future, place)
        place.wake = partial(self._woken, job)
        if place.ready or self._closed:
            self._woken(job)
        else:
            self._watch(job.entrance, place.until)
        future.add_done_callback(partial(self._cancelled, job))
        return future

    def _woken(self, job: Job) -> None:
        """Go on with a call that there is news for; once, whoever has it."""
        known = self._waiting.pop(job, None)
        if known is None:
            return
        known[1].wake = None
        turns = _turns
        turns.due.append(partial(self._go_on, job, *known))
        # A call that can not be started passes its place on: thousands of them are no recursion.
        if turns.busy:
            return
        turns.busy = True
        try:
            while turns.due:
                turns.due.popleft()()
        finally:
            turns.busy = False

    def _go_on(self, job: Job, future: Future[Any], place: Place) -> None:
        gate, now = job.gate, job.now()
        if not future.set_running_or_notify_cancel():
            gate.abandon(place, now)
            return
        verdict = gate.claim(place, job.call, now)
        if isinstance(verdict, Permit):
            done = self._start(job)
        elif isinstance(verdict, Refusal):
            done = self._refuse(job.refuse(verdict))
        else:
            gate.abandon(verdict, now)
            done = self._refuse(job.refuse(gate.shut(job.call, now)))
        done.add_done_callback(partial(_pass_on, future))

    def _cancelled(self, job: Job, future: Future[Any]) -> None:
        """Have a call whose future is cancelled wait no more."""
        if future.cancelled():
            self._woken(job)

    def _watch(self, entrance: Entrance, until: float) -> None:
        """Throw out who is late also while no call comes and none ends."""
        known = self._timers.get(entrance.gate)
        if known is not None and known[0] <= until:
            return
        with self._timing:
            known = self._timers.get(entrance.gate)
            if self._closed or (known is not None and known[0] <= until):
                return
            if known is not None:
                known[1]()
            timer = entrance.at(until, partial(self._throw_out, entrance, until))
            self._timers[entrance.gate] = (until, timer)

    def _throw_out(self, entrance: Entrance, at: float) -> None:
        # First, as a call may line up meanwhile that needs a watch.
        with self._timing:
            if self._timers.get(entrance.gate, (None,))[0] == at:
                del self._timers[entrance.gate]
        until = entrance.gate.throw_out(entrance.now())
        if until is not None:
            self._watch(entrance, until)


class _Turns(threading.local):
    """The calls that this thread has to go on with."""

    def __init__(self) -> None:
        self.due: deque[Callable[[], None]] = deque()
        self.busy = False


_turns = _Turns()


def _do(future: Future[Any], work: Callable[[], Any]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:  # noqa: BLE001 - for whoever looks into the future
        future.set_exception(error)


def _pass_on(future: Future[Any], done: Future[Any]) -> None:
    """End a future as another has."""
    error = CancelledError() if done.cancelled() else done.exception()
    if error is None:
        future.set_result(done.result())
    else:
        future.set_exception(error)

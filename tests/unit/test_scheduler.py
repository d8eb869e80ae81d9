"""The thread that does things later is there whenever something is due, whatever goes wrong."""

import threading

import pytest

from ninelives_grpc.scheduler import Scheduler


def do(scheduler):
    """Have something done, and wait until it is."""
    done = threading.Event()
    scheduler.later(0.0, done.set)
    assert done.wait(10)


def test_after_a_thread_that_could_not_be_started_another_one_is(monkeypatch):
    scheduler = Scheduler()

    def exhausted(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", exhausted)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            scheduler.later(0.0, threading.Event().set)

    do(scheduler)


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_a_step_that_raises_is_logged_and_the_next_is_done(caplog, error):
    scheduler = Scheduler()

    def fails():
        raise error

    scheduler.later(0.0, fails)
    do(scheduler)

    assert [record.message for record in caplog.records] == ["a scheduled step failed"]

"""Sensors read what the kernel, a loop or a pool says: a tree of files here, and the real ones."""

import asyncio
import gc
import os
import sys
import threading
import types
from concurrent.futures import ThreadPoolExecutor

import pytest

from ninelives_grpc.pressure import Cpu, LoopLag, Memory, PoolQueue, Sensor, Stall
from ninelives_grpc.pressure.kept_file import KeptFile

MEMINFO = "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    400 kB\n"


@pytest.fixture
def root(tmp_path):
    return tmp_path


def write(root, **files):
    """Write files below a root, by paths in which two underscores stand for a slash."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def held(kibibytes):
    """Return what the kernel says of a process that holds so much."""
    return f"9000 {kibibytes * 1024 / os.sysconf('SC_PAGE_SIZE'):.0f} 20 1 0 500 0\n"


def group(root, path, *, limit="max", high="max", current=0, inactive=0):
    """Make a control group of version 2."""
    directory = root / "sys/fs/cgroup" / path
    directory.mkdir(parents=True, exist_ok=True)
    (root / "sys/fs/cgroup/cgroup.controllers").write_text("cpu memory\n")
    stat = f"anon 1\nfile 2\ninactive_anon 3\ninactive_file {inactive}\nactive_file 4\n"
    for name, text in (
        ("memory.max", limit), ("memory.high", high), ("memory.current", current),
        ("memory.stat", stat),
    ):  # fmt: skip
        (directory / name).write_text(f"{text}\n")


def group_1(root, path, *, limit, usage, inactive=0):
    """Make a control group of version 1."""
    directory = root / "sys/fs/cgroup/memory" / path
    directory.mkdir(parents=True, exist_ok=True)
    stat = f"inactive_file 1\ntotal_inactive_file {inactive}\n"
    for name, text in (
        ("memory.limit_in_bytes", limit), ("memory.usage_in_bytes", usage), ("memory.stat", stat),
    ):  # fmt: skip
        (directory / name).write_text(f"{text}\n")


def test_memory_is_the_share_of_the_limit_without_files_that_nobody_uses(root):
    write(root, proc__self__cgroup="0::/app\n")
    group(root, "app", limit=1000, current=900, inactive=300)

    assert Memory(root=root).read() == pytest.approx(0.6)


def test_the_fullest_of_the_groups_counts_up_to_the_root(root):
    write(root, proc__self__cgroup="0::/pod/app\n")
    group(root, "pod/app", limit=1000, current=100)
    group(root, "pod", limit=2000, current=1600)
    group(root, "", current=5000)

    assert Memory(root=root).read() == pytest.approx(0.8)


def test_a_group_that_is_slowed_down_before_its_limit_has_that_for_a_limit(root):
    write(root, proc__self__cgroup="0::/\n")
    group(root, "", limit=1000, high=800, current=400)

    assert Memory(root=root).read() == pytest.approx(0.5)


def test_in_a_container_the_path_may_be_that_of_the_host(root):
    write(root, proc__self__cgroup="0::/kubepods/pod1/abc\n")
    group(root, "", limit=1000, current=250)

    assert Memory(root=root).read() == pytest.approx(0.25)


def test_version_1_is_read_where_there_is_no_version_2(root):
    write(root, proc__self__cgroup="5:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/y\n")
    group_1(root, "docker/abc", limit=1000, usage=700, inactive=200)
    group_1(root, "", limit=9223372036854771712, usage=5000)

    assert Memory(root=root).read() == pytest.approx(0.5)


def test_without_a_limit_what_is_held_and_what_is_left_on_the_machine_counts(root):
    write(root, proc__self__cgroup="0::/app\n", proc__meminfo=MEMINFO, proc__self__statm=held(600))
    group(root, "app", current=900)
    group_1(root, "", limit=9223372036854771712, usage=5000)

    assert Memory(root=root).read() == pytest.approx(0.6)


def test_what_others_hold_does_not_count_as_long_as_there_is_enough(root):
    crowded = "MemTotal: 100000 kB\nMemAvailable: 5400 kB\n"
    write(root, proc__meminfo=crowded, proc__self__statm=held(600))

    assert Memory(root=root).read() == pytest.approx(0.1)


def test_a_limit_that_comes_later_counts_from_then_on(root):
    write(root, proc__self__cgroup="0::/app\n", proc__meminfo=MEMINFO, proc__self__statm=held(600))
    group(root, "app", current=900)
    memory = Memory(root=root)
    before = memory.read()

    (root / "sys/fs/cgroup/app/memory.max").write_text("1000\n")

    assert before == pytest.approx(0.6)
    assert memory.read() == pytest.approx(0.9)


def test_a_limit_of_ones_own_is_for_what_the_process_holds(root):
    write(root, proc__self__cgroup="0::/app\n", proc__self__statm="9000 300 20 1 0 500 0\n")
    group(root, "app", limit=1000, current=900)
    pages = os.sysconf("SC_PAGE_SIZE")

    assert Memory(lambda: 1000 * pages, root=root).read() == pytest.approx(0.3)


@pytest.mark.parametrize(
    "garbage", [b"", b"\n", b"garbage\n0::/\n", b"0:\n", b"::\xff\xfe\n0::/app\n"]
)
def test_garbage_in_place_of_the_path_of_a_group_is_passed_over(root, garbage):
    group(root, "", limit=1000, current=250)
    group(root, "app", current=0)
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_bytes(garbage)

    assert Memory(root=root).read() == pytest.approx(0.25)


def test_a_group_whose_name_is_no_text_is_found(root):
    name = os.fsdecode(b"caf\xe9")
    group(root, name, limit=1000, current=500)
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_bytes(b"0::/caf\xe9\n")

    assert Memory(root=root).read() == pytest.approx(0.5)


def test_what_is_closed_to_us_is_not_known(root, monkeypatch):
    def closed(*_, **__):
        raise PermissionError

    monkeypatch.setattr(os, "stat", closed)
    sensors = Memory(root=root), Stall("cpu", root=root), Cpu(root=root)
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "psutil", None)

    assert [sensor.read() for sensor in sensors] == [None, None, None]


def test_psutil_is_asked_where_there_is_no_proc(root, monkeypatch):
    # Windows has no such flag.
    monkeypatch.delattr(os, "O_CLOEXEC")
    holds = types.SimpleNamespace(memory_info=lambda: types.SimpleNamespace(rss=250))
    told = types.SimpleNamespace(
        virtual_memory=lambda: types.SimpleNamespace(available=250), Process=lambda: holds
    )
    monkeypatch.setitem(sys.modules, "psutil", told)

    assert Memory(root=root).read() == pytest.approx(0.5)
    assert Memory(lambda: 1000, root=root).read() == pytest.approx(0.25)


def test_nothing_is_known_where_nothing_tells(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)

    assert Memory(root=root).read() is None
    assert Memory(lambda: 1000, root=root).read() is None
    assert Stall("memory", root=root).read() is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_this_process_and_machine_can_be_read():
    taken = b"x" * 50_000_000

    assert 0.0 < Memory().read() < 2.0
    assert Memory(lambda: 100_000_000).read() > len(taken) / 100_000_000


def test_stalls_are_those_of_the_group_or_of_the_machine(root):
    text = "some avg10={} avg60=3.00 avg300=1.00 total=123\nfull avg10=1.00 total=1\n"
    write(root, proc__self__cgroup="0::/app\n", proc__pressure__memory=text.format("12.50"))
    machine = Stall("memory", root=root)
    group(root, "app")
    (root / "sys/fs/cgroup/app/memory.pressure").write_text(text.format("40.00"))

    assert machine.read() == pytest.approx(0.125)
    assert Stall("memory", root=root).read() == pytest.approx(0.4)
    assert Stall("cpu", root=root).name == "cpu_stall"


class Spent:
    """A clock, and the CPU time that was used by it."""

    def __init__(self):
        self.now = self.used = 0.0

    def of(self, root):
        return Cpu(root=root, clock=lambda: self.now, used=lambda: self.used)


def test_cpu_is_what_is_used_of_what_the_quota_allows(root):
    write(root, proc__self__cgroup="0::/app\n")
    group(root, "app")
    (root / "sys/fs/cgroup/app/cpu.max").write_text("50000 100000\n")
    group(root, "")
    (root / "sys/fs/cgroup/cpu.max").write_text("max 100000\n")
    spent = Spent()
    cpu = spent.of(root)

    unknown = cpu.read()
    spent.now, spent.used = 1.0, 0.4
    first = cpu.read()
    spent.now, spent.used = 1.1, 0.5
    too_soon = cpu.read()
    spent.now, spent.used = 2.0, 0.5
    second = cpu.read()

    assert unknown is None
    assert (first, too_soon, second) == pytest.approx((0.8, 0.8, 0.2))


def test_a_quota_of_version_1_counts_as_well(root):
    write(root, proc__self__cgroup="3:cpu:/app\n")
    directory = root / "sys/fs/cgroup/cpu/app"
    directory.mkdir(parents=True)
    (directory / "cpu.cfs_quota_us").write_text("25000\n")
    (directory / "cpu.cfs_period_us").write_text("100000\n")
    spent = Spent()
    cpu = spent.of(root)

    spent.now, spent.used = 1.0, 0.2

    assert cpu.read() == pytest.approx(0.8)


def test_without_a_quota_the_processors_count(root, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    spent = Spent()
    cpu = spent.of(root)

    spent.now, spent.used = 1.0, 2.0

    assert cpu.read() == pytest.approx(0.5)


def test_a_child_that_has_used_nothing_begins_to_measure_anew(root):
    spent = Spent()
    spent.used = 5.0
    cpu = spent.of(root)

    spent.now, spent.used = 1.0, 0.1

    assert cpu.read() is None


class Time:
    """A clock that is told the time."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_the_lag_of_a_loop_is_the_time_that_a_callback_waits():
    time = Time()
    lag = LoopLag(clock=time)

    async def main():
        lag.follow_running_loop()
        readings = [lag.read()]
        time.now = 0.3
        readings.append(lag.read())  # it waits still
        time.now = 0.4
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        time.now = 5.0
        readings.append(lag.read())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        readings.append(lag.read())
        return readings

    assert asyncio.run(main()) == pytest.approx([0.0, 0.3, 0.4, 0.0])


def test_a_loop_that_is_stuck_is_noticed_while_it_is():
    lag, followed, free = LoopLag(), threading.Event(), threading.Event()

    async def main():
        lag.follow_running_loop()
        followed.set()
        free.wait(10)

    thread = threading.Thread(target=asyncio.run, args=[main()])
    thread.start()
    followed.wait(10)
    lag.read()
    first = lag.read()
    while lag.read() == first:
        pass
    later = lag.read()
    free.set()
    thread.join()

    assert later > first
    assert lag.read() is None


def test_a_loop_is_followed_when_the_one_before_has_ended():
    lag = LoopLag()

    async def main():
        before = lag.follows
        lag.follow_running_loop()
        return before, lag.follows, lag.read()

    outside = lag.read()
    lag.follow_running_loop()
    first = asyncio.run(main())
    between = lag.read()
    second = asyncio.run(main())

    assert outside is None
    assert between is None
    assert first == second == (False, True, 0.0)


def test_a_loop_of_the_parent_is_none_of_the_childs():
    lag = LoopLag()

    async def main():
        lag.follow_running_loop()
        lag.start_afresh()
        return lag.follows

    assert not asyncio.run(main())


def test_the_queue_of_a_pool_is_a_share_of_what_may_wait():
    free = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        sensor = PoolQueue(pool, per_thread=4.0)
        empty = sensor.read()
        started = threading.Barrier(3)
        for _ in range(2):
            pool.submit(lambda: (started.wait(10), free.wait(10)))
        started.wait(10)
        for _ in range(6):
            pool.submit(len, "")
        full = sensor.read()
        free.set()

    assert (empty, full) == (0.0, 0.75)


def test_a_pool_of_another_make_does_not_tell():
    assert PoolQueue(object()).read() is None


def test_all_of_them_are_sensors():
    for sensor in (Memory(), Stall("cpu"), Cpu(), LoopLag(), PoolQueue(object(), name="q")):
        assert isinstance(sensor, Sensor)
        assert isinstance(sensor.name, str)


def test_a_file_is_opened_once_and_read_anew(root):
    write(root, file="1\n")
    file = KeptFile(root / "file")
    first = file.number()
    descriptor = file._descriptor
    (root / "file").write_text("2\n")

    second = file.number()

    assert (first, second) == (1, 2)
    assert file._descriptor == descriptor


def test_a_file_that_is_missing_is_asked_for_again(root):
    file = KeptFile(root / "file")
    before = file.read()
    write(root, file="a 1\nab 2\nb x\n")

    assert before is None
    assert file.fields(b"ab", b"a", b"b", b"c") == (2, 1, None, None)
    assert file.number() is None


def test_a_child_opens_its_own_files_and_nothing_stays_open(root):
    write(root, file="1")
    file = KeptFile(root / "file")
    file.read()
    descriptor = file._descriptor

    file.start_afresh()
    closed = file._descriptor is None
    file.read()
    reopened = file._descriptor
    del file
    gc.collect()

    assert closed
    for each in {descriptor, reopened}:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(each)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_reads_what_it_holds_itself():
    memory = Memory(lambda: 1)
    before = memory.read()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            ballast = b"x" * 200_000_000
            os.write(writing, f"{memory.read() + 0 * len(ballast)}".encode())
        finally:
            os._exit(0)

    held = float(os.read(reading, 100))
    os.waitpid(child, 0)
    os.close(reading)
    os.close(writing)

    assert held > before + 100_000_000

import math
import random
import subprocess
import sys
from collections import Counter

import pytest

from ninelives_grpc.windows.sketch import Sketch, bucket_of, middle_of


@pytest.mark.parametrize("ratio", [0.01, 0.5, 0.9, 0.95, 0.99, 1.0])
@pytest.mark.parametrize("spread", [0.1, 1.5, 4.0])
def test_any_percentile_is_right_to_a_hundredth(ratio, spread):
    rng = random.Random(3)
    samples = sorted(rng.lognormvariate(-3, spread) for _ in range(10_000))
    kept = [sample for sample in samples if 1e-6 <= sample <= 1e4]

    found = Sketch(kept).quantile(ratio)

    exact = kept[math.ceil(ratio * len(kept)) - 1]
    assert found == pytest.approx(exact, rel=0.011)


@pytest.mark.parametrize("exponent", range(-19, 14))
def test_a_bucket_holds_its_upper_bound_and_not_its_lower(exponent):
    bound = 2.0**exponent

    assert bucket_of(bound) == exponent * 32 - 1
    assert bucket_of(bound * 1.0001) == exponent * 32


@pytest.mark.parametrize(("sample", "same_as"), [(0.0, 1e-6), (-1.0, 1e-6), (1e9, 1e4)])
def test_durations_beyond_all_measure_are_kept_at_the_ends(sample, same_as):
    assert Sketch([sample]) == Sketch([same_as])


def test_sketches_are_merged_by_addition():
    first, second = Sketch([0.1] * 90), Sketch([10.0] * 10)

    first.merge(second)

    assert first.quantile(0.9) == middle_of(bucket_of(0.1))
    assert first.quantile(0.91) == middle_of(bucket_of(10.0))
    assert (first.count, second.count) == (100, 10)
    assert first.sum == pytest.approx(109.0)


def test_nothing_has_no_percentile():
    assert Sketch().quantile(0.5) is None
    assert Sketch.from_bytes(Sketch().to_bytes()) == Sketch()


def test_the_smallest_percentile_is_the_smallest_sample():
    assert Sketch([1.0, 2.0, 4.0]).quantile(0.0) == middle_of(bucket_of(1.0))


@pytest.mark.parametrize("many", [2**16 - 1, 2**32 - 1])
def test_a_bucket_can_hold_more_than_fits_its_bytes(many):
    sketch = Sketch()
    sketch.add(0.1, many)
    sketch.add(1.0)

    sketch.add(0.1)

    assert dict(sketch.buckets()) == {bucket_of(0.1): many + 1, bucket_of(1.0): 1}
    assert Sketch.from_bytes(sketch.to_bytes()) == sketch


def test_several_durations_that_are_the_same_are_added_at_once():
    once, often = Sketch(), Sketch([0.1] * 5)

    once.add(0.1, 5)

    assert once == often
    assert once.sum == pytest.approx(often.sum)


_WORKER = """
import random, sys
from ninelives_grpc.windows.sketch import Sketch
rng = random.Random(int(sys.argv[1]))
sketch = Sketch(rng.lognormvariate(-3, 1.5) for _ in range(5000))
sys.stdout.buffer.write(sketch.to_bytes())
"""


def test_sketches_of_processes_add_up_to_the_sketch_of_all_samples():
    workers = [
        subprocess.Popen([sys.executable, "-c", _WORKER, str(seed)], stdout=subprocess.PIPE)
        for seed in range(3)
    ]
    merged, everything = Sketch(), Sketch()
    for seed, worker in enumerate(workers):
        merged.merge(Sketch.from_bytes(worker.communicate()[0]))
        rng = random.Random(seed)
        everything.extend(rng.lognormvariate(-3, 1.5) for _ in range(5000))

    assert merged == everything
    assert merged.sum == pytest.approx(everything.sum)
    for ratio in (0.5, 0.9, 0.99, 0.999):
        assert merged.quantile(ratio) == everything.quantile(ratio)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "are no sketch"),
        (b"x" * 100, "are no sketch"),
        (Sketch([1.0]).to_bytes()[:-1], "is not whole"),
        (Sketch([1.0]).to_bytes() + b"x", "is not whole"),
        (b"NLSK\x03" + Sketch([1.0]).to_bytes()[5:], "has scale 3"),
        (b"NLSK\x05" + b"\xff\xff\xff\x7f" + Sketch([1.0]).to_bytes()[9:], "there are none of"),
    ],
)
def test_what_is_no_sketch_is_refused(data, said):
    with pytest.raises(ValueError, match=said):
        Sketch.from_bytes(data)


def test_buckets_that_were_counted_elsewhere_can_be_put_in():
    sketch = Sketch()

    sketch.put(Counter({3: 2, -40: 1}), 2.5)

    assert list(sketch.buckets()) == [(-40, 1), (3, 2)]
    assert sketch.sum == 2.5

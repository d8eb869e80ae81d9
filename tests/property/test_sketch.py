import math

from hypothesis import given
from hypothesis import strategies as st

from ninelives_grpc.windows.sketch import Sketch

DURATIONS = st.floats(min_value=1e-6, max_value=1e4)
RATIOS = st.floats(min_value=0.0, max_value=1.0)


@given(st.lists(st.lists(DURATIONS), min_size=1, max_size=6), RATIOS)
def test_parts_in_any_order_add_up_to_the_whole(parts, ratio):
    whole = Sketch(duration for part in parts for duration in part)
    merged = Sketch()
    for part in reversed(parts):
        merged.merge(Sketch.from_bytes(Sketch(part).to_bytes()))

    assert merged == whole
    assert merged.quantile(ratio) == whole.quantile(ratio)
    assert math.isclose(merged.sum, whole.sum, rel_tol=1e-9)


@given(st.lists(DURATIONS, min_size=1), RATIOS)
def test_a_percentile_is_within_a_hundredth_of_the_sample_of_its_rank(durations, ratio):
    exact = sorted(durations)[max(1, math.ceil(ratio * len(durations))) - 1]

    found = Sketch(durations).quantile(ratio)

    assert abs(found - exact) <= 0.011 * exact


@given(st.binary(max_size=64))
def test_bytes_from_anywhere_are_a_sketch_or_a_clear_error(data):
    for given_bytes in (data, Sketch([0.1, 0.2]).to_bytes()[:9] + data):
        try:
            sketch = Sketch.from_bytes(given_bytes)
        except ValueError as error:
            assert "sketch" in str(error)  # noqa: PT017 - it may be a sketch, too
        else:
            assert Sketch.from_bytes(sketch.to_bytes()) == sketch

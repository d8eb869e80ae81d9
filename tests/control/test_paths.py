import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ninelives_control.paths import below, matches, reaches


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("**", ""),
        ("**", "payments/retry"),
        ("payments", "payments"),
        ("payments/**", "payments"),
        ("payments/**", "payments/retry/max_attempts"),
        ("*/retry/*", "payments/retry/max_attempts"),
        ("**/max_attempts", "payments/retry/max_attempts"),
        ("pay*/ret??/**", "payments/retry"),
        ("**/retry/**", "payments/retry"),
    ],
)
def test_a_pattern_fits(pattern, path):
    assert matches(pattern, path)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*", ""),
        ("*", "payments/retry"),
        ("payments", "payments/retry"),
        ("payments/**", "payments2/retry"),
        ("payments/*", "payments/retry/max_attempts"),
        ("Payments", "payments"),
        ("**/max", "payments/retry/max_attempts"),
        ("a/**/b", "a/c"),
    ],
)
def test_a_pattern_does_not_fit(pattern, path):
    assert not matches(pattern, path)


NAMES = st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=4)
PARTS = st.lists(st.sampled_from(["a", "b", "a*", "*", "?", "**"]), min_size=1, max_size=5)


@given(PARTS, NAMES)
def test_patterns_mean_what_a_regular_expression_would(parts, names):
    some = {"**": "(?:[^/]+/)*", "*": "[^/]*/", "?": "[^/]/", "a*": "a[^/]*/"}
    expression = "".join(some.get(part, f"{part}/") for part in parts)

    fits = matches("/".join(parts), "/".join(names))

    assert fits == bool(re.fullmatch(expression, "".join(f"{name}/" for name in names)))


@given(PARTS, NAMES, NAMES)
def test_a_pattern_that_fits_below_an_address_reaches_it(parts, names, more):
    pattern = "/".join(parts)

    if matches(pattern, "/".join([*names, *more])):
        assert reaches(pattern, "/".join(names))


@pytest.mark.parametrize(
    ("pattern", "path", "reached"),
    [
        ("payments/**", "", True),
        ("payments/retry/*", "payments", True),
        ("payments/retry", "payments/retry/max_attempts", False),
        ("payments/**", "search", False),
        ("*/retry", "search", True),
    ],
)
def test_a_pattern_reaches_what_contains_a_place_that_fits(pattern, path, reached):
    assert reaches(pattern, path) is reached


def test_a_malicious_pattern_takes_no_time():
    assert not matches("/".join(["**", "*a"] * 200), "/".join(["aa"] * 100) + "/b")


def test_names_are_joined_as_far_as_they_are_given():
    assert below("shop", "retry") == "shop/retry"
    assert below("shop", None) == "shop"
    assert below(None, "retry") == ""

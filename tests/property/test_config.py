"""A file is built, or refused with a place; and the schema agrees with the parser."""

# mypy: allow-untyped-defs, allow-untyped-calls, no-check-untyped-defs

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ninelives_grpc import ConfigError, Registry, config
from ninelives_grpc.config.builder import Builder
from ninelives_grpc.config.values import BUDGETS, KINDS, LAWS
from ninelives_grpc.parameters import settings
from ninelives_grpc.presets import PRESETS

plain = st.none() | st.booleans() | st.integers(-2, 200) | st.floats() | st.sampled_from(["", "x"])
anything = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2)
)


def of(kind):
    return st.dictionaries(st.sampled_from([*settings(kind), "x"]), plain, max_size=3)


policies = st.fixed_dictionaries({}, optional={name: of(kind) for name, kind in KINDS.items()})
expressions = st.lists(st.sampled_from([*KINDS, "a", "b"]), min_size=1, max_size=3).map(" + ".join)
targets = st.sampled_from(["bulkhead/max_concurrent", "retry/max_attempts", "x", 3])
loop = st.sampled_from([*LAWS, "x"]).flatmap(
    lambda name: st.tuples(of(LAWS.get(name, LAWS["aimd"])), targets).map(
        lambda pair: {"law": name, "parameter": pair[1], **pair[0]}
    )
)
loops = st.dictionaries(st.sampled_from(["a", "retry", "B"]), loop | plain, max_size=2)
composed = st.tuples(
    expressions, policies, st.just({}) | loops.map(lambda told: {"loops": told})
).map(lambda told: {"expression": told[0], **told[1], **told[2]})
preset = st.fixed_dictionaries(
    {"preset": st.sampled_from([*PRESETS, "x"])},
    optional={"overrides": st.dictionaries(st.sampled_from(["retry/max_attempts", "x"]), plain)},
)
budget = st.one_of(
    [
        of(kind).map(lambda table, name=name: {"kind": name, **table})
        for name, kind in BUDGETS.items()
    ]
)
files = st.fixed_dictionaries(
    {},
    optional={
        "stacks": st.dictionaries(st.sampled_from(["a", "b", "c/d"]), composed | preset | anything),
        "budgets": st.dictionaries(st.sampled_from(["x", "y"]), budget | anything),
        "routes": st.dictionaries(
            st.sampled_from(["*", "a.B/*", "a.B/C", "x"]), st.sampled_from(["a", "b", ""]) | plain
        ),
    },
)


@given(files | anything)
@example({"routes": {"*": 0}})
def test_a_file_is_built_or_refused_with_a_place(data):
    builder = Builder(data, "f", {})

    for problem in builder.problems.found:
        assert problem.path.startswith("f")
    if builder.problems.found:
        with pytest.raises(ConfigError):
            config.parse(data, registry=Registry())


@given(files)
def test_what_is_built_is_valid(data):
    jsonschema = pytest.importorskip("jsonschema")
    builder = Builder(data, "f", {})

    if not builder.problems.found:
        jsonschema.validate(data, config.schema())

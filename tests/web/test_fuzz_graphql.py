"""Documents made up by hypothesis-graphql: every error has a code, and none is `internal`."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis_graphql import Mode, from_schema, nodes

from ninelives_control import ControlPlane
from ninelives_control.errors import Code
from ninelives_control.identity import tokens as token_file
from ninelives_grpc import CircuitBreaker, Registry, Retry, Stack
from tests.web.http_asker import post
from tests.web.test_graphql_schema import GOLDEN

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    ["shop", "retry", "shop/retry", "shop/retry/max_attempts", "shop/circuit_breaker", "**"]
)
NUMBERS = st.integers(0, 60) | st.integers(-(2**70), 2**70)
FRACTIONS = st.floats(allow_nan=False, allow_infinity=False)
SCALARS = {
    "String": WORDS.map(nodes.String),
    "Long": NUMBERS.map(nodes.Int),
    "ParameterValue": st.one_of(
        NUMBERS.map(nodes.Int),
        FRACTIONS.map(nodes.Float),
        WORDS.map(nodes.String),
        st.booleans().map(nodes.Boolean),
        st.just(nodes.Null),
    ),
}


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Send a document to a control plane, and return the answer."""
    path = tmp_path_factory.mktemp("fuzz") / "tokens.json"
    token = token_file.create(path, "admin", "admin")
    registry = Registry()
    Stack("shop", Retry(3) + CircuitBreaker(), registry=registry)
    with ControlPlane(registry, grpc_port=None, http_port=0, tokens=path) as plane:
        yield lambda document: post(plane, document, token)


EXPECTED = {
    Mode.POSITIVE: {Code.INVALID_ARGUMENT, Code.NOT_FOUND, "answered"},
    Mode.NEGATIVE: {Code.INVALID_ARGUMENT},
}
"""What has to come of documents that fit the schema, and of those that do not."""


@pytest.mark.parametrize("mode", Mode, ids=lambda mode: mode.name.lower())
def test_every_error_has_a_code_and_was_foreseen(mode, asked, caplog):
    seen = set()

    @settings(
        max_examples=60,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(from_schema(GOLDEN.read_text(), custom_scalars=SCALARS, mode=mode))
    def check(document):
        answer = asked(document)

        assert answer.status == 200
        codes = {error["extensions"]["code"] for error in answer.json.get("errors", ())}
        assert codes <= set(Code) - {Code.INTERNAL}
        seen.update(codes)
        if any((answer.json["data"] or {}).values()):
            seen.add("answered")

    check()

    assert seen >= EXPECTED[mode]
    assert "Traceback" not in caplog.text

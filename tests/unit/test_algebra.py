import pytest

from ninelives_grpc import (
    Bulkhead,
    CircuitBreaker,
    ConfigError,
    Fallback,
    Race,
    RateLimit,
    Respond,
    Retry,
    Stack,
    Timeout,
)
from ninelives_grpc.stacks.algebra import Wrap

A, B, C, D = Timeout(1.0), Bulkhead(2), RateLimit(3.0), Retry(4)


@pytest.mark.parametrize(
    ("expression", "shown"),
    [
        (A + B, "Timeout(1.0) + Bulkhead(2)"),
        (A + B + C, "Timeout(1.0) + Bulkhead(2) + RateLimit(3.0)"),
        (A | B + C & D, "Timeout(1.0) | ((Bulkhead(2) + RateLimit(3.0)) & Retry(4))"),
        (A & B | C, "(Timeout(1.0) & Bulkhead(2)) | RateLimit(3.0)"),
        (A + (B + C), "Timeout(1.0) + (Bulkhead(2) + RateLimit(3.0))"),
        ((A | B) + C, "(Timeout(1.0) | Bulkhead(2)) + RateLimit(3.0)"),
        (A | B | C, "Timeout(1.0) | Bulkhead(2) | RateLimit(3.0)"),
        (A & B & C, "Timeout(1.0) & Bulkhead(2) & RateLimit(3.0)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_plus_binds_tighter_than_and_and_that_tighter_than_or(expression, shown):
    assert repr(expression) == shown


@pytest.mark.parametrize(
    ("policy", "shown"),
    [
        (Retry(), "Retry()"),
        (Retry(5, jitter="none"), "Retry(5, jitter=none)"),
        (Timeout(2), "Timeout(2.0)"),
        (Timeout(2.0, name="attempt"), "Timeout(2.0, name='attempt')"),
        (RateLimit(10, 20), "RateLimit(10.0, 20.0)"),
        (Respond("x"), "Respond(x)"),
        (CircuitBreaker(scope="method"), "CircuitBreaker(scope=method)"),
    ],
)
def test_a_policy_prints_as_it_was_written_without_the_defaults(policy, shown):
    assert repr(policy) == shown


def test_the_tree_is_drawn_with_what_the_operators_mean(registry):
    inner = Stack("inner", B, registry=registry)
    stack = Stack("outer", A | (C & inner) + D, registry=registry)

    assert stack.describe() == (
        "outer\n"
        "|  the next when one fails\n"
        "├── Timeout(1.0)\n"
        "└── +  each wraps the next\n"
        "    ├── &  all at once, first success wins\n"
        "    │   ├── RateLimit(3.0)\n"
        "    │   └── Stack 'inner'\n"
        "    │       └── Bulkhead(2)\n"
        "    └── Retry(4)"
    )


def test_a_stack_prints_its_name_and_expression(registry):
    assert repr(Stack("s", A + B, registry=registry)) == "Stack('s', Timeout(1.0) + Bulkhead(2))"


def test_an_expression_is_walked_outside_first_and_left_before_right():
    wrap = B + C
    choice = A | wrap

    assert list(choice.walk()) == [choice, A, wrap, B, C]


@pytest.mark.parametrize("other", [None, 3, "Timeout(1)", Timeout])
@pytest.mark.parametrize("operator", ["__add__", "__or__", "__and__"])
def test_operators_take_expressions_only(operator, other):
    assert getattr(A, operator)(other) is NotImplemented


def test_a_wrong_operand_is_a_type_error_in_python_itself():
    with pytest.raises(TypeError, match="unsupported operand"):
        A + 3


@pytest.mark.parametrize("kind", [Wrap, Fallback, Race])
@pytest.mark.parametrize("sides", [(A, 3), (None, A)])
def test_the_classes_say_what_can_not_be_composed(kind, sides):
    with pytest.raises(ConfigError, match="is not a policy; compose policies and stacks") as caught:
        kind(*sides)

    assert caught.value.path == kind.__name__

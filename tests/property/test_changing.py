"""The table of parameters that the machines change is complete."""

# mypy: allow-untyped-defs, allow-untyped-calls, no-check-untyped-defs

from ninelives_grpc.parameters import specs
from tests.property.changing import VALUES


def test_the_machines_change_every_parameter_there_is():
    for kind, values in VALUES.items():
        assert values.keys() == specs(kind).keys()

"""The published JSON schema is the one of the code, and agrees with the parser."""

import json
import tomllib
from contextlib import nullcontext
from importlib import resources
from pathlib import Path

import pytest

from ninelives_grpc import ConfigError, Registry, Respond, config
from ninelives_grpc.config.values import KINDS
from ninelives_grpc.parameters import settings, specs

from .test_config import FILE
from .test_config_errors import MISTAKES

jsonschema = pytest.importorskip("jsonschema")
ROOT = Path(__file__).parents[2]
BEYOND = {
    # What a schema can not say: what an expression means, and how values go together.
    "expression syntax", "expression call", "expression operator", "expression name",
    "setting not used", "setting missing",
    "setting conflict", "setting option", "name twice", "budget name", "cycle",
    "stack that is named like a policy", "route target",
    "loop parameter", "loop gauge", "loop without a gauge", "loop of no number", "loop bounds",
    "loops of one parameter", "loop name taken",
}  # fmt: skip


@pytest.fixture(scope="module")
def validator():
    jsonschema.Draft202012Validator.check_schema(config.schema())
    return jsonschema.Draft202012Validator(config.schema())


def test_the_published_schema_is_the_one_of_the_code():
    published = resources.files("ninelives_grpc").joinpath("config.schema.json")

    # If not: ninelives check --schema > ninelives_grpc/config.schema.json
    assert json.loads(published.read_text(encoding="utf-8")) == config.schema()


def test_the_example_is_valid(validator):
    data = tomllib.loads((ROOT / "examples/ninelives.toml").read_text(encoding="utf-8"))

    assert list(validator.iter_errors(data)) == []


def test_what_the_parser_takes_is_valid(validator, registry):
    data = tomllib.loads(FILE)

    config.parse(data, policies={"empty": Respond("")}, registry=registry)

    assert list(validator.iter_errors(data)) == []


@pytest.mark.parametrize("mistake", [name for name in MISTAKES if name not in BEYOND])
def test_what_the_parser_refuses_is_not_valid(validator, mistake):
    data, _ = MISTAKES[mistake]

    assert not validator.is_valid(data)


def at(kind, name, value):
    cls = KINDS[kind]
    needed = {name: specs(cls)[name].low for name, required in settings(cls).items() if required}
    return {"stacks": {"s": {"expression": kind, kind: {**needed, name: value}}}}


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, cls in KINDS.items() for name in specs(cls)]
)
def test_the_bounds_are_those_of_the_parser(validator, kind, name):
    spec = specs(KINDS[kind])[name]
    values = [spec.default, None, True, 0, 1, -1, 0.5, 1e12, "x", *spec.choices]
    values += [edge for bound in (spec.low, spec.high) if bound is not None
               for edge in (bound, bound - 0.5, bound + 0.5)]  # fmt: skip

    for value in values:
        try:
            spec.parse(value)
        except ValueError:
            allowed = False
        else:
            allowed = True
        assert validator.is_valid(at(kind, name, value)) is allowed, value


def test_units_and_meanings_are_told(validator):
    seconds = validator.schema["$defs"]["timeout"]["properties"]["seconds"]
    codes = validator.schema["$defs"]["retry"]["properties"]["codes"]

    assert seconds == {
        "description": "The limit. Unit: seconds.",
        "type": "number",
        "minimum": 0.001,
        "maximum": 86400.0,
    }
    assert codes["description"] == "Status codes to repeat besides the ones above."
    assert "UNAVAILABLE" in codes["items"]["enum"]


def test_what_no_file_can_hold_is_left_out(validator):
    defined = validator.schema["$defs"]

    assert "on" not in defined["retry"]["properties"]
    assert "weight" not in defined["rate_limit"]["properties"]
    assert "classify" not in defined["circuit_breaker"]["properties"]
    assert defined["rate_limit"]["required"] == ["rate"]


def test_a_json_file_may_name_its_schema(tmp_path):
    file = tmp_path / "c.json"
    stacks = {"s": {"preset": "standard"}}
    file.write_text(json.dumps({"$schema": "config.schema.json", "stacks": stacks}))

    assert [stack.name for stack in config.load(file, registry=Registry()).stacks] == ["s"]


@pytest.mark.parametrize(
    ("preset", "override", "valid"),
    [
        ("server", "admission_queue/width", True),
        ("server", "timeout/seconds", True),
        ("server", "retry/max_attempts", False),
        ("aio_server", "concurrency_limit/max_limit", True),
        ("aio_server", "admission_queue/width", False),
        ("standard", "retry/max_attempts", True),
        ("standard", "concurrency_limit/max_limit", False),
    ],
)
def test_what_a_preset_is_made_of_may_be_overridden(validator, preset, override, valid):
    data = {"stacks": {"s": {"preset": preset, "overrides": {override: 7}}}}

    assert validator.is_valid(data) is valid
    with nullcontext() if valid else pytest.raises(ConfigError):
        config.parse(data, registry=Registry())

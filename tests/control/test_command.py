import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import BaseModel, Field

from ninelives_control.command import (
    Command,
    CommandTable,
    Context,
    Effect,
    Proposal,
    Target,
    command,
    targets_of,
)
from ninelives_control.commands import BUILT_IN
from ninelives_control.errors import Code, CommandError
from ninelives_control.model import Arguments, NamedValue, Result
from ninelives_grpc.errors import ConfigError, UnknownNameError


class Drain(Arguments):
    stack: str = Field(description="Which.")
    seconds: float = Field(default=1.0, ge=0, description="How long.")


class Drained(Result):
    calls: int = Field(description="How many.")


@command(Effect.CHANGE)
def drain(arguments: Drain, context: Context) -> Drained:
    """Take no new work.

    And more.
    """
    return Drained(calls=0)


class Undescribed(Arguments):
    stack: str


def undescribed(arguments: Undescribed, context: Context) -> Drained:
    """Do something."""


def untyped(arguments, context):
    """Do something."""


def half_typed(arguments: Drain, context: Context) -> dict[str, int]:
    """Do something."""


def silent(arguments: Drain, context: Context) -> Drained: ...


def test_a_handler_says_what_the_command_is():
    assert (drain.name, drain.summary) == ("drain", "Take no new work.")
    assert (drain.arguments, drain.result, drain.effect) == (Drain, Drained, Effect.CHANGE)


def test_name_and_summary_can_be_given():
    renamed = command(Effect.READ, name="look", summary="Look.")(silent)

    assert (renamed.name, renamed.summary) == ("look", "Look.")


@pytest.mark.parametrize(
    ("handler", "about"),
    [
        (undescribed, "Undescribed.stack: needs a description"),
        (untyped, "pydantic models, not .*NoneType"),
        (half_typed, "pydantic models, not dict"),
        (silent, "needs a summary"),
    ],
)
def test_a_declaration_that_lacks_something_says_what(handler, about):
    with pytest.raises(ConfigError, match=about) as caught:
        command(Effect.READ)(handler)

    assert repr(handler.__name__) in str(caught.value)


def test_models_within_a_function_are_told_apart_from_missing_ones():
    class Local(Arguments):
        """Not to be found by its name."""

    def look(arguments: Local, context: Context) -> Drained:
        """Look."""

    look.__annotations__["arguments"] = "Local"
    with pytest.raises(ConfigError, match="must stand in its module"):
        command(Effect.READ)(look)


@pytest.mark.parametrize("name", ["", "SetIt", "set-it", "set it", "1st", "x" * 65])
def test_a_name_is_one_that_every_client_can_use(name):
    with pytest.raises(ConfigError, match="lower_snake_case"):
        Command(
            name=name,
            summary="Do.",
            effect=Effect.READ,
            arguments=Drain,
            result=Drained,
            handler=drain.handler,
        )


def test_the_built_in_commands_are_there_without_docstrings():
    code = "from ninelives_control.commands import BUILT_IN; print(len(BUILT_IN))"

    ended = subprocess.run(
        [sys.executable, "-OO", "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )

    assert ended.stdout.strip() == str(len(BUILT_IN))


def models_in(model: type[BaseModel]) -> set[type[BaseModel]]:
    found = {model}
    for field in model.model_fields.values():
        for part in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(part, type) and issubclass(part, BaseModel) and part not in found:
                found |= models_in(part)
    return found


@pytest.mark.parametrize("entry", BUILT_IN, ids=lambda entry: entry.name)
def test_every_field_of_a_built_in_command_is_described_and_closed(entry):
    for model in models_in(entry.arguments) | models_in(entry.result):
        assert model.model_config["extra"] == "forbid"
        assert model.model_config["frozen"]
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"
            assert "dict" not in str(field.annotation), f"{model.__name__}.{name}"
    assert entry.summary.endswith(".")


def test_arguments_become_a_model():
    assert drain.parse({"stack": "shop"}) == Drain(stack="shop", seconds=1.0)


def test_what_a_command_acts_on_is_found_by_the_names_of_its_arguments():
    class Place(Arguments):
        path: str = Field(description="Where.")
        value: int = Field(description="What.")

    class Part(Arguments):
        stack: str | None = Field(default=None, description="Which.")
        policy: str | None = Field(default=None, description="Which.")

    class Nowhere(Arguments):
        match: str = Field(default="", description="Which.")

    assert targets_of(Place(path="a/b/c", value=3)) == (Proposal(path="a/b/c", value=3),)
    assert targets_of(Part(stack="a", policy="b")) == (Target(path="a/b"),)
    assert targets_of(Part(policy="b")) == (Target(path=""),)
    assert targets_of(Nowhere()) == ()


def test_an_application_adds_commands_while_others_look_through_them(commands):
    seen = []

    def add(number: int) -> None:
        commands.command(Effect.CHANGE, name=f"drain_{number}")(drain.handler)
        seen.append(len(list(commands)))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(50)))

    assert len(commands) == len(BUILT_IN) + 50
    assert [entry.name for entry in commands] == sorted(entry.name for entry in commands)
    assert "drain_7" in commands


def test_a_name_can_be_taken_once_only(commands):
    commands.add(drain)

    with pytest.raises(ConfigError, match="'drain': is there already"):
        commands.add(drain)


def test_a_command_is_removed_while_others_look_through_them(commands):
    commands.add(drain)
    going_through = iter(commands)

    commands.remove("drain")

    assert "drain" in [entry.name for entry in going_through]
    assert "drain" not in commands
    with pytest.raises(UnknownNameError, match="no command named 'drain'"):
        commands.remove("drain")


def test_who_subscribes_hears_of_every_change_and_of_none_that_failed(commands):
    heard = []
    unsubscribe = commands.subscribe(lambda: heard.append(commands.revision))
    first = commands.revision

    commands.add(drain)
    with pytest.raises(ConfigError):
        commands.add(drain)
    commands.remove("drain")
    unsubscribe()
    commands.add(drain)

    assert heard == [first + 1, first + 2]


def test_an_unknown_command_is_answered_with_the_nearest(commands):
    with pytest.raises(CommandError, match="did you mean set_parameter") as caught:
        commands.get("set_paramter")

    assert caught.value.code is Code.UNKNOWN_COMMAND


def test_an_empty_table_says_so():
    with pytest.raises(CommandError, match="there is no command at all"):
        CommandTable().get("look")


def test_named_values_can_be_nested_in_results():
    assert NamedValue in models_in(next(c for c in BUILT_IN if c.name == "get_state").result)

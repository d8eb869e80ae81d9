"""Scenarios are read from TOML, and whatever is wrong in one is a sentence with its place."""

import textwrap

import pytest

from ninelives_grpc import simulation
from ninelives_grpc.config.problems import Problems
from ninelives_grpc.errors import ConfigError
from ninelives_grpc.simulation import load, shipped, simulate
from ninelives_grpc.simulation.reading import parse

SOUND = """
title = "A try"
suites = ["mine"]

[service]
kind = "exponential"
mean = 0.01

[server]
workers = 4
refusal = 0.0

[traffic]
deadline = 0.1
clients = 2

[stack]
expression = "timeout + bulkhead"
timeout = { seconds = 0.1 }
bulkhead = { max_concurrent = 8 }

[client]
expression = "retry"

[[callers]]
name = "people"
priority = "high"
metadata = { x-tenant = "a" }

[[callers]]
name = "machines"
share = 3.0

[[phases]]
seconds = 1.0
load = 0.5

[[phases]]
seconds = 1.0
load = 2.0

[[marks]]
phase = 2
after = 0.5
at_least = 0.9
"""


@pytest.fixture
def read(tmp_path):
    def write_and_load(text, **given):
        file = tmp_path / "s.toml"
        file.write_text(textwrap.dedent(text), encoding="utf-8")
        return load(file, **given)

    return write_and_load


def test_a_scenario_says_what_the_server_can_do_and_who_calls(read):
    scenario = read(SOUND)

    assert (scenario.name, scenario.title, scenario.suites) == ("s", "A try", ("mine",))
    assert scenario.capacity == 400.0
    assert [caller.label for caller in scenario.callers] == ["people", "machines"]
    assert scenario.callers[0].pairs() == (("x-tenant", "a"), ("x-ninelives-priority", "high"))
    assert scenario.window(scenario.marks[0]) == (1.5, 2.0)
    assert simulate(scenario).totals().offered > 100


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "needs [[phases]], each with its seconds"),
        ("[[phases]]\nload = 1.0", "phases[1]: needs seconds"),
        (
            "[[phases]]\nseconds = 1.0\nlaod = 2",
            "phases[1].laod: no setting of Phase named 'laod'; did you mean load?",
        ),
        (
            "[[phases]]\nseconds = -1",
            "phases[1].seconds: must be a number from 0.001 to 1e+06 seconds, not -1",
        ),
        (
            "[server]\nworkers = 'many'\n[[phases]]\nseconds = 1",
            "server.workers: must be a whole number from 1 to 1e+06 calls, not 'many'",
        ),
        (
            "[service]\nkind = 'normal'\n[[phases]]\nseconds = 1",
            "service.kind: must be one of lognormal, exponential, fixed, pareto, not 'normal'",
        ),
        (
            "sever = 1\n[[phases]]\nseconds = 1",
            "sever: no setting named 'sever'; did you mean server?",
        ),
        ("phases = 3", "phases: must be a list, as [[phases]] makes it"),
        ("title = 3\n[[phases]]\nseconds = 1", "title: must be a text, not 3"),
        ("suites = 'a'\n[[phases]]\nseconds = 1", "suites: must be a list of texts, not 'a'"),
        ("server = 3\n[[phases]]\nseconds = 1", "server: must be a table, not 3"),
        (
            "[stack]\nexpression = 'bulkhed'\n[[phases]]\nseconds = 1",
            "stack.expression: no policy or stack named 'bulkhed'; did you mean bulkhead?",
        ),
        (
            "[stack]\nexpression = 'bulkhead'\n[[phases]]\nseconds = 1",
            "stack.bulkhead: needs max_concurrent",
        ),
        (
            "[[phases]]\nseconds = 1\n[[marks]]\nphase = 2",
            "marks[1].phase: there are 1 phases only, not 2",
        ),
        (
            "[[phases]]\nseconds = 1\n[[marks]]\ncaller = 'x'",
            "marks[1].caller: must be one of the callers shop.v1.Prices/Get, not 'x'",
        ),
        (
            "[[phases]]\nseconds = 1\n[[callers]]\npriority = 'urgent'",
            "priority must be one of critical, high, normal, low, background, not 'urgent'",
        ),
        (
            "[[phases]]\nseconds = 1\n[[callers]]\nmethod = 'Get'",
            "callers[1]: method must be package.Service/Method, not 'Get'",
        ),
        (
            "[[phases]]\nseconds = 1\n[[callers]]\nmetadata = { a = 1 }",
            "callers[1]: metadata must be a table of texts, not {'a': 1}",
        ),
        (
            "[[phases]]\nseconds = 1\n[[callers]]\nname = 3",
            "callers[1]: name must be a text, not 3",
        ),
        ("[[phases]]\nseconds = 1\n[[callers]]\nshare = 0", "callers: need a share above 0"),
        (
            "[[phases]]\nseconds = 1\nburst_load = 2.0\nburst_seconds = 2.0",
            "phases[1]: burst_seconds 2 must be less than burst_every 1",
        ),
        (
            "[[phases]]\nseconds = 1\nburst_load = 2.0\nload_after = 2.0",
            "phases[1]: load_after and burst_load do not go together",
        ),
        ("[[phases]\n", "is not valid TOML"),
    ],
)
def test_what_is_wrong_is_said_with_its_place_and_what_is_allowed(read, text, said):
    with pytest.raises(ConfigError) as caught:
        read(text)

    assert said in str(caught.value).replace("s.toml: ", "", 1)
    assert "s.toml" in str(caught.value)


def test_all_that_is_wrong_is_found_and_not_only_the_first():
    problems = Problems()
    data = {
        "server": {"workers": 0},
        "phases": [{"seconds": 0}, {"secs": 1}],
        "marks": [{"of": "x"}],
    }
    parse(data, "s", "FILE", problems)

    assert [error.path for error in problems.found] == [
        "FILE: phases[1].seconds",
        "FILE: phases[2].secs",
        "FILE: phases[2]",
        "FILE: server.workers",
        "FILE: marks[1].of",
    ]


def test_a_name_that_is_no_file_is_a_shipped_scenario():
    assert load("a_step_2x").phases[1].load == 2.0
    with pytest.raises(ConfigError, match="a_step_2x, b_long"):
        load("nothing_like_it")


def test_every_shipped_scenario_is_sound_and_has_a_title_and_marks():
    for name in shipped():
        scenario = load(name)

        assert scenario.title, name
        assert scenario.marks, name
    assert set(shipped("overload")) | set(shipped("clients")) == set(shipped())
    assert shipped("no such suite") == []


def test_recorded_calls_need_no_phases(read):
    assert read("title = 'x'", recorded=True).phases == ()


def test_every_public_name_of_the_simulation_says_what_it_is():
    for name in simulation.__all__:
        assert getattr(simulation, name).__doc__, name

"""Every mistake in a configuration names its place and what is allowed."""

import pytest

from ninelives_grpc import ConfigError, Respond, config


def stack(**table):
    return {"stacks": {"s": table}}


def budgets(**table):
    return {"budgets": {"b": table}}


TIMEOUT = {"seconds": 1.0}

LOOP = {"law": "aimd", "parameter": "retry/max_attempts"}


def loops(**table):
    return stack(expression="retry", loops=table)


MISTAKES = {
    "loops": (
        stack(expression="retry", loops=[]),
        "f: stacks.s.loops: must be a table, not []",
    ),
    "a loop": (loops(size=3), "f: stacks.s.loops.size: must be a table, not 3"),
    "loop without law": (
        loops(size={"parameter": "retry/max_attempts"}),
        "f: stacks.s.loops.size: needs law",
    ),
    "loop without parameter": (
        loops(size={"law": "aimd"}),
        "f: stacks.s.loops.size: needs parameter",
    ),
    "loop law": (
        loops(size=LOOP | {"law": "aimed"}),
        "f: stacks.s.loops.size.law: no law named 'aimed'; did you mean aimd?",
    ),
    "loop parameter": (
        loops(size=LOOP | {"parameter": "retry/max_attempt"}),
        (
            "f: stacks.s.loops.size.parameter: no parameter named 'retry/max_attempt';"
            " did you mean retry/max_attempts"
        ),
    ),
    "loop setting": (
        loops(size=LOOP | {"backof": 0.5}),
        "f: stacks.s.loops.size.backof: no setting named 'backof'; did you mean backoff?",
    ),
    "loop setting value": (
        loops(size=LOOP | {"interval": 0}),
        "f: stacks.s.loops.size.interval: must be a number from 0.01 to 3600 seconds, not 0",
    ),
    "loop setting missing": (
        loops(size=LOOP | {"law": "bulkhead_size"}),
        "f: stacks.s.loops.size: needs target",
    ),
    "loop gauge": (
        loops(size=LOOP | {"gauge": "memories"}),
        "f: stacks.s.loops.size.gauge: no gauge named 'memories'; did you mean memory",
    ),
    "loop without a gauge": (
        loops(size=LOOP | {"law": "governor", "full": 3.0}),
        "f: stacks.s.loops.size: GovernorLaw goes by a gauge: give it one, gauge=function",
    ),
    "loop of no number": (
        loops(size=LOOP | {"parameter": "retry/jitter"}),
        "f: stacks.s.loops.size: s/retry/jitter is a choice: a loop moves numbers only",
    ),
    "loop bounds": (
        loops(size=LOOP | {"low": 3.0, "high": 2.0}),
        "f: stacks.s.loops.size: low 3 must not be greater than high 2",
    ),
    "loops of one parameter": (
        loops(size=LOOP, again=LOOP),
        "f: stacks.s.loops.again: a loop moves it already, and two would pull it to and fro",
    ),
    "loop name": (
        loops(Size=LOOP),
        "f: stacks.s.loops.Size.name: must be lower_snake_case, not 'Size'",
    ),
    "loop name taken": (
        loops(retry=LOOP),
        "f: stacks.s.loops.retry: two policies are named 'retry'; each needs a name of its own",
    ),
    "not a table": ([], "f: must be a table, not []"),
    "top level": ({"stack": {}}, "f.stack: no setting named 'stack'; did you mean stacks?"),
    "stacks": ({"stacks": 3}, "f: stacks: must be a table, not 3"),
    "a stack": ({"stacks": {"s": "x"}}, "f: stacks.s: must be a table, not 'x'"),
    "empty stack": (
        stack(),
        'f: stacks.s: needs an expression such as "timeout + retry", or a preset',
    ),
    "expression type": (
        stack(expression=3),
        'f: stacks.s: needs an expression such as "timeout + retry", or a preset',
    ),
    "expression syntax": (
        stack(expression="timeout +"),
        "f: stacks.s.expression: is not an expression of names and + | &: 'timeout +'",
    ),
    "expression call": (
        stack(expression="Timeout(1.0)"),
        "f: stacks.s.expression: takes names and + | & only, not 'Timeout(1.0)'",
    ),
    "expression operator": (
        stack(expression="retry - retry"),
        "f: stacks.s.expression: takes names and + | & only, not 'retry - retry'",
    ),
    "expression name": (
        stack(expression="retri"),
        "f: stacks.s.expression: no policy or stack named 'retri'; did you mean retry?",
    ),
    "setting not used": (
        stack(expression="retry", timeout=TIMEOUT),
        (
            "f: stacks.s.timeout: no setting named 'timeout'; there are: expression, loops, retry"
            " (the expression does not use it)"
        ),
    ),
    "setting table": (
        stack(expression="timeout", timeout=2.0),
        "f: stacks.s.timeout: must be a table, not 2.0",
    ),
    "setting missing": (
        stack(expression="timeout"),
        "f: stacks.s.timeout: needs seconds",
    ),
    "setting name": (
        stack(expression="timeout", timeout={"second": 1.0}),
        "f: stacks.s.timeout.second: no setting of Timeout named 'second'; did you mean seconds?",
    ),
    "setting value": (
        stack(expression="timeout", timeout={"seconds": -1}),
        "f: stacks.s.timeout.seconds: must be a number from 0.001 to 86400 seconds, not -1",
    ),
    "setting conflict": (
        stack(expression="circuit_breaker", circuit_breaker={"open_duration": 9.0}),
        "f: stacks.s.circuit_breaker: max_open_duration 5 must not be less than open_duration 9",
    ),
    "setting option": (
        stack(expression="circuit_breaker", circuit_breaker={"scope": 3}),
        (
            "f: stacks.s.circuit_breaker: scope must be stack, method, target, peer, metadata:NAME,"
            " or a function of the call, not 3"
        ),
    ),
    "function in a file": (
        stack(expression="retry", retry={"on": "KeyError"}),
        (
            "f: stacks.s.retry: on must be an exception class or classes, or a function,"
            " not 'KeyError'"
        ),
    ),
    "policy name": (
        stack(expression="retry", retry={"name": "Retry"}),
        "f: stacks.s.retry.name: must be lower_snake_case, not 'Retry'",
    ),
    "name twice": (
        stack(expression="retry + retry_b", retry={"name": "x"}, retry_b={"name": "x"}),
        "f: stacks.s: two policies are named 'x'; each needs a name of its own",
    ),
    "codes": (
        stack(expression="retry", retry={"codes": "INTERNAL"}),
        (
            'f: stacks.s.retry.codes: must be a list of status codes such as ["INTERNAL"],'
            " not 'INTERNAL'"
        ),
    ),
    "codes and nothing": (
        stack(expression="retry", retry={"codes": None}),
        'f: stacks.s.retry.codes: must be a list of status codes such as ["INTERNAL"], not None',
    ),
    "idempotent": (
        stack(expression="retry", retry={"idempotent": 1}),
        "f: stacks.s.retry: idempotent must be true, false or a list of methods, not 1",
    ),
    "only codes": (
        stack(expression="retry", retry={"only_codes": "INTERNAL"}),
        "f: stacks.s.retry: only_codes must be true or false, not 'INTERNAL'",
    ),
    "code": (
        stack(expression="retry", retry={"codes": ["INTERNALS"]}),
        "f: stacks.s.retry.codes: no status code named 'INTERNALS'; did you mean INTERNAL?",
    ),
    "code of another type": (
        stack(expression="retry", retry={"codes": [["INTERNAL"]]}),
        "f: stacks.s.retry.codes: no status code named \"['INTERNAL']\"",
    ),
    "failure codes": (
        stack(expression="circuit_breaker", circuit_breaker={"failure_codes": ["X"]}),
        "f: stacks.s.circuit_breaker.failure_codes: no status code named 'X'",
    ),
    "budget name": (
        stack(expression="retry", retry={"budget": "payments"}),
        "f: stacks.s.retry.budget: no budget named 'payments'; there is no budget at all",
    ),
    "budget of another type": (
        stack(expression="retry", retry={"budget": ["payments"]}),
        "f: stacks.s.retry.budget: no budget named \"['payments']\"",
    ),
    "budgets": ({"budgets": []}, "f: budgets: must be a table, not []"),
    "budget": ({"budgets": {"b": 3}}, "f: budgets.b: must be a table, not 3"),
    "budget kind": (
        budgets(kind="sucess"),
        "f: budgets.b.kind: no kind of budget named 'sucess'; did you mean success?",
    ),
    "budget kind of another type": (
        budgets(kind=["success"]),
        "f: budgets.b.kind: no kind of budget named \"['success']\"",
    ),
    "budget value": (
        budgets(ratio=2.0),
        "f: budgets.b.ratio: must be a number from 0 to 1 tokens, not 2.0",
    ),
    "budget setting": (
        budgets(window=2.0),
        "f: budgets.b.window: no setting of RetryBudget named 'window'",
    ),
    "preset": (
        stack(preset="standart"),
        "f: stacks.s.preset: no preset named 'standart'; did you mean standard?",
    ),
    "preset of another type": (
        stack(preset=["standard"]),
        "f: stacks.s.preset: no preset named \"['standard']\"",
    ),
    "preset with settings": (
        stack(preset="standard", timeout=TIMEOUT),
        "f: stacks.s.timeout: no setting named 'timeout'; there are: loops, overrides, preset",
    ),
    "override": (
        stack(preset="standard", overrides={"retry/max": 3}),
        "f: stacks.s.overrides: no parameter of a preset named 'retry/max'",
    ),
    "override value": (
        stack(preset="standard", overrides={"retry/max_attempts": 0}),
        (
            "f: stacks.s.overrides: retry/max_attempts: must be a whole number from 1 to 100"
            " attempts, not 0"
        ),
    ),
    "overrides": (
        stack(preset="standard", overrides=3),
        "f: stacks.s.overrides: must be a table, not 3",
    ),
    "cycle": (
        {"stacks": {"a": {"expression": "b"}, "b": {"expression": "a"}}},
        "f: stacks.a: contains itself: a > b > a",
    ),
    "stack name": (
        {"stacks": {"a/b": {"preset": "standard"}}},
        "f: stacks.a/b: must be a name without slashes, not 'a/b'",
    ),
    "stack that is named like a policy": (
        {"stacks": {"retry_b": {"preset": "standard"}, "s": {"expression": "retry_b"}}},
        "f: stacks.s.expression: 'retry_b' is a stack, and would be a Retry too: rename the stack",
    ),
    "settings of a stack": (
        {"stacks": {"a": {"preset": "standard"}, "s": {"expression": "a", "a": {}}}},
        "f: stacks.s.a: takes no settings here: it is not a policy of this stack",
    ),
    "settings of a given policy": (
        stack(expression="given", given={}),
        "f: stacks.s.given: takes no settings here: it is not a policy of this stack",
    ),
    "routes": ({"routes": 3}, "f: routes: must be a table, not 3"),
    "route target": (
        stack(preset="standard") | {"routes": {"*": "t"}},
        "f: routes.\"*\": no stack named 't'; there are: s",
    ),
    "route target of another type": (
        stack(preset="standard") | {"routes": {"*": ["s"]}},
        'f: routes."*": no stack named "[\'s\']"; there are: s',
    ),
    "route target that is nothing": (
        stack(preset="standard") | {"routes": {"*": 0}},
        "f: routes.\"*\": no stack named '0'; there are: s",
    ),
    "route pattern": (
        stack(preset="standard") | {"routes": {"Buy": "s"}},
        "f: routes.\"Buy\": a route is package.Service/Method, package.Service/* or *, not 'Buy'",
    ),
}


@pytest.mark.parametrize(("data", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_names_its_place_and_what_is_allowed(registry, data, message):
    with pytest.raises(ConfigError) as caught:
        config.parse(data, where="f", policies={"given": Respond("x")}, registry=registry)

    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("wrong", [stack(expression="nonsense"), {"routes": {"*": "nobody"}}])
def test_nothing_is_built_when_something_is_wrong(registry, wrong):
    good = {"good": {"preset": "standard"}}
    data = {"stacks": good | wrong.get("stacks", {}), "routes": wrong.get("routes", {})}

    with pytest.raises(ConfigError):
        config.parse(data, registry=registry)

    assert len(registry) == 0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.toml", b"[stacks", "is not valid TOML: "),
        ("c.json", b"{", "is not valid JSON: "),
        ("c.toml", b"\xff\xfe", "is not valid TOML: "),
        ("c.toml", b"a = " + b"[" * 5000 + b"]" * 5000, "is nested too deeply"),
        ("c.json", b"[" * 100_000, "is nested too deeply"),
        ("c.json", b"[]", "must be a table, not []"),
        ("c.yaml", b"stacks:", "must be a .toml or a .json file"),
        ("c", b"", "must be a .toml or a .json file"),
    ],
)
def test_a_file_that_can_not_be_understood_is_named(tmp_path, registry, name, content, message):
    file = tmp_path / name
    file.write_bytes(content)

    with pytest.raises(ConfigError) as caught:
        config.load(file, registry=registry)

    assert str(caught.value).startswith(f"{file}: {message}")
    assert caught.value.path == str(file)


def test_a_file_that_is_not_there_is_named(tmp_path, registry):
    file = tmp_path / "missing.toml"

    with pytest.raises(ConfigError) as caught:
        config.load(str(file), registry=registry)

    assert str(caught.value) == f"{file}: can not be read: No such file or directory"


def test_a_mistake_in_a_file_names_file_and_field(tmp_path, registry):
    file = tmp_path / "c.toml"
    file.write_text('[stacks.s]\nexpression = "timeout"\ntimeout = { seconds = "2" }')

    with pytest.raises(ConfigError) as caught:
        config.load(file, registry=registry)

    assert caught.value.path == f"{file}: stacks.s.timeout.seconds"

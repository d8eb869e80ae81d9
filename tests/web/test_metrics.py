import threading

import pytest
from opentelemetry.metrics import get_meter_provider
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from ninelives_control import ControlPlane
from ninelives_grpc import Refused
from tests.web.http_asker import fetch


def scrape(plane, token=None):
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return fetch(plane, "GET", "/metrics", headers=headers)


def samples(answer):
    """Return what was scraped as name, labels that matter, and value."""
    assert answer.status == 200, answer.text
    return [
        (sample.name, {key: sample.labels[key] for key in sample.labels if key[:4] != "otel"},
         sample.value)
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    ]  # fmt: skip


def value(answer, name, **labels):
    (found,) = [
        number
        for other, given, number in samples(answer)
        if other == name and labels.items() <= given.items()
    ]
    return found


def fail():
    raise RuntimeError


def test_the_calls_of_a_stack_are_counted(plane, shop):
    for _ in range(3):
        shop.call(lambda: 1)
    with pytest.raises(RuntimeError):
        shop.call(fail)
    plane.execute("force_circuit_breaker", path="shop/circuit_breaker", mode="open")
    with pytest.raises(Refused):
        shop.call(lambda: 1)

    answer = scrape(plane)

    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    assert answer.headers["Cache-Control"] == "no-store"
    for result, count in (("success", 3), ("failure", 1), ("refused", 1)):
        assert (
            value(
                answer,
                "ninelives_calls_total",
                ninelives_stack="shop",
                ninelives_result=result,
            )
            == count
        ), answer.text
    assert value(answer, "ninelives_bulkhead_limit", ninelives_stack="shop") == 4
    events = value(answer, "ninelives_events_total", ninelives_event="ParameterChanged")
    assert events == 1


def test_the_durations_of_calls_are_counted_once_however_often_they_are_scraped(plane, shop):
    for _ in range(5):
        shop.call(lambda: 1)

    for _ in range(2):
        answer = scrape(plane)

        assert value(answer, "ninelives_call_duration_seconds_count") == 5
    shop.call(lambda: 1)
    assert value(scrape(plane), "ninelives_call_duration_seconds_count") == 6


def test_scraping_at_the_same_time_gives_everybody_everything(plane, shop):
    shop.call(lambda: 1)
    answers = []
    start = threading.Barrier(6)

    def scrape_together():
        start.wait()
        answers.extend(scrape(plane) for _ in range(5))

    threads = [threading.Thread(target=scrape_together) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    counted = [value(answer, "ninelives_call_duration_seconds_count") for answer in answers]
    assert counted == [1] * 30


def test_a_registry_without_stacks_has_no_metrics(registry):
    with ControlPlane(registry, grpc_port=None, http_port=0) as plane:
        assert samples(scrape(plane)) == []


def test_callers_on_this_machine_need_no_token_but_one_that_is_shown_must_be_known(
    plane, tokens, entries
):
    assert scrape(plane).status == 200
    for role in tokens:
        assert scrape(plane, tokens[role]).status == 200

    answer = scrape(plane, "ninelives_x")

    assert (answer.status, answer.json["code"]) == (401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    (entry,) = entries()
    assert (entry.command, entry.transport, entry.reason) == (
        "metrics",
        "http",
        "unauthenticated",
    )


def test_a_rule_can_keep_metrics_from_a_role(registry, shop, tokens, tokens_path, tmp_path):
    rules = tmp_path / "rules.toml"
    rules.write_text(
        'include_defaults = true\n[[rules]]\nid = "no-metrics"\nroles = ["viewer"]\n'
        'commands = ["metrics"]\nverdict = "deny"\n'
    )
    with ControlPlane(
        registry, grpc_port=None, http_port=0, tokens=tokens_path, rules=rules
    ) as plane:
        assert scrape(plane, tokens["operator"]).status == 200
        for answer in (scrape(plane, tokens["viewer"]), scrape(plane)):
            assert (answer.status, answer.json["code"]) == (403, "permission_denied")


def test_the_metrics_of_the_application_stay_as_they_are(plane, shop):
    provider, collected = get_meter_provider(), list(REGISTRY.collect())
    shop.call(lambda: 1)

    scrape(plane)

    assert get_meter_provider() is provider
    assert {family.name for family in REGISTRY.collect()} == {family.name for family in collected}


def test_two_control_planes_tell_each_of_its_own_stacks(plane, shop, registry):
    shop.call(lambda: 1)
    with ControlPlane(registry, grpc_port=None, http_port=0) as other:
        assert scrape(plane).text == scrape(other).text

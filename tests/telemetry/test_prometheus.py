"""A real Prometheus scrapes a real control plane."""

import contextlib
import json
import shutil
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

import grpc
import pytest

from ninelives_control import ControlPlane
from ninelives_control.prometheus import files
from ninelives_grpc import (
    Bulkhead,
    CircuitBreaker,
    Refused,
    Registry,
    Retry,
    Stack,
    client_interceptors,
    server_interceptor,
)
from tests import waiting

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None,
    reason="Prometheus is not installed: apt-get install prometheus",
)

CONFIG = """
global:
  scrape_interval: 200ms
  evaluation_interval: 200ms
rule_files: ["recording_rules.yml", "alert_rules.yml"]
scrape_configs:
  - job_name: shop
    metrics_path: /metrics
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""
GOOD, BAD = 40, 30


def answer(request, context):
    if request == b"bad":
        context.abort(grpc.StatusCode.UNAVAILABLE, "down")
    return request


def refused_by(target, registry):
    """Let a circuit open and refuse, and return how many calls it refused."""
    breaker = Stack(
        "down", CircuitBreaker(open_duration=60.0, max_open_duration=60.0), registry=registry
    )
    channel = grpc.intercept_channel(
        grpc.insecure_channel(target), *client_interceptors(breaker, target=target)
    )
    with channel:
        call = channel.unary_unary("/shop.v1.Shop/Sell")
        refusals = 0
        for _ in range(40):
            try:
                call(b"bad", timeout=10)
            except Refused:
                refusals += 1
            except grpc.RpcError:
                pass
    return refusals


@pytest.fixture(scope="module")
def load():
    """Calls of known composition through real interceptors, and a control plane that tells."""
    registry = Registry()
    client = Stack(
        "client", Retry(2, initial_backoff=0.0, jitter="none") + Bulkhead(8), registry=registry
    )
    served = Stack("server", Bulkhead(8), registry=registry)
    server = grpc.server(ThreadPoolExecutor(4), interceptors=[server_interceptor(served)])
    handler = grpc.unary_unary_rpc_method_handler(answer)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("shop.v1.Shop", {"Buy": handler, "Sell": handler}),)
    )
    target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    channel = grpc.intercept_channel(
        grpc.insecure_channel(target), *client_interceptors(client, target=target)
    )
    with ControlPlane(registry, grpc_port=None, http_port=0) as plane, channel:
        buy = channel.unary_unary("/shop.v1.Shop/Buy")
        for _ in range(GOOD):
            buy(b"good", timeout=10)
        for _ in range(BAD):
            with pytest.raises(grpc.RpcError):
                buy(b"bad", timeout=10)
        refusals = refused_by(target, registry)
        yield plane, target, refusals, buy
    server.stop(0).wait()


@contextlib.contextmanager
def scraping(plane, folder, *flags):
    """Run a Prometheus until the end of the block, and yield its address once it has scraped."""
    for name, text in files().items():
        (folder / name).write_text(text)
    (folder / "prometheus.yml").write_text(CONFIG.format(port=plane.http_port))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{port}", *flags],
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        until(lambda: series(address, "ninelives_calls_total"))
        yield address
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def prometheus(load, tmp_path_factory):
    plane, *_ = load
    with scraping(plane, tmp_path_factory.mktemp("prometheus")) as address:
        yield address


def until(condition):
    return waiting.until(condition, patience=40.0, every=0.1)


def asked(address, path, **arguments):
    url = f"{address}/api/v1/{path}?{urllib.parse.urlencode(arguments)}"
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return json.load(response)["data"]
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.SERVICE_UNAVAILABLE:
            # It has not read its files yet.
            return {}
        raise AssertionError(error.read().decode()) from None
    except OSError:
        return {}


def series(address, query):
    return asked(address, "query", query=query).get("result", [])


def number(address, query):
    """Return the value of a query once it has one."""
    ((_, value),) = [each["value"] for each in until(lambda: series(address, query))]
    return float(value)


@pytest.mark.parametrize(
    ("labels", "calls"),
    [
        ('ninelives_stack="client", ninelives_result="success"', GOOD),
        ('ninelives_stack="client", ninelives_result="failure"', BAD),
        ('ninelives_stack="server", ninelives_result="success"', GOOD),
    ],
)
def test_counts_are_those_of_the_load(prometheus, labels, calls):
    assert number(prometheus, f"sum(ninelives_calls_total{{{labels}}})") == calls


def test_refusals_are_those_of_the_load(prometheus, load):
    _, target, refusals, _ = load
    assert refusals > 0
    asked_for = f'server_port="{target.rpartition(":")[2]}", ninelives_result="refused"'
    assert number(prometheus, f"sum(ninelives_calls_total{{{asked_for}}})") == refusals


def test_the_older_names_of_grpc_are_recorded(prometheus):
    client = number(prometheus, 'sum(grpc_client_handled_total{grpc_method="Buy", grpc_code="OK"})')
    server = number(prometheus, 'sum(grpc_server_handled_total{grpc_service="shop.v1.Shop"})')
    seconds = number(prometheus, 'sum(grpc_client_handling_seconds_sum{grpc_method="Buy"})')
    p99 = number(
        prometheus,
        "histogram_quantile(0.99, sum by (le) (grpc_client_handling_seconds_bucket))",
    )

    assert client == GOOD
    # Some of the failures were repeated, and the breaker let some calls through.
    assert server > GOOD + BAD
    assert seconds > 0
    assert 0 < p99 <= 10


def test_a_circuit_that_is_open_is_an_alert(prometheus):
    (alert,) = until(
        lambda: [
            each
            for each in asked(prometheus, "alerts").get("alerts", [])
            if each["labels"]["alertname"] == "NinelivesCircuitOpen"
        ]
    )

    assert alert["labels"]["ninelives_stack"] == "down"
    assert alert["state"] in {"pending", "firing"}
    assert "keeps failing" in alert["annotations"]["summary"]


def test_native_histograms_are_scraped_where_they_are_asked_for(load, tmp_path):
    plane, *_ = load
    with scraping(plane, tmp_path, "--enable-feature=native-histograms") as address:
        selected = 'rpc_client_call_duration_seconds{ninelives_stack="client"}'
        count = number(address, f"histogram_count(sum({selected}))")
        middle = number(address, f"histogram_quantile(0.5, sum({selected}))")
        total = number(address, f"histogram_sum(sum({selected}))")
        calls = number(address, 'sum(ninelives_calls_total{ninelives_stack="client"})')
    (stack,) = [stack for stack in plane.registry if stack.name == "client"]
    ours = stack.recorder.traffic(900.0, stack.clock.now())

    assert count == calls == GOOD + BAD
    assert middle == pytest.approx(ours.p50, rel=0.022)
    assert total == pytest.approx(sum(stack.recorder.totals().seconds.values()))


def queries():
    board = json.loads(files()["grafana_dashboard.json"])
    return [
        pytest.param(target["expr"], id=f"{panel['title']}-{target['refId']}")
        for panel in board["panels"]
        for target in panel.get("targets", ())
    ]


@pytest.mark.parametrize("query", queries())
def test_every_query_of_the_dashboard_returns_series(prometheus, query):
    asked_for = query.replace("$stack", ".*").replace("$__rate_interval", "1m")

    assert until(lambda: series(prometheus, asked_for))


def test_the_panels_come_in_the_order_of_bands():
    board = json.loads(files()["grafana_dashboard.json"])

    assert [panel["title"] for panel in board["panels"] if panel["type"] == "row"] == [
        "Numbers",
        "Success, volume and latency",
        "States",
        "Refusals",
        "Retries and budget",
    ]


@pytest.mark.parametrize("name", ["recording_rules.yml", "alert_rules.yml"])
def test_promtool_accepts_the_rules(tmp_path, name):
    (tmp_path / name).write_text(files()[name])

    checked = subprocess.run(
        ["promtool", "check", "rules", tmp_path / name], capture_output=True, text=True, check=False
    )

    assert checked.returncode == 0, checked.stderr


def test_promtool_accepts_the_exposition(load):
    plane, *_ = load
    with urllib.request.urlopen(f"http://127.0.0.1:{plane.http_port}/metrics") as response:
        text = response.read()

    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, check=False
    )

    assert checked.returncode == 0, checked.stderr

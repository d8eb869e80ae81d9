import asyncio
import logging
import socket
import subprocess
import sys
import threading

import grpc
import pytest

import ninelives_control
from ninelives_control import AddressError, CommandError, ControlPlane, server
from ninelives_control.audit.log import AuditFile
from ninelives_control.errors import Code
from ninelives_control.identity import tokens as token_file
from ninelives_control.identity.identity import Role
from ninelives_control.transports.transport import ensure_free
from ninelives_control.v1 import control_pb2 as pb
from ninelives_control.v1.control_pb2_grpc import ControlServiceStub
from ninelives_grpc import Retry, Stack, default_registry
from ninelives_grpc.errors import ConfigError

PATH = "shop/retry/max_attempts"


def made(registry, **options):
    return ControlPlane(registry, **({"grpc_port": 0, "http_port": None} | options))


def listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ask(port):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        return ControlServiceStub(channel).ListStacks(pb.ListStacksRequest(), timeout=10).total


def test_it_serves_while_it_is_started_and_leaves_nothing(registry, shop, audit_path):
    threads, plane = set(threading.enumerate()), made(registry, audit=audit_path)

    plane.start()
    port = plane.grpc_port
    assert ask(port) == 1
    assert shop.emitter.sink is not None
    plane.stop()

    assert set(threading.enumerate()) <= threads
    assert not listening(port)
    assert shop.emitter.sink is None
    audit_path.unlink()


def test_it_can_be_stopped_twice_and_started_again(registry, shop):
    plane = made(registry)
    plane.stop()

    for _ in range(3):
        plane.start()
        assert ask(plane.grpc_port) == 1
        plane.stop()
        plane.stop()
    assert plane.grpc_port == 0


def test_it_cannot_be_started_twice(registry):
    with made(registry) as plane:
        port = plane.grpc_port
        with pytest.raises(ConfigError, match="is started already"):
            plane.start()
        assert plane.grpc_port == port


def test_it_looks_at_the_default_registry_unless_told_otherwise():
    assert ControlPlane().registry is default_registry
    assert (ControlPlane().grpc_port, ControlPlane().http_port) == (50090, 8090)
    assert (ControlPlane().host, ControlPlane(grpc_port=None).grpc_port) == ("127.0.0.1", 0)


def test_a_transport_that_is_not_wanted_is_not_served(registry, shop):
    threads = set(threading.enumerate())
    with made(registry, grpc_port=None) as plane:
        assert plane.grpc_port == 0
        assert plane.execute("list_stacks").total == 1
    assert set(threading.enumerate()) <= threads


def test_a_port_in_use_is_named_and_everything_else_shut_down(registry, shop, audit_path):
    threads = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        plane = made(registry, grpc_port=port, audit=audit_path)

        with pytest.raises(AddressError, match="Address already in use") as caught:
            plane.start()

    assert caught.value.port == port
    assert f"port {port}" in str(caught.value)
    assert "grpc_port=" in str(caught.value)
    assert set(threading.enumerate()) <= threads
    assert shop.emitter.sink is None
    with plane:
        assert ask(port) == 1


def test_two_control_planes_do_not_share_a_port(registry):
    with made(registry) as first, pytest.raises(AddressError):
        made(registry, grpc_port=first.grpc_port).start()


def test_an_address_of_another_machine_is_named():
    with pytest.raises(AddressError, match=r"192\.0\.2\.1 port 9999"):
        ensure_free("192.0.2.1", 9999, "grpc_port")


def test_a_transport_that_cannot_start_stops_those_before_it(registry, monkeypatch):
    steps = []

    class First:
        name = "grpc"

        async def start(self, plane):
            steps.append("first starts")
            return 1

        async def stop(self):
            steps.append("first stops")

    class Second(First):
        name = "http"

        async def start(self, plane):
            steps.append("second fails")
            raise AddressError("no", port=2)

        async def stop(self):
            steps.append("second stops")

    monkeypatch.setattr(server, "TRANSPORTS", (First, Second))

    with pytest.raises(AddressError):
        made(registry, http_port=0).start()

    assert steps == ["first starts", "second fails", "second stops", "first stops"]


def test_a_transport_that_fails_to_stop_is_logged(registry, monkeypatch, caplog):
    class Clumsy:
        name = "grpc"

        async def start(self, plane):
            return 1

        async def stop(self):
            raise RuntimeError("stuck")

    monkeypatch.setattr(server, "TRANSPORTS", (Clumsy,))

    made(registry).start().stop()

    assert "stuck" in caplog.text


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org"])
def test_others_can_reach_it_only_with_tokens(registry, host):
    with pytest.raises(ConfigError, match="takes a token file"):
        made(registry, host=host).start()


def test_an_address_that_others_can_reach_is_warned_of(registry, tokens, tokens_path, caplog):
    with made(registry, host="0.0.0.0", tokens=tokens_path) as plane:
        assert listening(plane.grpc_port)

    assert "does not encrypt" in caplog.text


def test_the_sixth_version_of_the_protocol_is_served_too(registry, shop):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with (
        made(registry, host="::1") as plane,
        grpc.insecure_channel(f"[::1]:{plane.grpc_port}") as channel,
    ):
        assert ControlServiceStub(channel).ListStacks(pb.ListStacksRequest()).total == 1
        with pytest.raises(AddressError, match=f"::1 port {plane.grpc_port}"):
            made(registry, host="::1", grpc_port=plane.grpc_port).start()


def test_without_tokens_it_says_that_it_only_reads(registry, caplog):
    with made(registry):
        pass

    (warning,) = [entry for entry in caplog.records if entry.levelno == logging.WARNING]
    assert "has no token file" in warning.getMessage()
    assert "ninelives token create" in warning.getMessage()


def test_with_tokens_it_warns_of_nothing(registry, tokens, tokens_path, caplog):
    with made(registry, tokens=tokens_path) as plane:
        port = plane.grpc_port

    assert f"grpc 127.0.0.1 port {port}" in caplog.text
    assert not [entry for entry in caplog.records if entry.levelno > logging.INFO]


@pytest.mark.parametrize("setting", ["tokens", "rules", "audit"])
def test_a_file_that_is_wrong_keeps_it_from_starting(registry, shop, tmp_path, setting):
    wrong = tmp_path / "wrong"
    wrong.write_text("{ this is nothing" * 100)

    with pytest.raises(ConfigError, match="wrong"):
        made(registry, **{setting: wrong}).start()

    assert shop.emitter.sink is None


def test_rules_of_a_file_hold(registry, shop, tmp_path, tokens, tokens_path):
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rules]]\nid = "only"\nroles = ["viewer"]\ncommands = ["list_stacks"]\n')
    with (
        made(registry, rules=rules, tokens=tokens_path) as plane,
        grpc.insecure_channel(f"127.0.0.1:{plane.grpc_port}") as channel,
    ):
        stub = ControlServiceStub(channel)
        metadata = (("authorization", f"Bearer {tokens['viewer']}"),)
        assert stub.ListStacks(pb.ListStacksRequest(), metadata=metadata).total == 1
        with pytest.raises(grpc.RpcError, match="may not use get_state"):
            stub.GetState(pb.GetStateRequest(), metadata=metadata)
        with pytest.raises(CommandError):
            plane.execute("list_stacks")


def test_reading_without_a_token_can_be_allowed(registry, shop, tokens, tokens_path):
    with made(registry, tokens=tokens_path, anonymous=True) as plane:
        assert ask(plane.grpc_port) == 1
    with made(registry, tokens=tokens_path) as plane, pytest.raises(grpc.RpcError):
        ask(plane.grpc_port)


def test_the_application_runs_commands_itself(registry, shop, audit_path):
    with made(registry, audit=audit_path, audit_key=b"secret") as plane:
        change = plane.execute("set_parameter", path=PATH, value=5)
        told = asyncio.run(plane.aexecute("get_parameter", path=PATH))

    assert (change.old, change.new, told.value) == (3, 5, 5)
    audit = AuditFile(audit_path, key=b"secret")
    (entry,) = audit.entries()
    assert (entry.identity, entry.transport, entry.new) == ("application", "local", 5)
    assert audit.verify().finding is None


def test_an_agent_has_bounds_over_grpc(registry, shop, tokens, tokens_path):
    with (
        made(registry, tokens=tokens_path) as plane,
        grpc.insecure_channel(f"127.0.0.1:{plane.grpc_port}") as channel,
    ):
        request = pb.SetParameterRequest(path=PATH)
        request.value.number_value = 50
        metadata = (("authorization", f"Bearer {tokens['agent']}"),)
        with pytest.raises(grpc.RpcError, match="as 3 is declared"):
            ControlServiceStub(channel).SetParameter(request, metadata=metadata)
        with pytest.raises(CommandError, match="no parameter of shop/retry named 'x'"):
            plane.execute("set_parameter", path="shop/retry/x", value=1)


def test_a_command_before_the_start_says_what_to_do(registry):
    with pytest.raises(CommandError, match=r"call start\(\)") as caught:
        made(registry).execute("list_stacks")

    assert caught.value.code is Code.UNAVAILABLE


def test_the_end_of_the_audit_is_logged_as_an_anchor(registry, shop, audit_path, caplog):
    with made(registry, audit=audit_path) as plane:
        plane.execute("set_parameter", path=PATH, value=5)

    head = AuditFile(audit_path).verify().head
    assert f"ends with {head}" in caplog.text


def test_an_audit_that_has_gone_does_not_keep_it_from_stopping(registry, audit_path, caplog):
    plane = made(registry, audit=audit_path).start()
    audit_path.unlink()

    plane.stop()

    assert "cannot be read: no such file" in caplog.text


def test_it_runs_beside_a_loop_of_the_application(registry, shop):
    async def main() -> list[int]:
        with made(registry) as plane:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{plane.grpc_port}") as channel:
                stub = ControlServiceStub(channel)
                answers = [stub.ListStacks(pb.ListStacksRequest()) for _ in range(20)]
                inside = await plane.aexecute("list_stacks")
                return [answer.total for answer in await asyncio.gather(*answers)] + [inside.total]

    assert asyncio.run(main(), debug=True) == [1] * 21


def test_stacks_may_come_and_go_meanwhile(registry, shop):
    with made(registry) as plane:
        Stack("late", Retry(3), registry=registry)
        assert ask(plane.grpc_port) == 2
        plane.execute("set_parameter", path="late/retry/max_attempts", value=5)
        assert [event.stack for event in plane.execute("list_events").events] == ["late"]
        registry.remove("shop")
        assert ask(plane.grpc_port) == 1


FORGETFUL = """
from pathlib import Path
from ninelives_control import ControlPlane
from ninelives_grpc import Registry, Retry, Stack
registry = Registry()
Stack("shop", Retry(3), registry=registry)
plane = ControlPlane(registry, grpc_port=0, http_port=None, tokens=Path({tokens!r})).start()
print(plane.execute("list_stacks").total)
{last}
"""


@pytest.mark.parametrize("last", ["", "raise SystemExit(0)"])
def test_a_program_that_forgets_to_stop_it_ends_all_the_same(tokens, tokens_path, last):
    code = FORGETFUL.format(tokens=str(tokens_path), last=last)

    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "1\n", "")


def test_the_public_names_are_there():
    for name in ninelives_control.__all__:
        assert getattr(ninelives_control, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = ninelives_control.Nothing


def test_a_token_added_while_it_runs_counts_at_once(registry, shop, tokens, tokens_path):
    with (
        made(registry, tokens=tokens_path) as plane,
        grpc.insecure_channel(f"127.0.0.1:{plane.grpc_port}") as channel,
    ):
        late = token_file.create(tokens_path, "late", Role.OPERATOR)
        metadata = (("authorization", f"Bearer {late}"),)
        stub = ControlServiceStub(channel)
        assert stub.ListStacks(pb.ListStacksRequest(), metadata=metadata).total == 1

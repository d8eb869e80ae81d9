"""`buf` as a client of its own kind, and as a judge of the protos."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from ninelives_control.v1 import control_pb2, exposition_pb2

ROOT = Path(__file__).parents[2]
SERVICE = "ninelives_control.v1.ControlService"


@pytest.fixture(scope="module")
def buf():
    beside = Path(sys.executable).parent / "buf"
    found = shutil.which("buf") or (str(beside) if beside.exists() else None)
    assert found, "buf is not installed: pip install buf-bin"

    def run(*args):
        return subprocess.run(
            [found, *args], cwd=ROOT, capture_output=True, text=True, check=False, timeout=50
        )

    return run


@pytest.fixture
def curl(buf, plane, tokens):
    def call(method, data=None, role=None):
        args = ["curl", "--protocol", "grpc", "--http2-prior-knowledge"]
        if role:
            args += ["-H", f"authorization: Bearer {tokens[role]}"]
        if data is not None:
            args += ["-d", json.dumps(data)]
        return buf(*args, f"http://127.0.0.1:{plane.grpc_port}/{method}".rstrip("/"))

    return call


def test_the_protos_are_clean(buf):
    assert (buf("lint").stdout, buf("format", "-d").stdout) == ("", "")


@pytest.mark.parametrize("module", [control_pb2, exposition_pb2], ids=lambda each: each.__name__)
def test_the_generated_code_is_that_of_the_protos(buf, tmp_path, module):
    image = tmp_path / "image.binpb"
    assert buf("build", "-o", str(image), "--exclude-source-info").returncode == 0
    built = FileDescriptorSet.FromString(image.read_bytes())
    (wanted,) = [file for file in built.file if file.name == module.DESCRIPTOR.name]
    generated = FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(generated)

    for file in (wanted, generated):
        _plain(file.message_type)
    wanted.DiscardUnknownFields()

    assert generated == wanted


def _plain(messages):
    """Drop what only some compilers write down."""
    for message in messages:
        for field in message.field:
            field.ClearField("json_name")
        _plain(message.nested_type)


def test_a_stranger_finds_its_way_by_reflection(buf, plane):
    listed = buf(
        "curl",
        "--protocol",
        "grpc",
        "--http2-prior-knowledge",
        "--list-methods",
        f"http://127.0.0.1:{plane.grpc_port}",
    )

    assert f"{SERVICE}/SetParameter" in listed.stdout
    assert "grpc.health.v1.Health/Check" in listed.stdout


def test_a_parameter_is_changed_by_a_typed_rpc(curl, shop):
    data = {"path": "shop/retry/max_attempts", "value": 5, "reason": "from buf"}

    ended = curl(f"{SERVICE}/SetParameter", data, "operator")

    assert json.loads(ended.stdout) == {
        "path": "shop/retry/max_attempts",
        "old": 3,
        "new": 5,
        "revision": 2,
    }
    assert shop.parameters["retry/max_attempts"].get() == 5


def test_any_command_is_run_by_execute(curl):
    data = {"command": "get_parameter", "arguments": {"path": "shop/timeout/seconds"}}

    ended = curl(f"{SERVICE}/Execute", data, "viewer")

    assert json.loads(ended.stdout)["result"]["value"] == 2


def test_an_error_comes_with_code_and_details(curl, shop):
    data = {"path": "shop/retry/max_attempts", "value": 500}

    ended = curl(f"{SERVICE}/SetParameter", data, "operator")

    error = json.loads(ended.stderr)
    assert ended.returncode == 24
    assert error["code"] == "invalid_argument"
    assert "from 1 to 100" in error["message"]
    kinds = {detail["type"] for detail in error["details"]}
    assert kinds == {"google.rpc.ErrorInfo", "google.rpc.BadRequest"}


def test_health_is_asked_like_any_service(curl):
    ended = curl("grpc.health.v1.Health/Check", {"service": SERVICE})

    assert json.loads(ended.stdout) == {"status": "SERVING"}

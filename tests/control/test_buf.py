"""`buf` as a client of its own kind, and as a judge of the protos."""

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.json_format import ParseDict
from google.protobuf.message_factory import GetMessageClass

from ninelives_control import ControlPlane
from ninelives_control.identity import tokens as token_file
from ninelives_control.transports.grpc.service import SERVICE
from ninelives_control.v1 import control_pb2, exposition_pb2
from ninelives_grpc import Registry, Stack
from ninelives_grpc.naming import snake_case
from tests.control.tried import READS, changes, expression

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def buf():
    beside = Path(sys.executable).parent / "buf"
    found = shutil.which("buf") or (str(beside) if beside.exists() else None)
    assert found, "buf is not installed: pip install buf-bin"

    def run(*args):
        return subprocess.run(
            [found, *args], cwd=ROOT, capture_output=True, text=True, check=False, timeout=50
        )

    run.open = lambda *args: subprocess.Popen([found, *args], stdout=subprocess.PIPE, text=True)
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


@pytest.fixture
def breaking(buf, tmp_path):
    """Return what the protos break for those who have the released ones, changed by a function."""

    def told(change):
        for source in (ROOT / "protos").rglob("*.proto"):
            target = tmp_path / source.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(change(source.read_text()))
        shutil.copy(ROOT / "buf.yaml", tmp_path)
        ended = buf("breaking", str(tmp_path), "--against", "protos/released.binpb")
        assert ended.stderr == ""
        return ended.stdout

    return told


def test_the_protos_break_nothing_that_was_released(breaking):
    assert breaking(lambda text: text) == ""


def test_a_field_that_is_renamed_breaks_clients(breaking):
    told = breaking(lambda text: text.replace("bool dry_run = ", "bool trial = "))

    assert "dry_run" in told


def test_a_field_that_is_added_breaks_nobody(breaking):
    field = "message ListStacksRequest {\n  // More.\n  string more = 99;\n"

    assert breaking(lambda text: text.replace("message ListStacksRequest {\n", field)) == ""


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

    assert f"{SERVICE.full_name}/SetParameter" in listed.stdout
    assert "grpc.health.v1.Health/Check" in listed.stdout


@pytest.fixture(scope="module")
def served():
    """A control plane for all RPCs, a token for it, and what they are asked."""
    registry = Registry()
    Stack("shop", expression(), registry=registry)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokens.json"
        token = token_file.create(path, "admin", "admin")
        with ControlPlane(registry, grpc_port=0, http_port=None, tokens=path) as plane:
            plane.execute("set_parameter", path="shop/timeout/margin", value=0.02, lease=60.0)
            asked = READS | changes(plane)
            yield plane, token, asked | {"execute": {"command": "list_stacks"}}


@pytest.mark.parametrize(
    "method",
    # The answer to what was declined is an error.
    [method for method in SERVICE.methods if method.name != "Decline"],
    ids=lambda method: method.name,
)
def test_every_rpc_answers(method, buf, served):
    plane, token, asked = served
    data = in_proto(asked.get(snake_case(method.name), {}), method.input_type)
    args = [
        *("curl", "--protocol", "grpc", "--http2-prior-knowledge"),
        *("-H", f"authorization: Bearer {token}", "-d", json.dumps(data)),
        f"http://127.0.0.1:{plane.grpc_port}/{SERVICE.full_name}/{method.name}",
    ]

    told = first_of(buf.open(*args)) if method.server_streaming else buf(*args).stdout

    assert ParseDict(json.loads(told), GetMessageClass(method.output_type)()).ByteSize()


def in_proto(arguments, message):
    """Return arguments as protobuf has them in JSON, where the word of a choice is longer."""
    return {
        name: f"{snake_case(kind.name).upper()}_{value.upper()}"
        if (kind := message.fields_by_name[name].enum_type)
        else value
        for name, value in arguments.items()
    }


def first_of(process):
    """Return the first message of a stream, and end it."""
    told = ""
    with process:
        for line in process.stdout:
            told += line
            with contextlib.suppress(ValueError):
                json.loads(told)
                break
        process.terminate()
    return told


def test_a_parameter_is_changed_by_a_typed_rpc(curl, shop):
    data = {"path": "shop/retry/max_attempts", "value": 5, "reason": "from buf"}

    ended = curl(f"{SERVICE.full_name}/SetParameter", data, "operator")

    told = json.loads(ended.stdout)
    assert (told["path"], told["old"], told["new"], told["revision"]) == (data["path"], 3, 5, 2)
    assert shop.parameters["retry/max_attempts"].get() == 5


def test_any_command_is_run_by_execute(curl):
    data = {"command": "get_parameter", "arguments": {"path": "shop/timeout/seconds"}}

    ended = curl(f"{SERVICE.full_name}/Execute", data, "viewer")

    assert json.loads(ended.stdout)["result"]["value"] == 2


def test_an_error_comes_with_code_and_details(curl, shop):
    data = {"path": "shop/retry/max_attempts", "value": 500}

    ended = curl(f"{SERVICE.full_name}/SetParameter", data, "operator")

    error = json.loads(ended.stderr)
    assert ended.returncode == 24
    assert error["code"] == "invalid_argument"
    assert "from 1 to 100" in error["message"]
    kinds = {detail["type"] for detail in error["details"]}
    assert kinds == {"google.rpc.ErrorInfo", "google.rpc.BadRequest"}


def test_health_is_asked_like_any_service(curl):
    ended = curl("grpc.health.v1.Health/Check", {"service": SERVICE.full_name})

    assert json.loads(ended.stdout) == {"status": "SERVING"}

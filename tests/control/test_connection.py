"""Connections that are encrypted, to a server that asks for certificates."""

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
import trustme

from ninelives_control.cli.group import Exit, run


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def files(authority, tmp_path):
    """Return the paths of what a client needs."""
    own = authority.issue_cert("ada@example.org")
    paths = {name: str(tmp_path / f"{name}.pem") for name in ("ca", "certificate", "key")}
    authority.cert_pem.write_to_path(paths["ca"])
    own.cert_chain_pems[0].write_to_path(paths["certificate"])
    own.private_key_pem.write_to_path(paths["key"])
    return paths


@pytest.fixture
def address(authority):
    """Where something listens that wants certificates, and has no commands."""
    own = authority.issue_cert("localhost")
    server = grpc.server(ThreadPoolExecutor(1))
    pair = (own.private_key_pem.bytes(), own.cert_chain_pems[0].bytes())
    credentials = grpc.ssl_server_credentials(
        [pair], root_certificates=authority.cert_pem.bytes(), require_client_auth=True
    )
    port = server.add_secure_port("localhost:0", credentials)
    server.start()
    yield f"localhost:{port}"
    server.stop(0).wait()


def options(files, *names):
    return [word for name in names for word in (f"--{name}", files[name])]


def test_certificates_are_shown_and_asked_for(address, files, capsys):
    shown = options(files, "ca", "certificate", "key")

    reached = run(["commands", "--address", address, *shown])

    assert (reached, capsys.readouterr().err) == (
        Exit.FAILED,
        "error: UNIMPLEMENTED: Method not found!\n",
    )


@pytest.mark.parametrize("names", [(), ("ca",)])
def test_without_them_nothing_is_reached(address, files, capsys, names):
    code = run(["commands", "--address", address, "--timeout", "5", *options(files, *names)])

    assert code == Exit.UNAVAILABLE
    assert "no control plane can be reached" in capsys.readouterr().err


def test_a_server_of_another_authority_is_not_trusted(address, files, capsys):
    trustme.CA().cert_pem.write_to_path(files["ca"])

    code = run(
        ["commands", "--address", address, "--timeout", "5", *options(files, *files)],
    )

    assert (code, "CERTIFICATE_VERIFY_FAILED" in capsys.readouterr().err) == (6, True)


@pytest.mark.parametrize("names", [("ca",), ("certificate", "key")])
def test_certificates_are_of_no_use_at_a_unix_socket(files, tmp_path, capsys, names):
    code = run(["commands", "--address", f"unix:{tmp_path}/shop.sock", *options(files, *names)])

    told = capsys.readouterr().err
    assert (code, told.count("\n")) == (Exit.INVALID, 1)
    assert f"unix:{tmp_path}/shop.sock: is a Unix socket, which is not encrypted" in told

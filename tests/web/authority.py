"""A certificate authority, and clients that show what it has signed."""

from __future__ import annotations

import http.client
import json
import ssl
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import grpc
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ninelives_control.v1 import control_pb2 as pb
from ninelives_control.v1.control_pb2_grpc import ControlServiceStub
from tests.web.http_asker import Answer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ninelives_control import ControlPlane


@dataclass(frozen=True)
class Shown:
    """A certificate and its key, in files and in memory."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates, each in files of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.path = folder / "ca.pem"
        self._ca = trustme.CA()
        self._ca.cert_pem.write_to_path(str(self.path))
        self._key = serialization.load_pem_private_key(self._ca.private_key_pem.bytes(), None)
        self._issuer = x509.load_pem_x509_certificate(self._ca.cert_pem.bytes()).subject

    def server(self, certificate: Path, key: Path) -> None:
        """Write the certificate of a server, and its key, as they are replaced in practice."""
        issued = self._ca.issue_cert("127.0.0.1")
        for path, blobs in ((key, [issued.private_key_pem]), (certificate, issued.cert_chain_pems)):
            new = path.with_suffix(".new")
            new.write_bytes(b"".join(blob.bytes() for blob in blobs))
            new.replace(path)

    def client(
        self, *commons: str, uris: Sequence[str] = (), ends: timedelta = timedelta(days=1)
    ) -> Shown:
        """Return the certificate of a client with these names."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.NameAttribute(NameOID.COMMON_NAME, name) for name in commons]
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(names))
            .issuer_name(self._issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.now(UTC) - timedelta(days=2))
            .not_valid_after(datetime.now(UTC) + ends)
        )
        if uris:
            alternatives = [x509.UniformResourceIdentifier(uri) for uri in uris]
            builder = builder.add_extension(
                x509.SubjectAlternativeName(alternatives), critical=False
            )
        issued = builder.sign(self._key, hashes.SHA256())
        place = self.folder / str(issued.serial_number)
        place.with_suffix(".pem").write_bytes(issued.public_bytes(serialization.Encoding.PEM))
        place.with_suffix(".key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return Shown(place.with_suffix(".pem"), place.with_suffix(".key"))

    def context(self, shown: Shown | None = None) -> ssl.SSLContext:
        """Return how a client connects over HTTP."""
        context = ssl.create_default_context(cafile=str(self.path))
        # Those of trustme leave out what a strict check asks for.
        context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
        if shown is not None:
            context.load_cert_chain(shown.certificate, shown.key)
        return context

    @contextmanager
    def stub(self, plane: ControlPlane, shown: Shown | None = None) -> Iterator[ControlServiceStub]:
        """Return a client over gRPC."""
        credentials = grpc.ssl_channel_credentials(
            self.path.read_bytes(),
            None if shown is None else shown.key.read_bytes(),
            None if shown is None else shown.certificate.read_bytes(),
        )
        # With a pool of its own it does not take the connection of a test before it.
        options = (("grpc.use_local_subchannel_pool", 1),)
        target = f"127.0.0.1:{plane.grpc_port}"
        with grpc.secure_channel(target, credentials, options) as channel:
            yield ControlServiceStub(channel)

    def ask(self, plane: ControlPlane, shown: Shown | None = None, token: str | None = None) -> Any:
        """List the stacks over gRPC."""
        with self.stub(plane, shown) as stub:
            return stub.ListStacks(pb.ListStacksRequest(), metadata=bearer(token), timeout=10)

    def fetch(
        self,
        plane: ControlPlane,
        path: str,
        shown: Shown | None = None,
        token: str | None = None,
        body: object = None,
    ) -> Answer:
        """Ask over HTTP."""
        connection = http.client.HTTPSConnection(
            "127.0.0.1", plane.http_port, timeout=10, context=self.context(shown)
        )
        headers = dict(bearer(token)) | (
            {} if body is None else {"content-type": "application/json"}
        )
        try:
            connection.request(
                "GET" if body is None else "POST",
                path,
                None if body is None else json.dumps(body).encode(),
                headers,
            )
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def served(self, plane: ControlPlane) -> str:
        """Return the serial number of the certificate that HTTP shows."""
        connection = http.client.HTTPSConnection(
            "127.0.0.1", plane.http_port, timeout=10, context=self.context()
        )
        connection.connect()
        try:
            return str(connection.sock.getpeercert()["serialNumber"])
        finally:
            connection.close()


def bearer(token: str | None) -> tuple[tuple[str, str], ...]:
    return () if token is None else (("authorization", f"Bearer {token}"),)


def lock(key: Path, locked: Path) -> None:
    """Write a key once more, with a password."""
    encryption = serialization.BestAvailableEncryption(b"secret")
    locked.write_bytes(
        serialization.load_pem_private_key(key.read_bytes(), None).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
        )
    )

"""Encryption, and client certificates: files that may change while they are used."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc

from ninelives_control.files import Reloaded, content
from ninelives_grpc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ninelives_control.identity.identity import Role

_PREFIXES = ("spiffe://", "CN=")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How connections are encrypted, and whose certificates are believed.

    All files are PEM, and are read again when they have changed; while they are broken, what was
    read before holds on.

    Attributes:
        certificate: The certificate of the control plane, and those between it and its CA.
        key: Its private key, without a password.
        clients: The CA certificates of clients. Clients need a certificate then; over HTTP they may
            show a token in its place, which gRPC cannot do.
        roles: The role of each client by the name in its certificate: its SPIFFE id, such as
            `spiffe://prod/deployer`, or else its common name, such as `CN=ada`. That name stands in
            the audit. Whoever shows a token is known by that instead.
    """

    certificate: Path
    key: Path
    clients: Path | None = None
    roles: Mapping[str, Role] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Material:
    """What the files say."""

    context: ssl.SSLContext
    configuration: grpc.ServerCertificateConfiguration


class TlsFiles:
    """Gives servers what the files say now.

    Args:
        settings: Where the files are.
        tokens: Whether clients can be known by something else than a certificate.
    """

    def __init__(self, settings: Tls, *, tokens: bool) -> None:
        """Read the files.

        Raises:
            ConfigError: A setting or a file is wrong; names it.
        """
        self._settings = settings
        self._need = ssl.CERT_OPTIONAL if tokens else ssl.CERT_REQUIRED
        for name in settings.roles:
            if not any(name.startswith(prefix) and name != prefix for prefix in _PREFIXES):
                msg = f"{name!r} is no name of a certificate; write spiffe://… or CN=…"
                raise ConfigError(msg, path="Tls.roles")
        if settings.roles and settings.clients is None:
            msg = "is missing: the CA of the clients that have roles"
            raise ConfigError(msg, path="Tls.clients")
        if settings.clients is not None and not settings.roles and not tokens:
            msg = "must say what clients may do, unless tokens= or jwt= does"
            raise ConfigError(msg, path="Tls.roles")
        paths = [settings.certificate, settings.key, settings.clients]
        self._material = Reloaded([path for path in paths if path is not None], self._load)

    def context(self) -> ssl.SSLContext:
        """Return what an HTTP server listens with; each connection gets what holds then."""
        context = self._material.current().context

        def choose(connection: ssl.SSLSocket | ssl.SSLObject, *_: object) -> None:
            connection.context = self._material.current().context

        # Called for each connection, whether the client names a server or not.
        context.sni_callback = choose
        return context

    def credentials(self) -> grpc.ServerCredentials:
        """Return what a gRPC server listens with; each connection gets what holds then."""
        first = self._material.current().configuration
        return grpc.dynamic_ssl_server_credentials(
            first,
            self._changes(first),  # type: ignore[arg-type]  # None is for no change
            self._settings.clients is not None,
        )

    def _changes(
        self, told: grpc.ServerCertificateConfiguration
    ) -> Callable[[], grpc.ServerCertificateConfiguration | None]:
        def fetch() -> grpc.ServerCertificateConfiguration | None:
            nonlocal told
            last, told = told, self._material.current().configuration
            return None if told is last else told

        return fetch

    def _load(self) -> _Material:
        settings = self._settings
        chain = content(settings.certificate, "Tls.certificate")
        key = content(settings.key, "Tls.key")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["http/1.1"])
        try:
            # Without a password it would ask for one on the terminal.
            context.load_cert_chain(settings.certificate, settings.key, password=str)
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            msg = (
                f"{settings.certificate} and {settings.key} must be a certificate and its key in "
                f"PEM, without a password ({reason})"
            )
            raise ConfigError(msg, path="Tls.certificate") from None
        clients = None
        if settings.clients is not None:
            clients = content(settings.clients, "Tls.clients")
            self._ask_clients(context, settings.clients, clients)
        configuration = grpc.ssl_server_certificate_configuration([(key, chain)], clients)
        return _Material(context=context, configuration=configuration)

    def _ask_clients(self, context: ssl.SSLContext, path: Path, clients: bytes) -> None:
        try:
            context.load_verify_locations(cadata=clients.decode("ascii"))
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            msg = f"{path} must have CA certificates in PEM ({reason})"
            raise ConfigError(msg, path="Tls.clients") from None
        context.verify_mode = self._need
        # A session that goes on would not be checked against a CA that came or went meanwhile.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0

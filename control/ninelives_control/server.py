"""The control plane: everything needed to command the stacks of this process from outside."""

from __future__ import annotations

import atexit
import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Self

from ninelives_control.audit.heads import HeadFile, Keeper, Signer
from ninelives_control.audit.log import AuditLog
from ninelives_control.authorization.authorization import authorization_of
from ninelives_control.authorization.facts import facts_of
from ninelives_control.changes.store import ParameterStore
from ninelives_control.command import CommandTable
from ninelives_control.commands import BUILT_IN
from ninelives_control.commands.recorder import dump_command
from ninelives_control.errors import AuditError, Code, CommandError
from ninelives_control.identity.identity import Authenticator, is_loopback
from ninelives_control.identity.tokens import TokenFile
from ninelives_control.limits import Limits
from ninelives_control.loop import LoopThread
from ninelives_control.router import Dispatcher
from ninelives_control.tls import TlsFiles
from ninelives_control.transports.grpc.transport import GrpcTransport
from ninelives_control.transports.http.transport import HttpTransport
from ninelives_control.transports.local import LocalClient
from ninelives_control.transports.transport import Address
from ninelives_grpc.errors import ConfigError
from ninelives_grpc.forking import afresh_in_children
from ninelives_grpc.observer.observer import Observer
from ninelives_grpc.registry import default_registry
from ninelives_grpc.sinks.memory import MemorySink
from ninelives_grpc.sinks.streaming import StreamingSink

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pydantic import BaseModel

    from ninelives_control.identity.identity import Role
    from ninelives_control.identity.jwt import Jwt, JwtVerifier
    from ninelives_control.tls import Tls
    from ninelives_control.transports.transport import Transport
    from ninelives_grpc.flight_recorder import FlightRecorder
    from ninelives_grpc.registry import Registry

_LOGGER = logging.getLogger("ninelives_control")

TRANSPORTS: Sequence[type[Transport]] = (GrpcTransport, HttpTransport)
"""The transports that are served, in the order in which they start."""
_of_parents: list[contextlib.ExitStack] = []
"""What a forked child has no part in; it must not be closed there, nor collected."""


class ControlPlane:
    """Serves commands for the stacks of a registry, in a thread and on a loop of its own.

    with ControlPlane(tokens=Path("tokens.json"), audit=Path("audit.sqlite")):
        serve_application()

    Without a token file, callers on the same machine may read, and nobody may change anything but
    the application itself, by `execute`. In a child that is forked it is not started, and what was
    lent then stays.

    Args:
        registry: The stacks; by default `default_registry`.
        host: The address to listen on. One that others can reach needs tokens, or certificates of
            clients; and what they send is not encrypted without `tls`.
        grpc_port: The port for gRPC; 0 is any that is free, to be read from `grpc_port` later; None
            does not serve it.
        http_port: The port for HTTP; likewise.
        grpc_socket: The path of a Unix socket for gRPC, which only the user of this process can
            reach; besides the port, or in place of it. gRPC does not tell which user asks: they
            are callers on the same machine like others.
        http_socket: The path of a Unix socket for HTTP; likewise, but see `socket_users`.
        socket_users: The role of each user, by number, that asks at `http_socket` without a token;
            `uid:1000` is then the name in the audit. Others are callers on the same machine.
        tls: How connections to the ports are encrypted, and which client certificates are known,
            see `Tls`.
        tokens: The file of tokens, made by `ninelives token create`.
        jwt: Which tokens of an identity provider are known, see `Jwt`; besides those of the file.
        rules: A file of rules, see `rules`, or `.cedar` of policies, see `cedar`; it is looked at
            again when it has changed. By default viewers read, operators change, agents change
            within bounds, and admins do everything.
        audit: The file that every command is written down in; by default it is kept in memory.
        audit_key: Secret that seals the audit.
        audit_reads: Whether commands that only read are written down too.
        parameters: The file that the values that commands have set are kept in over restarts; by
            default they are lost. They win over what is declared, and over NINELIVES_* variables.
        audit_signing_key: A private key made by `ninelives audit key`: the end of the audit is
            signed with it at the start and the end, after every 100 rows and every minute, and
            kept beside the audit, see `heads`.
        anonymous: Whether callers on the same machine may read without a token though there is a
            token file.
        limits: How much callers may ask, see `Limits`.
        recorder: A flight recorder, which the command `dump_flight_recorder` copies then. It is
            started and closed by whoever made it.
    """

    def __init__(
        self,
        registry: Registry | None = None,
        *,
        host: str = "127.0.0.1",
        grpc_port: int | None = 50090,
        http_port: int | None = 8090,
        grpc_socket: Path | None = None,
        http_socket: Path | None = None,
        socket_users: Mapping[int, Role] | None = None,
        tls: Tls | None = None,
        tokens: Path | None = None,
        jwt: Jwt | None = None,
        rules: Path | None = None,
        audit: Path | None = None,
        audit_key: bytes | None = None,
        audit_reads: bool = False,
        parameters: Path | None = None,
        audit_signing_key: Path | None = None,
        anonymous: bool = False,
        limits: Limits | None = None,
        recorder: FlightRecorder | None = None,
    ) -> None:
        """Hold the settings; `start` makes use of them."""
        self.registry = default_registry if registry is None else registry
        self.host = host
        self.commands = CommandTable(BUILT_IN)
        if recorder is not None:
            self.commands.add(dump_command(recorder))
        self._asked = {"grpc": grpc_port, "http": http_port}
        self._sockets = {"grpc": grpc_socket, "http": http_socket}
        self._ports: dict[str, int] = {}
        self._socket_users = socket_users or {}
        self._tls = tls
        self._tls_files: TlsFiles | None = None
        self._tokens = tokens
        self.jwt = jwt
        self._rules = rules
        self._audit = audit
        self._audit_key = audit_key
        self._audit_reads = audit_reads
        self._parameters = parameters
        self._audit_signing_key = audit_signing_key
        self._anonymous = anonymous
        self.limits = limits or Limits()
        self._dispatcher: Dispatcher | None = None
        self._teardown: contextlib.ExitStack | None = None
        self._lock = threading.Lock()
        afresh_in_children(self)

    def start_afresh(self) -> None:
        """Be as if it was never started: its threads, files and ports are those of the parent."""
        self._lock = threading.Lock()
        atexit.unregister(self.stop)
        if self._teardown is not None:
            _of_parents.append(self._teardown)
            self._teardown = None
        self._forget()

    @property
    def grpc_port(self) -> int:
        """The port for gRPC: the real one once it is started; 0 if it is not served."""
        return self._ports.get("grpc", self._asked["grpc"] or 0)

    @property
    def http_port(self) -> int:
        """The port for HTTP: the real one once it is started; 0 if it is not served."""
        return self._ports.get("http", self._asked["http"] or 0)

    def address(self, transport: str) -> Address:
        """Return where a transport is asked to listen."""
        return Address(
            host=self.host,
            port=self._asked[transport],
            socket=self._sockets[transport],
            tls=self._tls_files,
        )

    @property
    def dispatcher(self) -> Dispatcher:
        """What runs the commands.

        Raises:
            CommandError: `unavailable`: it is not started.
        """
        if self._dispatcher is None:
            raise CommandError(Code.UNAVAILABLE, "the control plane is not started; call start()")
        return self._dispatcher

    def start(self) -> Self:
        """Open the files, listen on the ports, and return when all of it is there.

        Raises:
            ConfigError: A setting or a file is wrong; names it. Nothing is left running.
            AddressError: A port is in use; names it. Nothing is left running.
        """
        with self._lock:
            if self._teardown is not None:
                raise ConfigError("is started already; stop it first", path="ControlPlane")
            with contextlib.ExitStack() as teardown:
                self._start(teardown)
                self._teardown = teardown.pop_all()
        return self

    def stop(self) -> None:
        """End all calls and let go of ports and files; may be called twice.

        Not to be called by the handler of a command, which it waits for.
        """
        with self._lock:
            teardown, self._teardown = self._teardown, None
            if teardown is not None:
                teardown.close()

    def execute(self, name: str, /, **arguments: object) -> BaseModel:
        """Run a command for the application itself, and return its result.

        Raises:
            CommandError: It did not run, or failed.
        """
        return LocalClient(self.dispatcher).execute(name, **arguments)

    async def aexecute(self, name: str, /, **arguments: object) -> BaseModel:
        """Run a command for the application itself in another thread, and return its result.

        Raises:
            CommandError: It did not run, or failed.
        """
        return await LocalClient(self.dispatcher).aexecute(name, **arguments)

    def _start(self, teardown: contextlib.ExitStack) -> None:
        authenticator = self._authenticator()
        authorization = authorization_of(self._rules, facts_of(self.registry), self.commands)
        store = None if self._parameters is None else ParameterStore(self._parameters)
        if store is not None:
            teardown.callback(store.close)
        audit = AuditLog(self._audit, key=self._audit_key, heads=self._heads())
        teardown.callback(audit.close)
        _tell_interrupted(audit)
        events, stream = MemorySink(), StreamingSink()
        observer = Observer(self.registry)
        teardown.callback(observer.close)
        for sink in (events, stream):
            self.registry.attach(sink)
            teardown.callback(self.registry.detach, sink)
        self._dispatcher = Dispatcher(
            self.registry,
            self.commands,
            authenticator=authenticator,
            authorization=authorization,
            audit=audit,
            events=events,
            observer=observer,
            stream=stream,
            store=store,
            audit_reads=self._audit_reads,
            limits=self.limits,
        )
        teardown.callback(self._forget)
        teardown.callback(_log_anchor, audit)
        if self._audit_signing_key is not None:
            teardown.callback(Keeper(audit.sign).close)
        teardown.callback(self._dispatcher.end_floods)
        teardown.callback(self._dispatcher.end_leases)
        teardown.callback(self.registry.subscribe(self._dispatcher.changes.take_in))
        for stack in self.registry:
            self._dispatcher.changes.take_in(stack)
        transports = [make() for make in TRANSPORTS if self._serves(make.name)]
        loop = LoopThread(transports, self._dispatcher.end_watches)
        self._ports = loop.start(self)
        teardown.callback(loop.stop)
        atexit.register(self.stop)
        teardown.callback(atexit.unregister, self.stop)
        self._announce(authenticator)
        _log_anchor(audit)

    def _heads(self) -> HeadFile | None:
        if self._audit_signing_key is None:
            return None
        if self._audit is None:
            msg = "signs the end of a file: give it by audit="
            raise ConfigError(msg, path="ControlPlane.audit_signing_key")
        return HeadFile(self._audit, Signer(self._audit_signing_key))

    def _authenticator(self) -> Authenticator:
        """Read what callers are known by."""
        takes_tokens = self._tokens is not None or self.jwt is not None
        roles = {} if self._tls is None else self._tls.roles
        if not (is_loopback(self.host) or takes_tokens or roles):
            msg = (
                f"{self.host} can be reached from other machines, which takes a token file: make "
                "one with `ninelives token create`, and give it by tokens=; or jwt=, or Tls.roles"
            )
            raise ConfigError(msg, path="ControlPlane.host")
        if self._socket_users and self._sockets["http"] is None:
            msg = "is for those who ask at a Unix socket; give its path by http_socket="
            raise ConfigError(msg, path="ControlPlane.socket_users")
        self._tls_files = None if self._tls is None else TlsFiles(self._tls, tokens=takes_tokens)
        return Authenticator(
            None if self._tokens is None else TokenFile(self._tokens),
            jwt=_verifier(self.jwt),
            certificates=roles,
            users=self._socket_users,
            anonymous=self._anonymous,
        )

    def _serves(self, transport: str) -> bool:
        return self._asked[transport] is not None or self._sockets[transport] is not None

    def _forget(self) -> None:
        self._dispatcher = None
        self._ports = {}

    def _announce(self, authenticator: Authenticator) -> None:
        served = [f"{name} {self.host} port {port}" for name, port in self._ports.items() if port]
        served += [f"{name} {path}" for name, path in self._sockets.items() if path is not None]
        _LOGGER.info("the control plane is served: %s", ", ".join(served))
        if authenticator.read_only:
            _LOGGER.warning(
                "the control plane has no token file: callers on this machine can read, and "
                "nobody but this program can change anything; see `ninelives token create`"
            )
        if not is_loopback(self.host) and self._tls is None:
            _LOGGER.warning(
                "the control plane can be reached from other machines, and does not encrypt: "
                "give a certificate by tls=, or put a proxy with TLS before it"
            )

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()


def _verifier(settings: Jwt | None) -> JwtVerifier | None:
    if settings is None:
        return None
    # A third of what the control plane takes to import, for those who have an identity provider.
    from ninelives_control.identity.jwt import JwtVerifier  # noqa: PLC0415

    return JwtVerifier(settings)


def _log_anchor(audit: AuditLog) -> None:
    """Tell the log where the audit ends: rows cut off later are found against that."""
    try:
        head = audit.head()
    except AuditError as error:
        _LOGGER.error("%s", error)  # noqa: TRY400 - no trace
        return
    if head is not None and audit.path is not None:
        _LOGGER.info("the audit %s ends with %s", audit.path, head)
        audit.sign()


def _tell_interrupted(audit: AuditLog) -> None:
    """Tell the log of commands of which only the beginning is known: the process has ended."""
    try:
        interrupted = audit.end_interrupted()
    except AuditError as error:
        # Commands that change something are refused as long as that is so.
        _LOGGER.error("%s", error)  # noqa: TRY400 - no trace
        return
    for entry in interrupted:
        _LOGGER.warning(
            "the command %s (%s) of %s at %s was interrupted: the process ended while it ran; "
            "look whether it has done its work",
            entry.command,
            entry.id,
            entry.identity or "nobody known",
            entry.time,
        )

"""How a control plane is reached over gRPC, and what it is shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc

from ninelives_control.errors import Code, CommandError
from ninelives_grpc.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

OPTIONS = (
    ("grpc.max_receive_message_length", 2**26),
    # A control plane that was restarted is found again soon.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
"""Options of a channel that is kept for long."""
_SOCKETS = ("unix:", "unix-abstract:")
"""How addresses of them begin: what is served there is never encrypted."""

Metadata = tuple[tuple[str, str], ...]
Options = tuple[tuple[str, object], ...]


@dataclass(frozen=True, slots=True)
class Connection:
    """Where a control plane listens, and what proves who asks.

    Attributes:
        address: As gRPC has it, such as "127.0.0.1:50090" or "unix:/run/shop.sock".
        token: The token to show, or None.
        token_file: A file that holds it, read for each use; or None.
        timeout: Seconds to wait for an answer.
        ca: Certificates of who may have signed the server's; with it the connection is encrypted.
        certificate: The client's own certificate; likewise.
        key: The private key of that.
    """

    address: str
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    timeout: float = 10.0
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def channel(self, options: Options = ()) -> grpc.Channel:
        """Open a channel.

        Raises:
            ConfigError: A file cannot be read, or is of no use there; names it.
        """
        credentials = self._credentials()
        if credentials is None:
            return grpc.insecure_channel(self.address, options=options)
        return grpc.secure_channel(self.address, credentials, options=options)

    def aio_channel(self, options: Options = ()) -> grpc.aio.Channel:
        """Open a channel for asyncio; as `channel`."""
        credentials = self._credentials()
        if credentials is None:
            return grpc.aio.insecure_channel(self.address, options=options)
        return grpc.aio.secure_channel(self.address, credentials, options=options)

    def metadata(self) -> Metadata:
        """Return what shows the token, if there is one.

        Raises:
            ConfigError: It cannot be read, or can be none.
        """
        token = self.token
        if self.token_file is not None:
            token = _read(self.token_file).decode("utf-8", "replace")
        return bearing((token or "").strip())

    def check(self) -> None:
        """See that all files can be read, and are of use.

        Raises:
            ConfigError: One cannot or is not, or the token can be none.
        """
        self.metadata()
        self._credentials()

    def _credentials(self) -> grpc.ChannelCredentials | None:
        if self.ca is None and self.certificate is None:
            return None
        if self.address.startswith(_SOCKETS):
            msg = "is a Unix socket, which is not encrypted; leave out certificates (--ca, "
            msg += "--certificate, NINELIVES_CA, NINELIVES_CERTIFICATE)"
            raise ConfigError(msg, path=self.address)
        return grpc.ssl_channel_credentials(
            root_certificates=None if self.ca is None else _read(self.ca),
            private_key=None if self.key is None else _read(self.key),
            certificate_chain=None if self.certificate is None else _read(self.certificate),
        )


def bearing(token: str) -> Metadata:
    """Return the metadata that shows a token; none for "".

    Raises:
        ConfigError: It can be none.
    """
    if not (token.isascii() and token.isprintable()):
        raise ConfigError("the token has characters that no token has; copy it again")
    return (("authorization", f"Bearer {token}"),) if token else ()


def unreachable(address: str, details: str | None = None) -> str:
    """Return what to say when nothing answers."""
    reason = f" ({details})" if details else ""
    return f"no control plane can be reached at {address}{reason}; start it, or give --address"


def unreached(error: grpc.Call | grpc.aio.AioRpcError, connection: Connection) -> CommandError:
    """Return what to tell of an error of gRPC that no control plane has told."""
    code, details = error.code(), error.details()
    if code is grpc.StatusCode.UNAVAILABLE:
        message = unreachable(connection.address, details)
    elif code is grpc.StatusCode.DEADLINE_EXCEEDED:
        message = f"no answer within {connection.timeout:g} s; look at the state before you repeat"
    elif code is grpc.StatusCode.UNIMPLEMENTED:
        message = f"what listens at {connection.address} is no control plane"
    else:
        return CommandError(Code.INTERNAL, f"{code.name}: {details}")
    return CommandError(Code.UNAVAILABLE, message)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", path=str(path)) from None

"""Channels with certificates behave as they do without us, and protect what they carry."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import trustme

from ninelives_grpc import aio, client_interceptors, server_interceptor, wrap_channel

from . import idle, leaks
from .backend import PATIENCE, Backend, RpcKind
from .clients import REQUESTS
from .handlers import plain_handlers
from .pairs import every_kind, told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ninelives_grpc import Stack

every_way = pytest.mark.parametrize("way", ["bare", "wrap", "interceptor"])
TOKEN = grpc.access_token_call_credentials("secret")
"""gRPC sends it over channels it trusts, and no others."""


class Secured:
    """A protected server that asks its clients for a certificate.

    Attributes:
        target: Its address.
        trusted: Credentials with a certificate that it trusts.
        strange: Credentials of somebody who trusts it, and whom it does not know.
    """

    def __init__(self, backend: Backend, pool: ThreadPoolExecutor, stack: Stack) -> None:
        authority, other = trustme.CA(), trustme.CA()
        root = authority.cert_pem.bytes()
        served = authority.issue_cert("localhost")
        self.trusted = self._credentials(root, authority.issue_cert("client.test"))
        self.strange = self._credentials(root, other.issue_cert("client.test"))
        self.server = grpc.server(pool, interceptors=[server_interceptor(stack)])
        self.server.add_generic_rpc_handlers((plain_handlers(backend),))
        pair = (served.private_key_pem.bytes(), served.cert_chain_pems[0].bytes())
        credentials = grpc.ssl_server_credentials([pair], root, require_client_auth=True)
        self.target = f"localhost:{self.server.add_secure_port('localhost:0', credentials)}"
        self.server.start()

    @staticmethod
    def _credentials(root: bytes, own: trustme.LeafCert) -> grpc.ChannelCredentials:
        chain = own.cert_chain_pems[0].bytes()
        return grpc.ssl_channel_credentials(root, own.private_key_pem.bytes(), chain)


@pytest.fixture
def secured(backend: Backend, new_stack: Callable[..., Stack]) -> Iterator[Secured]:
    with ThreadPoolExecutor(8, thread_name_prefix="test-server") as pool:
        made = Secured(backend, pool, new_stack(idle.SERVER["gates"]()))
        yield made
        made.server.stop(None).wait()


@pytest.fixture(autouse=True)
def _nothing_left() -> None:
    """Look at no threads: those of gRPC that ask for credentials stay known to Python."""


@every_kind
@every_way
@idle.stacks("one-attempt", "hedge")
@pytest.mark.parametrize("who", ["trusted", "strange"])
def test_certificates_decide_as_on_a_bare_channel(
    kind: RpcKind,
    way: str,
    policies: Callable[[], Any],
    who: str,
    secured: Secured,
    backend: Backend,
    new_stack: Callable[..., Stack],
) -> None:
    stack = new_stack(policies())
    bare = grpc.secure_channel(secured.target, getattr(secured, who))
    channel = bare
    if way == "wrap":
        channel = wrap_channel(bare, stack)
    elif way == "interceptor":
        channel = grpc.intercept_channel(bare, *client_interceptors(stack))
    with channel:
        method = getattr(channel, kind)(kind.path)
        request = iter(REQUESTS) if kind.streams_requests else REQUESTS[0]

        def ask() -> object:
            answer = method(request, timeout=PATIENCE, credentials=TOKEN)
            return list(answer) if kind.streams_responses else answer

        answered = told(ask)

    if who == "trusted":
        assert isinstance(answered, list | bytes)
        assert backend.visits[0].metadata["authorization"] == "Bearer secret"
    else:
        assert answered[0] is grpc.StatusCode.UNAVAILABLE
        assert backend.attempts == 0
    leaks.assert_nothing_held([stack])


@every_kind
@every_way
@idle.stacks("one-attempt", "hedge")
async def test_certificates_are_used_under_asyncio(
    kind: RpcKind,
    way: str,
    policies: Callable[[], Any],
    secured: Secured,
    backend: Backend,
    new_stack: Callable[..., Stack],
) -> None:
    stack = new_stack(policies())
    interceptors = aio.client_interceptors(stack) if way == "interceptor" else None
    bare = grpc.aio.secure_channel(secured.target, secured.trusted, interceptors=interceptors)
    async with wrap_channel(bare, stack) if way == "wrap" else bare as channel:
        method = getattr(channel, kind)(kind.path)
        request = iter(REQUESTS) if kind.streams_requests else REQUESTS[0]
        call = method(request, timeout=PATIENCE, credentials=TOKEN)

        answered = [each async for each in call] if kind.streams_responses else [await call]

    assert answered
    assert backend.visits[0].metadata["authorization"] == "Bearer secret"
    await asyncio.to_thread(leaks.assert_nothing_held, [stack])

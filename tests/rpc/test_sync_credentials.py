"""Credentials of a channel and of a call work on a protected sync channel as on a bare one."""

from __future__ import annotations

import contextvars
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import StatusCode

from . import pairs
from .handlers import plain_handlers
from .pairs import every_kind, every_way, in_every_style, requests_of, stacks
from .servers import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import ExitStack

    from ninelives_grpc import Stack

    from .backend import Backend, RpcKind

TENANT = contextvars.ContextVar("TENANT", default="nobody")


@pytest.fixture(autouse=True)
def _nothing_left() -> None:
    """Look at no threads: those of gRPC that ask a plugin stay known to Python."""


@pytest.fixture
def secure_target(backend: Backend) -> Iterator[str]:
    """Address of an unprotected server that takes local connections as secure ones."""
    with ThreadPoolExecutor(8, thread_name_prefix="test-server") as threads:
        server = grpc.server(threads)
        server.add_generic_rpc_handlers((plain_handlers(backend),))
        credentials = grpc.local_server_credentials()
        port = server.add_secure_port(f"{LOOPBACK}:0", credentials)
        server.start()
        yield f"{LOOPBACK}:{port}"
        backend.release()
        server.stop(None).wait()


@pytest.fixture
def channels(
    way: str,
    policies: Callable[[], Any],
    secure_target: str,
    opened: ExitStack,
    new_stack: Callable[..., Stack],
) -> Callable[..., pairs.Pair]:
    """Make a bare and a protected channel, both with credentials, perhaps also of the calls."""

    def make(*of_calls: grpc.CallCredentials) -> pairs.Pair:
        credentials = grpc.local_channel_credentials()
        if of_calls:
            credentials = grpc.composite_channel_credentials(credentials, *of_calls)
        return pairs.of(
            way,
            new_stack(policies()),
            opened,
            lambda: grpc.secure_channel(secure_target, credentials),
        )

    return make


class Plugin(grpc.AuthMetadataPlugin):
    """Sends whose call it is, or says that it can not."""

    def __init__(self, error: Exception | None = None, *, raises: bool = False) -> None:
        self._error = error
        self._raises = raises
        self.asked: list[tuple[str, str]] = []

    def __call__(self, context: Any, callback: Any) -> None:
        self.asked.append((context.method_name, TENANT.get()))
        if self._error is not None and self._raises:
            raise self._error
        callback((("tenant", TENANT.get()),), self._error)


def _call(plugin: Plugin) -> grpc.CallCredentials:
    return grpc.metadata_call_credentials(plugin, name="tenants")


@every_way
@every_kind
@stacks
def test_secure_channel_carries_calls(kind: RpcKind, channels: Any, backend: Backend) -> None:
    answers = [in_every_style(channel, kind, lambda: requests_of(kind)) for channel in channels()]

    assert answers[1] == answers[0]
    assert not any(isinstance(answer, tuple) for answer in answers[0])
    assert backend.attempts == 2 * len(answers[0])


@every_way
@every_kind
@stacks
def test_credentials_of_a_call_arrive(kind: RpcKind, channels: Any, backend: Backend) -> None:
    token = grpc.composite_call_credentials(
        grpc.access_token_call_credentials("secret"), _call(Plugin())
    )
    for channel in channels():
        in_every_style(channel, kind, lambda: requests_of(kind), credentials=token)

    seen = {(each.metadata["authorization"], each.metadata["tenant"]) for each in backend.visits}
    assert seen == {("Bearer secret", "nobody")}
    assert backend.attempts in {2, 6}


@every_way
@every_kind
@stacks
def test_plugin_is_asked_in_the_context_that_it_was_made_in(
    kind: RpcKind, channels: Any, backend: Backend
) -> None:
    plugin = Plugin()
    token = TENANT.set("mine")
    credentials = _call(plugin)
    for channel in channels(credentials):
        in_every_style(channel, kind, lambda: requests_of(kind))
    TENANT.reset(token)

    assert set(plugin.asked) == {(str(kind), "mine")}
    assert {visit.metadata["tenant"] for visit in backend.visits} == {"mine"}


@every_way
@every_kind
@stacks
@pytest.mark.parametrize("raises", [False, True], ids=["says", "raises"])
def test_plugin_that_fails_ends_the_call_in_the_same_words(
    kind: RpcKind, raises: bool, channels: Any, backend: Backend
) -> None:
    plugin = Plugin(ValueError("no ticket"), raises=raises)
    stories = [
        in_every_style(channel, kind, lambda: requests_of(kind), credentials=_call(plugin))
        for channel in channels()
    ]

    assert [each[0] for each in stories[1]] == [each[0] for each in stories[0]]
    assert {each[0] for each in stories[0]} <= {StatusCode.UNAVAILABLE, StatusCode.UNAUTHENTICATED}
    assert all("no ticket" in each[1] for story in stories for each in story)
    assert backend.attempts == 0

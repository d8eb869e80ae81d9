"""What is refused before anybody looks into it, and what is known of an HTTP client.

Browsers are the danger: a page of somebody else's runs on the same machine as we do. It cannot
reach us under a name of its own (DNS rebinding), as a page of another origin, or with a form.
"""

from __future__ import annotations

import contextlib
import math
from email.message import Message
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.websockets import WebSocketClose

from ninelives_control.errors import Code
from ninelives_control.identity.identity import Credentials, bearer, is_loopback
from ninelives_control.transports.http.peer import peer_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from ninelives_control.errors import CommandError

STATUSES = {
    Code.INVALID_ARGUMENT: 400,
    Code.NOT_FOUND: 404,
    Code.CONFLICT: 409,
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.UNKNOWN_COMMAND: 404,
    Code.RATE_LIMITED: 429,
    Code.AUDIT_UNAVAILABLE: 503,
    Code.UNAVAILABLE: 503,
    Code.INTERNAL: 500,
}
_FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
_WITH_BODY = {"POST", "PUT", "PATCH"}


class Guard:
    """Lets through what can be meant for the control plane.

    Args:
        app: What it is let through to.
        host: The address that is listened on.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        """Hold both."""
        self._app = app
        self._host = host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request or the opening of a websocket, or refuse it."""
        refusal = self._refusal(scope) if scope["type"] in {"http", "websocket"} else None
        if refusal is None:
            # A client that leaves within its request needs no trace in a log.
            with contextlib.suppress(ClientDisconnect):
                await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            # uvicorn logs an error for each that is refused with more than that.
            await WebSocketClose()(scope, receive, send)
        else:
            await refusal(scope, receive, send)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        if "content-length" in headers and "transfer-encoding" in headers:
            # A proxy on the way may have believed the other one (RFC 9112, 6.3).
            refusal = problem(400, "send Content-Length or Transfer-Encoding, not both")
            refusal.headers["Connection"] = "close"
            return refusal
        # No page in a browser can ask at a Unix socket.
        local = is_loopback(self._host) and not peer_of(scope).unix
        if local and not is_loopback(_name_in(f"//{headers.get('host', '')}")):
            return problem(421, f"ask for {self._host}: other names are not served here")
        if "origin" in headers and not _is_same_origin(headers):
            return problem(403, "pages of another origin are not served")
        if scope["type"] == "http" and scope["method"] in _WITH_BODY and not _is_json(headers):
            return problem(415, "send Content-Type: application/json")
        return None


def problem(
    status: int, message: str, code: Code = Code.INVALID_ARGUMENT, **more: object
) -> JSONResponse:
    """Return what a client is told that gets no further (RFC 9457, with our code)."""
    return JSONResponse(
        {"status": status, "code": code, "detail": message, **more},
        status_code=status,
        headers={"WWW-Authenticate": "Bearer"} if status == STATUSES[Code.UNAUTHENTICATED] else {},
        media_type="application/problem+json",
    )


def problem_of(error: CommandError, status: int | None = None) -> JSONResponse:
    """Return what a client is told whose command did not run or failed."""
    told = {"field": error.field, "revision": error.revision, "rule": error.rule}
    more = {name: value for name, value in told.items() if value}
    answer = problem(status or STATUSES[error.code], error.message, error.code, **more)
    if error.retry_after is not None:
        # Whole seconds (RFC 9110, 10.2.3).
        answer.headers["Retry-After"] = str(math.ceil(error.retry_after))
    return answer


def caller_of(scope: Scope) -> Credentials:
    """Return what is known of the client of a request or websocket."""
    headers = Headers(scope=scope)
    here, peer = _from_here(scope), peer_of(scope)
    return Credentials(
        token=bearer(*headers.getlist("authorization")),
        loopback=here,
        peer=address_of(scope),
        certificate=peer.certificate,
        uid=peer.uid if here else None,
    )


def address_of(scope: Scope) -> str:
    """Return the address of a client: `127.0.0.1:4711`, `[::1]:4711` or `unix`."""
    client = scope.get("client")
    if client is None or not client[0]:
        return "unix"
    host, port = client
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _from_here(scope: Scope) -> bool:
    """Tell whether a client is on this machine, and not a proxy for somebody who is not."""
    client, headers = scope.get("client"), Headers(scope=scope)
    if any(name in headers for name in _FORWARDED):
        return False
    if peer_of(scope).unix:
        return True
    if client is None:
        return False
    # A name that somebody else owns can be made to lead here, by a page in a browser here.
    return is_loopback(client[0]) and is_loopback(_name_in(f"//{headers.get('host', '')}"))


def _name_in(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_same_origin(headers: Headers) -> bool:
    _, _, origin = headers["origin"].partition("//")
    return bool(origin) and origin.lower() == headers.get("host", "").lower()


def _is_json(headers: Headers) -> bool:
    message = Message()
    message["content-type"] = headers.get("content-type", "")
    return message.get_content_type() == "application/json"

"""Tell clients without a token where to get one (RFC 9728), as MCP has it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from ninelives_control.identity.jwt import Jwt

MCP = "/mcp"
METADATA = f"/.well-known/oauth-protected-resource{MCP}"
_UNAUTHORIZED = 401


class Challenge:
    """Adds to each answer 401 the place of the document that names the identity provider.

    Args:
        app: What answers.
        settings: Which tokens are believed.
    """

    def __init__(self, app: ASGIApp, settings: Jwt) -> None:
        """Hold both."""
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def challenging(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == _UNAUTHORIZED:
                MutableHeaders(scope=message)["WWW-Authenticate"] = self._header(scope)
            await send(message)

        await self._app(scope, receive, challenging)

    def _header(self, scope: Scope) -> str:
        origin = _origin(_resource(self._settings, scope))
        wrong = 'error="invalid_token", ' if "authorization" in Headers(scope=scope) else ""
        return f'Bearer {wrong}resource_metadata="{origin}{METADATA}"'


class Metadata:
    """Answers `GET` of the document, which everybody may read."""

    def __init__(self, settings: Jwt) -> None:
        """Describe what these settings believe."""
        self._settings = settings

    async def answer(self, request: Request) -> Response:
        """Return the document."""
        return JSONResponse(
            {
                "resource": _resource(self._settings, request.scope),
                "authorization_servers": [self._settings.issuer],
                "bearer_methods_supported": ["header"],
            },
            headers={"Cache-Control": "no-store"},
        )


def _resource(settings: Jwt, scope: Scope) -> str:
    """Return the URL of the MCP endpoint, as the client knows it."""
    if settings.resource is not None:
        return settings.resource
    host = Headers(scope=scope).get("host", "")
    return f"{scope['scheme']}://{host}{MCP}"


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"

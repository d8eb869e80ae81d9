"""What is served under which path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute

from ninelives_control.transports.graphql.endpoint import GraphQLEndpoint
from ninelives_control.transports.http.guard import Guard, problem
from ninelives_control.transports.http.metrics import Metrics
from ninelives_control.transports.http.noted import Noted
from ninelives_control.transports.http.oauth import MCP, METADATA, Challenge, Metadata
from ninelives_control.transports.http.server import LARGEST_MESSAGE
from ninelives_control.transports.mcp.endpoint import McpEndpoint
from ninelives_control.transports.rest.endpoint import RestEndpoint

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

    from ninelives_control.server import ControlPlane


class HttpApp:
    """The ASGI application of a control plane.

    Attributes:
        asgi: The application.
    """

    def __init__(self, plane: ControlPlane) -> None:
        """Build it for the commands that there are now."""
        graphql = GraphQLEndpoint(plane.dispatcher)
        self._metrics = Metrics(plane.registry, plane.dispatcher)
        self._mcp = McpEndpoint(plane.dispatcher)
        issuer, challenge = [], []
        if plane.jwt is not None:
            issuer = [Route(METADATA, Metadata(plane.jwt).answer)]
            challenge = [Middleware(Challenge, settings=plane.jwt)]
        served = Starlette(
            routes=[
                Route("/healthz", _healthy),
                Route("/metrics", self._metrics.answer),
                Route("/graphql", graphql, methods=["POST"]),
                WebSocketRoute("/graphql", graphql),
                *RestEndpoint(plane.dispatcher).routes(),
                Route(MCP, self._mcp, methods=["GET", "POST", "DELETE"]),
                *issuer,
            ],
            middleware=[Middleware(Guard, host=plane.host), *challenge],
            exception_handlers={404: _not_found, 405: _wrong_method},
            max_body_size=LARGEST_MESSAGE,
        )
        # It would lead clients of a proxy with TLS to a place without.
        served.router.redirect_slashes = False
        self.asgi: ASGIApp = Noted(served, plane.dispatcher)

    async def start_sessions(self) -> None:
        """Be ready for MCP clients that keep a session."""
        await self._mcp.start()

    async def end_sessions(self) -> None:
        """End the sessions of MCP clients."""
        await self._mcp.stop()

    def close(self) -> None:
        """Let go of the registry."""
        self._metrics.close()


async def _healthy(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _not_found(_request: Request, _error: Exception) -> Response:
    return problem(404, "there are /v1/commands, /graphql, /mcp, /metrics and /healthz")


async def _wrong_method(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = problem(405, f"{request.method} is not served at {request.url.path}")
    answer.headers.update(error.headers or {})
    return answer

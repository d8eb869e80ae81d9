"""The metrics of a registry, in the text format of Prometheus, or in its binary one."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from pydantic import Field
from starlette.responses import Response

from ninelives_control.command import Command, Context, Effect
from ninelives_control.errors import CommandError
from ninelives_control.identity.identity import ANONYMOUS
from ninelives_control.model import Arguments, Result
from ninelives_control.threads import in_thread
from ninelives_control.transports.http import exposition
from ninelives_control.transports.http.guard import caller_of, problem_of
from ninelives_grpc.observer.metrics import observe

if TYPE_CHECKING:
    from starlette.requests import Request

    from ninelives_control.router import Dispatcher
    from ninelives_grpc.registry import Registry

_NAME = "http"


class Form(Arguments):
    """In which form to return them."""

    native: bool = Field(description="In the binary form, with native histograms.")


class Exposition(Result):
    """Metrics."""

    body: bytes = Field(description="In that form.")


class Metrics:
    """Answers `GET /metrics`, in the binary format where `Accept` asks for it.

    It has a meter provider and a Prometheus registry of its own, so the application's stay as they
    are. Callers on this machine need no token; others need one whose role may use a command of the
    name `metrics`.
    """

    def __init__(self, registry: Registry, dispatcher: Dispatcher) -> None:
        """Begin to observe the stacks of a registry."""
        self._dispatcher = dispatcher
        self._lock = threading.Lock()
        self._collected = CollectorRegistry()
        reader = PrometheusMetricReader(disable_target_info=True, registry=self._collected)
        self._provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
        self._registry = registry
        observe(registry, self._provider)
        self._command = Command(
            name="metrics",
            summary="Return the metrics of all stacks.",
            effect=Effect.READ,
            arguments=Form,
            result=Exposition,
            handler=self._expose,
        )

    async def answer(self, request: Request) -> Response:
        """Return the metrics to those who may read them."""
        shown = caller_of(request.scope)
        here = shown.loopback and shown.token is None
        native = exposition.wanted(request.headers.get("Accept", ""))
        try:
            found = await in_thread(
                self._dispatcher.run,
                self._command,
                {"native": native},
                caller=ANONYMOUS if here else shown,
                transport=_NAME,
            )
        except CommandError as error:
            return problem_of(error)
        assert isinstance(found, Exposition)
        kind = exposition.CONTENT_TYPE if native else CONTENT_TYPE_LATEST
        return Response(found.body, media_type=kind, headers={"Cache-Control": "no-store"})

    def close(self) -> None:
        """Observe no more."""
        self._provider.shutdown()

    def _expose(self, arguments: Form, _context: Context) -> Exposition:
        # Two at a time would share out what was collected between them.
        with self._lock:
            if arguments.native:
                return Exposition(body=exposition.binary(self._collected.collect(), self._registry))
            return Exposition(body=generate_latest(self._collected))

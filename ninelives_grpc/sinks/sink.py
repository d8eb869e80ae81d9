"""What a sink is, and how sinks compose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ninelives_grpc.errors import NinelivesError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ninelives_grpc.events import Event
    from ninelives_grpc.events.event import Values
    from ninelives_grpc.sinks.protected import ProtectedSink
    from ninelives_grpc.stacks.algebra import Expression


class SinkError(NinelivesError):
    """Sinks of a composition failed.

    Attributes:
        failures: Each sink that failed, with what it raised; compositions inside are taken apart.
    """

    def __init__(self, failures: Sequence[tuple[object, Exception]]) -> None:
        """Hold what each of them raised."""
        self.failures: tuple[tuple[object, Exception], ...] = tuple(
            inner
            for failure in failures
            for inner in (failure[1].failures if isinstance(failure[1], SinkError) else (failure,))
        )
        super().__init__(
            "; ".join(
                f"{type(sink).__name__} raised {type(error).__name__}: {error}"
                for sink, error in self.failures
            )
        )

    @property
    def errors(self) -> list[Exception]:
        """What they raised."""
        return [error for _, error in self.failures]


class Sink:
    """Takes events.

    `emit` runs on the path of the call: it must not block. It may raise; a stack logs that and goes
    on. A slow sink belongs behind a `NonBlockingSink`.

    Attributes:
        routine: Whether it wants the events of every good call as well.
        dropped: Events that it has lost, because there were too many at once.
    """

    routine: bool = False
    dropped: int = 0

    def emit(self, event: Event) -> None:
        """Take one event."""
        raise NotImplementedError

    def take(self, kind: type[Event], values: Values) -> None:
        """Take one event that has not been built yet: its kind, and its values."""
        self.emit(kind.from_values(values))

    def close(self) -> None:
        """Deliver what is pending and let go of threads and files."""

    def __add__(self, other: Sink) -> MulticastSink:
        """Feed both."""
        return MulticastSink(self, other) if isinstance(other, Sink) else NotImplemented

    def __or__(self, other: Sink) -> FallbackSink:
        """Feed the other one what this one can not take."""
        return FallbackSink(self, other) if isinstance(other, Sink) else NotImplemented

    def protected(self, expression: Expression, *, name: str = "sink") -> ProtectedSink:
        """Return this sink behind policies: `sink.protected(Retry(3) + CircuitBreaker())`.

        Raises:
            ConfigError: The policies do not go together.
        """
        from ninelives_grpc.sinks.protected import ProtectedSink  # noqa: PLC0415 - a sink, too

        return ProtectedSink(self, expression, name=name)


class LazySink(Sink):
    """Takes what events are made of, to build them when somebody looks, or never.

    That costs the call a tenth.
    """

    def emit(self, event: Event) -> None:
        """Take one event."""
        self.take(type(event), event.values())

    def take(self, kind: type[Event], values: Values) -> None:
        """Take one event."""
        raise NotImplementedError


class NullSink(LazySink):
    """Takes nothing."""

    def take(self, kind: type[Event], values: Values) -> None:
        """Forget the event."""


class MulticastSink(LazySink):
    """Feeds several sinks; one that fails does not keep the others from their events."""

    def __init__(self, *sinks: Sink) -> None:
        """Feed these; those that are multicasts themselves are taken apart."""
        self.sinks: tuple[Sink, ...] = tuple(
            inner
            for sink in sinks
            for inner in (sink.sinks if isinstance(sink, MulticastSink) else (sink,))
        )
        self.routine = any(sink.routine for sink in self.sinks)

    def take(self, kind: type[Event], values: Values) -> None:
        """Feed each.

        Raises:
            SinkError: One or more of them failed; the others got the event.
        """
        failures: list[tuple[object, Exception]] = []
        for sink in self.sinks:
            if kind.routine and not sink.routine:
                continue
            try:
                sink.take(kind, values)
            except Exception as error:  # noqa: BLE001 - raised below, together
                failures.append((sink, error))
        if failures:
            raise SinkError(failures)

    def close(self) -> None:
        """Close each."""
        for sink in self.sinks:
            sink.close()


class FallbackSink(Sink):
    """Feeds a second sink what the first can not take."""

    def __init__(self, first: Sink, second: Sink) -> None:
        """Feed `first`, and `second` when that fails."""
        self.first = first
        self.second = second
        self.routine = first.routine

    def emit(self, event: Event) -> None:
        """Feed the first, or else the second.

        Raises:
            SinkError: Both failed.
        """
        try:
            self.first.emit(event)
        except Exception as first_error:  # noqa: BLE001 - the second is there for this
            try:
                self.second.emit(event)
            except Exception as error:  # noqa: BLE001 - raised with the first
                raise SinkError([(self.first, first_error), (self.second, error)]) from None

    def close(self) -> None:
        """Close both."""
        self.first.close()
        self.second.close()

"""Where a series is heading, and how wrong that was so far.

Holt's linear trend method (1957), also called double exponential smoothing, for readings that come
at any distance; a damped trend (Gardner and McKenzie, "Forecasting trends in time series", 1985)
does not run away over a long horizon.
"""

from __future__ import annotations

from collections import deque

from ninelives_grpc.laws.law import smoothed

_KEPT = 1000
"""Forecasts that wait for their time at most."""


class Holt:
    """A level and a trend a second, and the forecasts that were made of them.

    Attributes:
        level: Where the series is, smoothed; None before the first reading.
        trend: By how much it moves in a second.
        forecast: What was last foretold, or None.
        mean_error: How far forecasts were off on average, without the sign: the MAE, or None.
        bias: The same with the sign: above 0 where more came than was foretold.
        naive_error: The MAE of foretelling no change.
        judged: Forecasts whose time has come.
    """

    def __init__(self) -> None:
        """Start with nothing known."""
        self.level: float | None = None
        self.trend = 0.0
        self.forecast: float | None = None
        self.mean_error: float | None = None
        self.bias: float | None = None
        self.naive_error: float | None = None
        self.judged = 0
        self._at = 0.0
        self._value = 0.0
        self._pending: deque[tuple[float, float, float]] = deque(maxlen=_KEPT)

    def add(self, now: float, value: float, *, level: float, trend: float, error: float) -> None:
        """Take in a reading, and see how good the forecasts for this time were.

        Args:
            now: The time.
            value: The reading.
            level: Weight of the reading in the level, 0..1.
            trend: Weight of the last move in the trend, 0..1.
            error: Weight of a forecast in the mean errors, 0..1.
        """
        self._judge(now, value, error)
        seconds = now - self._at
        if self.level is None or seconds <= 0.0:
            self.level = value
        else:
            before = self.level
            expected = before + self.trend * seconds
            self.level = expected + level * (value - expected)
            self.trend += trend * ((self.level - before) / seconds - self.trend)
        self._at, self._value = now, value

    def foretell(self, horizon: float, damping: float) -> float:
        """Return where the series will be after so many seconds; not below 0.

        Args:
            horizon: Seconds ahead.
            damping: Share of the trend that is left after the horizon, 0..1; 1 is a straight line.
        """
        # A trend that fades evenly to that share has done its mean over the way.
        ahead = self.trend * horizon * (1.0 + damping) / 2.0
        self.forecast = forecast = max(0.0, (self.level or 0.0) + ahead)
        self._pending.append((self._at + horizon, forecast, self._value))
        return forecast

    def restart(self) -> None:
        """Forget the series and what was foretold of it, and not how good that was."""
        self.level = self.forecast = None
        self.trend = 0.0
        self._pending.clear()

    def _judge(self, now: float, value: float, weight: float) -> None:
        # Of several whose time has come the last one was made for a time next to now.
        due = None
        while self._pending and self._pending[0][0] <= now + 1e-9:
            due = self._pending.popleft()
        if due is None:
            return
        _, forecast, then = due
        self.mean_error = smoothed(self.mean_error, abs(value - forecast), weight)
        self.bias = smoothed(self.bias, value - forecast, weight)
        self.naive_error = smoothed(self.naive_error, abs(value - then), weight)
        self.judged += 1

"""A backend that does as it is told, and the errors it may be told to answer with."""

import grpc

from ninelives_grpc.errors import PUSHBACK_KEY


class StatusError(grpc.RpcError):
    def __init__(self, code=grpc.StatusCode.UNAVAILABLE, *, pushback=None, details="as told"):
        super().__init__(details)
        self._code = code
        self._details = details
        self._trailing = () if pushback is None else ((PUSHBACK_KEY, str(pushback)),)

    def code(self):
        return self._code

    def details(self):
        return self._details

    def trailing_metadata(self):
        return self._trailing


class Backend:
    """Gives one reply after the other, the last one for ever: exceptions are raised.

    Attributes:
        times: When it was called.
    """

    def __init__(self, clock, *replies, takes=0.0):
        self._clock = clock
        self._replies = replies
        self._takes = takes
        self.times = []

    def __call__(self):
        reply = self._replies[min(len(self.times), len(self._replies) - 1)]
        self.times.append(self._clock.now())
        self._clock.advance(self._takes)
        if isinstance(reply, BaseException):
            raise reply
        return reply

    @property
    def calls(self):
        return len(self.times)

    @property
    def waits(self):
        """The pauses between the calls, rounded to what a float can tell."""
        return [
            round(later - earlier - self._takes, 9)
            for earlier, later in zip(self.times, self.times[1:], strict=False)
        ]

"""Send calls to another channel: a region, a replica, a cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from ninelives_grpc.errors import ConfigError
from ninelives_grpc.parameters import option, policy
from ninelives_grpc.policies.policy import Live, Policy, Role

if TYPE_CHECKING:
    from ninelives_grpc.policies.policy import Address


@policy
class Target(Policy):
    """Send what is inside to another channel: `Retry() | Target(other_region)`.

    Works on channels that were protected by `wrap_channel`; an interceptor has no way to choose the
    channel.

    Args:
        channel: A `grpc.Channel` on sync channels, a `grpc.aio.Channel` under asyncio. It stays
            yours to close.
    """

    channel: grpc.Channel | grpc.aio.Channel = option(kw_only=False)

    def __post_init__(self) -> None:
        """Check that it is a channel."""
        super().__post_init__()
        if not isinstance(self.channel, grpc.Channel | grpc.aio.Channel):
            msg = f"must be a channel, not {self.channel!r}"
            raise ConfigError(msg, path="Target.channel")

    def live(self, address: Address) -> TargetFlow:
        """Make the running policy."""
        return TargetFlow(self, address)


class TargetFlow(Live[Target]):
    """Knows the channel."""

    role = Role.TARGET

    @property
    def channel(self) -> grpc.Channel | grpc.aio.Channel:
        """The channel that attempts go to."""
        return self.policy.channel

"""Which methods may be repeated without harm, as their `.proto` says."""

from __future__ import annotations

import sys

_POOL = "google.protobuf.descriptor_pool"


def marked_idempotent(name: str) -> bool:
    """Tell whether a method is marked `idempotency_level = NO_SIDE_EFFECTS` or `IDEMPOTENT`.

    It is asked when a channel makes a method, so that generated code counts which was imported
    before that.

    Args:
        name: `package.Service/Method`, without the leading slash of the wire.
    """
    # Not imported here: without protobuf there are no descriptors either.
    module = sys.modules.get(_POOL)
    if module is None:
        return False
    try:
        method = module.Default().FindMethodByName(name.replace("/", "."))
    except KeyError:
        return False
    options = method.GetOptions()
    unknown: bool = options.idempotency_level == options.IDEMPOTENCY_UNKNOWN
    return not unknown

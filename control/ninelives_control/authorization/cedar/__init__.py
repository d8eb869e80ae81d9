"""Policies in Cedar in place of rules, for who has them already: the extra `cedar`.

@id("agents-tune")
permit (principal in Role::"agent", action == Action::"set_parameter", resource)
when {
  context has new && context has declared &&
  context.new <= context.declared * 4 && context.new * 4 >= context.declared
};

@id("payments-is-for-people")
forbid (principal in Role::"agent", action in Action::"change", resource in Place::"payments");

As with rules, nothing is allowed that no policy permits, and what one forbids is denied. A policy
that cannot be evaluated denies. Hours and rates of changes are for rules. Policies may name the
commands that are there when the file is read: an application adds its own before it starts the
control plane. A command on nothing in particular is on `Place::""`, which only a policy for every
resource permits. What else a policy can speak of stands in `schema.cedarschema`.
"""

from ninelives_grpc.errors import MissingExtraError

try:
    import cedarpy  # noqa: F401 - to see whether it is there
except ImportError:
    raise MissingExtraError("cedar", "a file of policies in Cedar") from None

from ninelives_control.authorization.cedar.authorizer import Cedar
from ninelives_control.authorization.cedar.policies import Policies, read, schema

__all__ = ["Cedar", "Policies", "read", "schema"]

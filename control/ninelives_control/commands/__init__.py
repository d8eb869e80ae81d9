"""The built-in commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ninelives_control.commands.audit import get_audit
from ninelives_control.commands.authorization import explain_authorization
from ninelives_control.commands.catalog import list_commands
from ninelives_control.commands.changes import apply_parameters, export_parameters, undo_change
from ninelives_control.commands.circuit_breakers import (
    force_circuit_breaker,
    reset_circuit_breaker,
)
from ninelives_control.commands.events import list_events
from ninelives_control.commands.leases import end_lease, list_leases
from ninelives_control.commands.metrics import get_metrics
from ninelives_control.commands.parameters import get_parameter, list_parameters, set_parameter
from ninelives_control.commands.stacks import describe_policy, list_policies, list_stacks
from ninelives_control.commands.state import get_state

if TYPE_CHECKING:
    from ninelives_control.command import Command

BUILT_IN: tuple[Command[Any, Any], ...] = (
    apply_parameters,
    describe_policy,
    end_lease,
    export_parameters,
    explain_authorization,
    force_circuit_breaker,
    get_audit,
    get_metrics,
    get_parameter,
    get_state,
    list_commands,
    list_events,
    list_leases,
    list_parameters,
    list_policies,
    list_stacks,
    reset_circuit_breaker,
    set_parameter,
    undo_change,
)
"""All of them, by name."""

"""One call of each built-in command that works, for tests that go over the whole table.

They are for a control plane whose only stack is `shop`, as it is declared here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ninelives_control.audit.entries import Outcome
from ninelives_grpc import Bulkhead, CircuitBreaker, Retry, Timeout
from ninelives_grpc.events import Severity
from ninelives_grpc.policies.circuit_breaker import Mode

if TYPE_CHECKING:
    from ninelives_control import ControlPlane

ATTEMPTS = "shop/retry/max_attempts"
BREAKER = "shop/circuit_breaker"
BUDGET = "shop/retry_budget"
CONCURRENT = "shop/bulkhead/max_concurrent"
SECONDS = "shop/timeout/seconds"

READS: dict[str, dict[str, Any]] = {
    "describe_policy": {"path": "shop/retry"},
    "explain_authorization": {"command": "set_parameter", "path": ATTEMPTS, "value": 5},
    "export_parameters": {"match": "shop/retry/*"},
    "get_audit": {"status": Outcome.SUCCEEDED, "path": "shop/**"},
    "get_metrics": {"stack": "shop", "window": 300},
    "get_parameter": {"path": f"{BREAKER}/failure_rate_threshold"},
    "get_state": {"stack": "shop", "window": 300},
    "list_commands": {"match": "*_parameter"},
    "list_events": {"severity": Severity.INFO, "limit": 10},
    "list_leases": {"match": "shop/**"},
    "list_parameters": {"stack": "shop", "policy": "circuit_breaker"},
    "list_policies": {},
    "list_stacks": {"match": "sh*"},
}
"""What commands that read are asked."""
CHANGED: dict[str, dict[str, Any]] = {
    "apply_parameters": {
        "changes": [
            {"path": f"{BUDGET}/ratio", "old": 0.1, "new": 0.2, "revision": 2},
            {"path": f"{BUDGET}/capacity", "old": 10, "new": 20, "revision": 2},
        ],
        "dry_run": False,
        "until": None,
        "findings": [],
    },
    "end_lease": {
        "changes": [{"path": CONCURRENT, "old": 8, "new": 4, "revision": 3}],
        "dry_run": False,
        "until": None,
        "findings": [],
    },
    "force_circuit_breaker": {
        "path": BREAKER,
        "old": Mode.AUTO,
        "new": Mode.METRICS_ONLY,
        "revision": 2,
    },
    "reset_circuit_breaker": {"path": BREAKER, "circuits": 1, "old": "closed", "new": "closed"},
    "set_parameter": {
        "path": ATTEMPTS,
        "old": 3,
        "new": 5,
        "revision": 2,
        "dry_run": False,
        "until": None,
        "findings": [],
    },
    "undo_change": {
        "changes": [{"path": SECONDS, "old": 3.0, "new": 2.0, "revision": 3}],
        "dry_run": False,
        "until": None,
        "findings": [],
    },
}
"""What those that `changes` asks for answer, but for their id."""


def expression() -> Any:
    """Return what is in the stack."""
    return Timeout(2.0) + Retry(3) + CircuitBreaker() + Bulkhead(4)


def changes(plane: ControlPlane) -> dict[str, dict[str, Any]]:
    """Return what commands that change something are asked; what they end or undo is done."""
    lent: Any = plane.execute("set_parameter", path=CONCURRENT, value=8, lease=3600.0)
    made: Any = plane.execute("set_parameter", path=SECONDS, value=3.0)
    return {
        "apply_parameters": {
            "changes": [
                {"path": f"{BUDGET}/ratio", "value": 0.2},
                {"path": f"{BUDGET}/capacity", "value": 20, "expected_revision": 1},
            ]
        },
        "end_lease": {"id": lent.id},
        "force_circuit_breaker": {"path": BREAKER, "mode": Mode.METRICS_ONLY, "reason": "a try"},
        "reset_circuit_breaker": {"path": BREAKER},
        "set_parameter": {"path": ATTEMPTS, "value": 5, "expected_revision": 1},
        "undo_change": {"id": made.id, "reason": "it was a try"},
    }

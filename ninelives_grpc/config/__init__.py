"""Build stacks from a TOML or JSON file, and route methods to them.

    [stacks.payments]
    expression = "timeout + retry + circuit_breaker + bulkhead"
    timeout = { seconds = 2.0 }
    bulkhead = { max_concurrent = 64 }

    [stacks.search]
    preset = "high_throughput"
    overrides = { "retry/max_attempts" = 2 }

    [routes]
    "shop.v1.Payments/*" = "payments"
    "shop.v1.Search/Suggest" = "search"

    [stacks.payments.loops.size]
    law = "aimd"
    parameter = "bulkhead/max_concurrent"
    latency = 0.2

An expression is written as in Python. A name in it is a policy of the kind that it begins with
(`timeout`, `timeout_attempt`), with the settings of the table of that name; or another stack of the
file; or a policy that the program hands in. A loop moves a parameter of its stack by a law of
`ninelives_grpc.laws`, whose settings are the others of its table. Nothing is built unless
everything is right.

`schema` describes the file for editors, `ninelives check` says what is wrong in one, environment
variables override its parameters (`apply_environment`), and `from_service_config` reads the retry
settings of gRPC's own service config.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from ninelives_grpc.config.builder import Builder
from ninelives_grpc.config.schema import schema
from ninelives_grpc.config.service_config import from_service_config
from ninelives_grpc.environment import apply_environment
from ninelives_grpc.errors import ConfigError
from ninelives_grpc.registry import Registry, default_registry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ninelives_grpc.laws.metrics import Gauge
    from ninelives_grpc.routes import Routes
    from ninelives_grpc.stacks.algebra import Expression

__all__ = ["apply_environment", "from_service_config", "load", "parse", "schema"]


def load(
    path: str | Path,
    *,
    policies: Mapping[str, Expression] | None = None,
    gauges: Mapping[str, Gauge] | None = None,
    registry: Registry | None = None,
) -> Routes:
    """Build the stacks of a file and return the routes to them.

    Environment variables `NINELIVES_<STACK>__<POLICY>__<PARAMETER>` win over the file: see
    `apply_environment`.

    Args:
        path: A `.toml` or `.json` file.
        policies: Policies by name for expressions to use, such as a `Respond` or a `Target`, which
            no file can hold.
        gauges: Functions by name for loops to read, besides `memory`, `cpu`, `memory_stall` and
            `cpu_stall`.
        registry: Where the stacks go; by default `default_registry`.

    Raises:
        ConfigError: Something in it is wrong: names the file and field, or the variable, and says
            what is allowed.
    """
    file = Path(path)
    builder = Builder(read(file), str(file), policies or {}, gauges)
    builder.problems.check()
    apply_environment(builder.stacks.values())
    return _registered(builder, registry)


def parse(
    data: object,
    *,
    where: str = "config",
    policies: Mapping[str, Expression] | None = None,
    gauges: Mapping[str, Gauge] | None = None,
    registry: Registry | None = None,
) -> Routes:
    """Build stacks from data in the form of the file, as `load`; the environment has no say."""
    builder = Builder(data, where, policies or {}, gauges)
    builder.problems.check()
    return _registered(builder, registry)


def read(file: Path) -> object:
    """Return what stands in a file, before any of it is understood.

    Raises:
        ConfigError: It can not be read, or is not TOML or JSON; says where, if the parser does.
    """
    if file.suffix not in {".toml", ".json"}:
        raise ConfigError("must be a .toml or a .json file", path=str(file))
    try:
        text = file.read_text(encoding="utf-8")
        data: object = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"can not be read: {error.strerror}", path=str(file)) from error
    except RecursionError:
        raise ConfigError("is nested too deeply", path=str(file)) from None
    except ValueError as error:
        raise ConfigError(
            f"is not valid {file.suffix[1:].upper()}: {error}", path=str(file)
        ) from error
    return data


def _registered(builder: Builder, registry: Registry | None) -> Routes:
    builder.hand_over(default_registry if registry is None else registry)
    return builder.routes

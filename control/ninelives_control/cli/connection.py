"""Which control plane is meant: by options, by the environment, or by a profile."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from ninelives_control.cli.group import Exit, Failure
from ninelives_control.cli.profiles import config_path, read
from ninelives_control.transports.grpc.connection import Connection
from ninelives_grpc.errors import ConfigError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

R = TypeVar("R")

ADDRESS = "127.0.0.1:50090"
_GIVEN = f"{__name__}.given"
_TOGETHER = (("token", "token_file"), ("certificate", "key"))
"""What belongs together, and comes from one place or not at all."""

Layer = dict[str, Any]


class Setting(click.Option):
    """An option about the connection: remembered by where it comes from, not handed on.

    The group of commands and the command itself may both have it; the latter wins.
    """

    def __init__(self, names: Sequence[str], **settings: Any) -> None:
        """As any option."""
        super().__init__(
            names, expose_value=False, show_envvar=True, callback=_remember, **settings
        )


def settings() -> list[Setting]:
    """Return the options, new ones each time."""
    file = click.Path(exists=True, dir_okay=False, path_type=Path)
    return [
        Setting(
            ["--profile"],
            envvar="NINELIVES_PROFILE",
            shell_complete=_complete,
            help="A profile of the configuration, see `ninelives profiles`.",
        ),
        Setting(
            ["--address"],
            envvar="NINELIVES_ADDRESS",
            help=f"Where it listens for gRPC.  [default: {ADDRESS}]",
        ),
        Setting(["--token"], envvar="NINELIVES_TOKEN", help="The token to show."),
        Setting(
            ["--token-file"],
            type=file,
            envvar="NINELIVES_TOKEN_FILE",
            help="A file that holds the token.",
        ),
        Setting(
            ["--ca"],
            type=file,
            envvar="NINELIVES_CA",
            help="Certificates to know the server by; with it the connection is encrypted.",
        ),
        Setting(
            ["--certificate"],
            type=file,
            envvar="NINELIVES_CERTIFICATE",
            help="Your own certificate; likewise.",
        ),
        Setting(["--key"], type=file, envvar="NINELIVES_KEY", help="The private key of that."),
        Setting(
            ["--timeout"],
            type=float,
            envvar="NINELIVES_TIMEOUT",
            help="Seconds to wait.  [default: 10]",
        ),
    ]


def connection_options(function: Callable[..., R]) -> Callable[..., R]:
    """Add what it takes to reach a control plane to a subcommand, which gets a `connection`."""

    @functools.wraps(function)
    def connected(*args: Any, **given: Any) -> R:
        context = click.get_current_context()
        return function(*args, connection=connection_of(context), **given)

    declared: list[click.Parameter] = getattr(function, "__click_params__", [])
    # Click reads decorators from the last to the first.
    connected.__click_params__ = [*declared, *reversed(settings())]  # type: ignore[attr-defined]
    return connected


@contextlib.contextmanager
def looking_ahead(context: click.Context, args: Sequence[str]) -> Iterator[None]:
    """Make use of options that stand among these words, and forget them again.

    They may turn out to be arguments of a command, which is not known yet.
    """
    given: Mapping[ParameterSource, Layer] = context.meta.get(_GIVEN, {})
    context.meta[_GIVEN] = {source: dict(layer) for source, layer in given.items()}
    ahead = click.Command("ahead", params=[*settings()], add_help_option=False)
    ahead.ignore_unknown_options = ahead.allow_extra_args = True
    ahead.make_context("ahead", [*args], parent=context, resilient_parsing=True)
    try:
        yield
    finally:
        context.meta[_GIVEN] = given


def connection_of(context: click.Context) -> Connection:
    """Return the connection that the options read so far ask for.

    Options win over the environment, and that over a profile; but a profile that an option names
    wins over the environment. A profile that was not named by an option is left out where an
    address is given that is stronger: its token is for its own address.

    Raises:
        Failure: A profile is not there or broken, or the token can be none.
    """
    given: Mapping[ParameterSource, Layer] = context.meta.get(_GIVEN, {})
    options = given.get(ParameterSource.COMMANDLINE, {})
    environment = given.get(ParameterSource.ENVIRONMENT, {})
    try:
        chosen = _chosen(_layers(options, environment))
        found = Connection(**chosen)
        found.check()
    except (ConfigError, UnknownNameError) as error:
        raise Failure(str(error), Exit.INVALID) from None
    return found


def _layers(options: Layer, environment: Layer) -> list[Layer]:
    """Return what is given, the strongest first."""
    if "profile" in options:
        return [options, _profile(options["profile"]), environment]
    stronger = [options] if "profile" in environment else [options, environment]
    layers = [options, environment]
    if not any("address" in layer for layer in stronger):
        layers.append(_profile(environment.get("profile")))
    return layers


def _profile(name: str | None) -> Layer:
    """Return the settings of a profile; of the default one for None, if there is one."""
    config = read(config_path())
    name = config.default_profile if name is None else name
    if name is None:
        return {}
    if name not in config.profiles:
        raise UnknownNameError("profile", name, config.profiles)
    return config.profiles[name].model_dump(exclude_none=True)


def _complete(_context: click.Context, _option: click.Parameter, incomplete: str) -> list[str]:
    try:
        profiles = read(config_path()).profiles
    except (ConfigError, UnknownNameError):
        return []
    return sorted(name for name in profiles if name.startswith(incomplete))


def _chosen(layers: Sequence[Layer]) -> Layer:
    chosen: Layer = {"address": ADDRESS}
    for layer in reversed(layers):
        for together in _TOGETHER:
            if any(name in layer for name in together):
                for name in together:
                    chosen.pop(name, None)
        chosen |= layer
    if "token" in chosen and "token_file" in chosen:
        raise ConfigError("a token and a file of one are given; leave one of them out")
    chosen.pop("profile", None)
    return chosen


def _remember(context: click.Context, option: click.Parameter, value: object) -> None:
    source = None if option.name is None else context.get_parameter_source(option.name)
    if value is not None and source is not None and option.name is not None:
        # Contexts share it with those around them.
        given = context.meta.setdefault(_GIVEN, {})
        given.setdefault(source, {})[option.name] = value

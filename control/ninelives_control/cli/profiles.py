"""List the profiles: control planes by name, in a file of yours."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated

import click
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ninelives_control.cli.group import Exit, Failure
from ninelives_control.cli.show import Form, form_option, show, show_table
from ninelives_control.errors import finding
from ninelives_grpc.errors import ConfigError, UnknownNameError

CONFIG = "NINELIVES_CONFIG"
"""The variable that names another file."""


class Profile(BaseModel):
    """How one control plane is reached; a token is in a file of its own, which only you can read.

    Attributes:
        address: Where it listens for gRPC.
        token_file: A file that holds the token.
        ca: Certificates to know the server by.
        certificate: Your own certificate.
        key: The private key of that.
        timeout: Seconds to wait.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    address: str | None = None
    token_file: Path | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    timeout: Annotated[float, Field(gt=0)] | None = None


class Config(BaseModel):
    """The whole file.

    Attributes:
        default_profile: Which profile to use where none is named, and no address either.
        profiles: All of them, by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    default_profile: str | None = None
    profiles: dict[str, Profile] = {}


_HELP = """List the profiles, and which of them is the default; tokens are not shown.

They stand in ~/.config/ninelives/config.toml, or in the file that NINELIVES_CONFIG names:

\b
default_profile = "test"
[profiles.test]
address = "127.0.0.1:50090"
[profiles.prod]
address = "shop.example:50090"
token_file = "prod.token"
ca = "ca.pem"

`--profile prod` or NINELIVES_PROFILE choose one. Options win over the environment, and that over
a profile; but a profile that is chosen by an option wins over the environment. A default one is
left out where an address is given, as its token is for its own address.
"""


@click.command("profiles", help=_HELP)
@form_option
def cli(form: str) -> None:
    """List the profiles."""
    try:
        config = read(config_path())
    except (ConfigError, UnknownNameError) as error:
        raise Failure(str(error), Exit.INVALID) from None
    rows = [
        {"name": name, "default": name == config.default_profile} | profile.model_dump(mode="json")
        for name, profile in sorted(config.profiles.items())
    ]
    if form == Form.JSON:
        show({"file": str(config_path()), "profiles": rows}, form)
    elif rows:
        show_table(rows)
    else:
        click.echo(f"there are none; {config_path()} can have some, see --help")


def config_path() -> Path:
    """Return where the profiles are."""
    named = os.environ.get(CONFIG)
    if named:
        return Path(named).expanduser()
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(home).expanduser() / "ninelives" / "config.toml"


def read(path: Path) -> Config:
    """Return the profiles of a file; a file that is not there has none, unless it was named.

    Raises:
        ConfigError: It cannot be read or is broken; names the file and the field.
        UnknownNameError: The default profile is not there.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if os.environ.get(CONFIG):
            raise ConfigError(f"is not there; {CONFIG} names it", path=str(path)) from None
        return Config()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", path=str(path)) from None
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"is not TOML: {error}", path=str(path)) from None
    _refuse_tokens(data, path)
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        field, message = finding(error, "setting", [*Profile.model_fields, *Config.model_fields])
        raise ConfigError(message.removeprefix(field).strip(), path=f"{path}: {field}") from None
    if config.default_profile is not None and config.default_profile not in config.profiles:
        raise UnknownNameError("profile", config.default_profile, config.profiles)
    profiles = {name: _settled(profile, path.parent) for name, profile in config.profiles.items()}
    return config.model_copy(update={"profiles": profiles})


def _refuse_tokens(data: dict[str, object], path: Path) -> None:
    """Refuse a token that stands in the file itself, which is copied and shown around."""
    profiles = data.get("profiles")
    for name, profile in profiles.items() if isinstance(profiles, dict) else ():
        if isinstance(profile, dict) and "token" in profile:
            msg = (
                "has no place in this file; put it into one of its own that only you can read, "
                "and name that by token_file"
            )
            raise ConfigError(msg, path=f"{path}: profiles.{name}.token")


def _settled(profile: Profile, folder: Path) -> Profile:
    """Read paths as relative to the file that they stand in."""
    paths = {
        name: folder / value.expanduser() for name, value in profile if isinstance(value, Path)
    }
    return profile.model_copy(update=paths)

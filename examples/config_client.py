"""A client whose stacks come from a file, which also says which method goes to which."""

from __future__ import annotations

from pathlib import Path

import grpc
from backends import flaky_server

from ninelives_grpc import ConfigError, Respond, config, wrap_channel


def main() -> None:
    """Load the file, call a backend that is down, and see what a wrong file says."""
    file = Path(__file__).with_name("ninelives.toml")
    routes = config.load(file, policies={"sorry": Respond(b"ask again later")})
    print(routes)

    with (
        flaky_server(failures=1000) as address,
        wrap_channel(grpc.insecure_channel(address), routes) as channel,
    ):
        print(channel.unary_unary("/shop.Shop/Price")(b"tea"))

    try:
        config.parse({"stacks": {"prices": {"expression": "retry + bulkhed"}}}, where="wrong.toml")
    except ConfigError as error:
        print(error)


if __name__ == "__main__":
    main()

"""A program of its own that drives a control plane over GraphQL: client.py URL TOKEN."""

import asyncio
import sys

from gql import Client, gql
from gql.transport.aiohttp import AIOHTTPTransport
from gql.transport.websockets import WebsocketsTransport

PATH = "shop/retry/max_attempts"
GET = gql(f'{{ getParameter(path: "{PATH}") {{ value revision }} }}')
SET = gql(
    f"""
    mutation($value: ParameterValue, $expected: Long) {{
      setParameter(path: "{PATH}", value: $value, expectedRevision: $expected) {{ old new }}
    }}
    """
)
WATCH = gql("subscription { events { events { name stack policy } } }")


def tell(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")


async def main(url: str, token: str) -> None:
    shown = {"Authorization": f"Bearer {token}"}
    over_websocket = WebsocketsTransport(url.replace("http", "ws"), init_payload=shown)
    async with (
        Client(transport=AIOHTTPTransport(url, headers=shown)) as asking,
        Client(transport=over_websocket) as watching,
    ):
        told = watching.subscribe(WATCH)
        await anext(told)
        before = (await asking.execute(GET))["getParameter"]
        tell("value", before["value"])
        SET.variable_values = {"value": 5, "expected": before["revision"]}
        change = (await asking.execute(SET))["setParameter"]
        tell("changed", change["old"], change["new"])
        (event,) = (await anext(told))["events"]["events"]
        tell("event", event["name"], f"{event['stack']}/{event['policy']}")
        await told.aclose()


asyncio.run(main(*sys.argv[1:]))

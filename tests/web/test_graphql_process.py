import subprocess
import sys
from pathlib import Path

CLIENT = Path(__file__).with_name("graphql_client.py")


def test_a_client_in_a_process_of_its_own_drives_it(url, tokens, shop, entries):
    ended = subprocess.run(
        [sys.executable, str(CLIENT), f"{url}/graphql", tokens["operator"]],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == [
        "value 3",
        "changed 3 5",
        "event ParameterChanged shop/retry",
    ]
    assert shop.parameters["retry/max_attempts"].get() == 5
    (entry,) = entries()
    assert (entry.identity, entry.transport, entry.status) == ("operator", "graphql", "succeeded")

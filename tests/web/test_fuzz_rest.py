"""What schemathesis makes of the description of the commands, sent to all of them."""

import subprocess
import sys
from pathlib import Path

import pytest

from ninelives_control.command import Effect

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
CASES = 3
"""Random ones for each operation, besides those that cover each bound of its schema."""


def configured(plane, folder):
    """Write down what not to expect.

    What acts on things may say no to what its schema allows: an address or a value can be of the
    right form, and still not fit what is at that address. What reads has its bounds covered by
    POST, which asks the same command.
    """
    acting = [entry.name for entry in plane.commands if entry.effect is not Effect.READ]
    path = folder / "schemathesis.toml"
    path.write_text(
        f"""
        [[operations]]
        include-operation-id = {acting}
        checks.positive_data_acceptance.enabled = false

        [[operations]]
        include-method = "GET"
        phases.coverage.enabled = false
        """
    )
    return path


@pytest.mark.timeout(180)
def test_requests_of_every_kind_are_answered_as_described(plane, url, tokens, tmp_path, caplog):
    command = [
        *(SCHEMATHESIS, "--config-file", configured(plane, tmp_path), "--no-color"),
        *("run", f"{url}/v1/openapi.json", "--url", url, "--seed", "1"),
        *("--header", f"Authorization: Bearer {tokens['admin']}"),
        *("--max-examples", str(CASES), "--generation-database", "none"),
        # A stream of events has no end that could be waited for.
        *("--exclude-path", "/v1/watch", "--warnings", "off"),
    ]

    ended = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=170, cwd=tmp_path
    )

    assert ended.returncode == 0, ended.stdout[-10_000:] + ended.stderr
    tested = len(plane.commands) + sum(entry.effect is Effect.READ for entry in plane.commands)
    assert f"Tested: {tested}" in ended.stdout
    assert "Traceback" not in caplog.text

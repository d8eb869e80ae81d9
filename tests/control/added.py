"""Commands as an application adds them."""

from __future__ import annotations

import threading

from pydantic import Field, SecretStr

from ninelives_control.command import Context, Effect, command
from ninelives_control.errors import Code, CommandError
from ninelives_control.model import Arguments, IdempotencyKey, Result

SECRET = "the password is swordfish"


class Note(Arguments):
    """What to do."""

    text: str = Field(default="", description="Whatever.")
    password: SecretStr | None = Field(default=None, description="For nobody to see.")
    idempotency_key: IdempotencyKey = ""


class Noted(Result):
    """What was done."""

    text: str = Field(description="Whatever.")
    by: str = Field(description="Who did it.")


class Moved(Result):
    """What was moved."""

    old: int = Field(description="From where.")
    new: int = Field(description="To where.")


@command(Effect.CHANGE)
def note(arguments: Note, context: Context) -> Noted:
    """Do what an application wants done."""
    return Noted(text=arguments.text, by=context.identity.name)


@command(Effect.CHANGE)
def move(arguments: Note, context: Context) -> Moved:
    """Move something."""
    return Moved(old=1, new=2)


@command(Effect.DESTRUCTIVE)
def erase(arguments: Note, context: Context) -> Noted:
    """Erase all of it."""
    return Noted(text="gone", by=context.identity.name)


@command(Effect.CHANGE)
def stumble(arguments: Note, context: Context) -> Noted:
    """Fail as nobody foresaw."""
    raise RuntimeError(SECRET)


@command(Effect.READ)
def stumble_reading(arguments: Note, context: Context) -> Noted:
    """Fail as nobody foresaw, while reading."""
    raise RuntimeError(SECRET)


@command(Effect.CHANGE)
def mistake(arguments: Note, context: Context) -> Noted:
    """Return something else than was declared."""
    return Moved(old=1, new=2)


@command(Effect.CHANGE)
def decline(arguments: Note, context: Context) -> Noted:
    """Say no, in words of its own."""
    raise CommandError(Code.UNAVAILABLE, "come back tomorrow")


ALL = (note, move, erase, stumble, stumble_reading, mistake, decline)


def blocking() -> tuple[threading.Event, threading.Event, object]:
    """Return a command that runs until it is told, with what says so and what tells."""
    running, end = threading.Event(), threading.Event()

    @command(Effect.CHANGE)
    def hold(arguments: Note, context: Context) -> Noted:
        """Run until told."""
        running.set()
        end.wait()
        return Noted(text="held", by=context.identity.name)

    return running, end, hold

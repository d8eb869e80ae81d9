"""Have a flight recorder write a copy of its file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from ninelives_control.command import Command, Context, Effect
from ninelives_control.errors import Code, CommandError
from ninelives_control.model import Arguments, Result, Text

if TYPE_CHECKING:
    from ninelives_grpc.flight_recorder import FlightRecorder


class DumpFlightRecorder(Arguments):
    """Why a copy is to be made."""

    reason: Text = Field(default="", description="Why, for the audit.")


class Dumped(Result):
    """A copy that was made."""

    path: str = Field(description="Where it is, on the machine of the process.")


def dump_command(recorder: FlightRecorder) -> Command[DumpFlightRecorder, Dumped]:
    """Return the command for a recorder; a control plane has it that was given one."""

    def dump(_arguments: DumpFlightRecorder, _context: Context) -> Dumped:
        try:
            return Dumped(path=str(recorder.dump()))
        except OSError as error:
            message = f"{recorder.path} can not be copied: {error.strerror}"
            raise CommandError(Code.UNAVAILABLE, message) from None

    return Command(
        name="dump_flight_recorder",
        summary="Copy the flight recorder's file: the last events, and the state of all stacks.",
        effect=Effect.CHANGE,
        arguments=DumpFlightRecorder,
        result=Dumped,
        handler=dump,
    )

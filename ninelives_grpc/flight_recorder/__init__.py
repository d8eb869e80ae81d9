"""The last events and the state of every stack, in a file that outlives a crash."""

from ninelives_grpc.flight_recorder.reader import Recorded, Recording, read
from ninelives_grpc.flight_recorder.recorder import FlightRecorder

__all__ = ["FlightRecorder", "Recorded", "Recording", "read"]

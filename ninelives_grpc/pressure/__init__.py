"""How hard pressed the process is: a sensor for each thing that can run out."""

from ninelives_grpc.pressure.cpu import Cpu
from ninelives_grpc.pressure.loop_lag import LoopLag
from ninelives_grpc.pressure.memory import Memory
from ninelives_grpc.pressure.pool_queue import PoolQueue
from ninelives_grpc.pressure.sensor import Sensor
from ninelives_grpc.pressure.stall import Stall

__all__ = ["Cpu", "LoopLag", "Memory", "PoolQueue", "Sensor", "Stall"]

"""An interpreter of PTX, the assembly language of NVIDIA's GPUs, for tests: see README.md."""

from .counts import Counts, Traffic
from .device import InterpretedDevice, Launch, interpreted
from .errors import PtxError
from .memory import Memory, Region
from .program import Program
from .resources import Resources, resources
from .run import run

__all__ = [
    "Counts",
    "InterpretedDevice",
    "Launch",
    "Memory",
    "Program",
    "PtxError",
    "Region",
    "Resources",
    "Traffic",
    "interpreted",
    "resources",
    "run",
]

"""Learning-rate schedules: the rate as a function of the step, in numbers of the host.

An optimizer takes one in place of a number. Step 0 is the first. A schedule over the whole run (``steps`` left out) is
told the number of all steps by the trainer.
"""

from xpnet.schedules.decays import CosineDecay, ExponentialDecay, LinearDecay, OneCycle, StepDecay
from xpnet.schedules.plateau import ReduceOnPlateau
from xpnet.schedules.schedule import ConstantRate, Schedule, as_schedule
from xpnet.schedules.warmup import Warmup

__all__ = [
    "ConstantRate",
    "CosineDecay",
    "ExponentialDecay",
    "LinearDecay",
    "OneCycle",
    "ReduceOnPlateau",
    "Schedule",
    "StepDecay",
    "Warmup",
    "as_schedule",
]

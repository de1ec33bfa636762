"""Learning-rate schedules: the rate as a function of the step, computed on the host.

An optimizer takes a schedule in place of a number. Steps count from 0. A schedule without ``steps`` spans the run; the
trainer gives it the total number of steps.
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

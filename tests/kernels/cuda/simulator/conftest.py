"""The simulator gives every GPU thread a Python thread and polls them all: hand over sooner than every 5 ms."""

from __future__ import annotations

import sys

sys.setswitchinterval(1e-4)

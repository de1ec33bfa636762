"""Parity of backends: do they compute the same, layer by layer, within the bounds of rounding?"""

from xpnet.parity.comparison import Drift, Parity, Row, compare, compare_recipe

__all__ = ["Drift", "Parity", "Row", "compare", "compare_recipe"]

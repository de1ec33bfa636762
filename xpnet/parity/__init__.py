"""Do two backends compute the same? Layer by layer, as far as rounding allows."""

from xpnet.parity.comparison import Drift, Parity, Row, compare, compare_recipe

__all__ = ["Drift", "Parity", "Row", "compare", "compare_recipe"]

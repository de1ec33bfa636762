"""Checks of a kernel's arguments, in Python (with error messages) and in compiled code (for short calls)."""

"""The error of everything here."""

from __future__ import annotations


class PtxError(Exception):
    """What a GPU would not survive or what is undefined there, or an instruction that the interpreter lacks."""

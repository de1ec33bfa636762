"""SIGINT (Control-C) and SIGTERM (of a scheduler): the first ends a command in good order, a second one at once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A signal ended the command; ``status`` is 128 plus its number, as in shells: 130 or 143."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.status = 128 + number


def interrupt(number: int) -> None:
    """Raise Interrupted."""
    name = signal.Signals(number).name
    raise Interrupted(number, f"stopped by {name} before there was anything to save: run the same command again")


@contextmanager
def handling(react: Callable[[int], None]) -> Iterator[None]:
    """A context in which the first signal calls ``react`` with its number, and a second one ends the process at once.

    A signal that the process was started to ignore (``nohup``, ``&`` in a script) stays ignored. On exit the previous
    handlers are restored.
    """
    previous = {number: signal.getsignal(number) for number in SIGNALS}
    handled = [number for number in SIGNALS if previous[number] is not signal.SIG_IGN]

    def handle(number: int, _: object) -> None:
        for each in handled:
            signal.signal(each, signal.SIG_DFL)
        react(number)

    try:
        for number in handled:
            signal.signal(number, handle)
        yield
    finally:
        for number in handled:
            signal.signal(number, previous[number])

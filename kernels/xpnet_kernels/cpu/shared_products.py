"""Matrix products divided among a few threads that look out for work, for a short while, without sleeping.

Waking a core that sleeps takes as long as a small product. So a thread that has been woken stays in compiled code after
its part, where it needs no interpreter's lock, and begins with the next one a fraction of a microsecond after it was
posted. When none comes for a millisecond or two, it sleeps.

Each thread has a word that says what it does, and a task. The word changes by atomic exchanges, so any number of
callers may come at once. One that finds no thread waiting computes alone; when it is done with its own part, it takes
back what a thread has not begun. An element of a product is the same however the product is divided.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from xpnet_kernels.cpu.atomics import cycles, exchange_word, increment_word, load_word, pause, store_word
from xpnet_kernels.cpu.compilation import ARITHMETIC, OutIntegers, kernel
from xpnet_kernels.cpu.panels import product
from xpnet_kernels.cpu.product_tasks import TASK_WORDS, compute_task, write_task
from xpnet_kernels.cpu.register_tiles import MOST_VECTORS, TILE_ROWS
from xpnet_kernels.cpu.vectors import LANES

# What a thread does. A caller takes one that waits, posts a task, and may take it back until the thread works at it.
# To the last two a multiple of 8 is added, a new one for each product, lest a caller take another's task for its own.
ASLEEP, WAITING, TAKEN, POSTED, WORKING = range(5)

# Of a thread: two cache lines for its word, two for its task, for processors fetch lines by twos. As many at the end:
# the moment, in cycles, before which no work is shared, and the number of products so far.
THREAD_WORDS = 32
_TASK = THREAD_WORDS - TASK_WORDS
_PRODUCTS = THREAD_WORDS // 2

# In multiplications: some tens of microseconds of one thread. What less work gains by being shared is lost again where
# the result is read, from another core's cache; and on a machine that does anything else, sharing it is slower.
_LEAST_WORK = 2**23
# In cycles, of which a microsecond has two to four thousand.
_PATIENCE = 2**22
_REST = 2**24
_LONG_REST = 2**28
_TARDINESS = 2**17


@njit(**ARITHMETIC)
def shared_product(words: Any, A: Any, B: Any, transposed: bool, C: Any) -> bool:
    """As :func:`product`; whether there are threads that would have helped, but sleep."""
    (rows, columns), terms, rest = C.shape, A.shape[1], words.size - THREAD_WORDS
    began = cycles()
    if rows * columns * terms < _LEAST_WORK or began < load_word(words, rest):
        product(A, B, transposed, C)
        return False
    taken, parts, asleep = 0, 1, False
    for start in range(0, rest, THREAD_WORDS):
        if exchange_word(words, start, WAITING, TAKEN):
            taken |= 1 << start // THREAD_WORDS
            parts += 1
        elif load_word(words, start) == ASLEEP:
            asleep = True
    # Columns are packed by who computes them; rows are divided where there are too few columns, which all then pack.
    panel = MOST_VECTORS * LANES
    by_columns = columns >= 2 * panel * parts
    length, unit = (columns, panel) if by_columns else (rows, _tile_rows(columns))
    units, part, ticket = -(-length // unit), 0, 8 * increment_word(words, rest + _PRODUCTS) if taken else 0
    for start in range(0, rest, THREAD_WORDS):
        if taken >> start // THREAD_WORDS & 1:
            part += 1
            first, last = unit * (units * part // parts), min(unit * (units * (part + 1) // parts), length)
            task = words[start + _TASK : start + THREAD_WORDS]
            if by_columns:
                write_task(task, A, B[first:last] if transposed else B[:, first:last], transposed, C[:, first:last])
            else:
                write_task(task, A[first:last], B, transposed, C[first:last])
            store_word(words, start, POSTED + ticket)
    end = min(unit * (units // parts), length)
    if by_columns:
        product(A, B[:end] if transposed else B[:, :end], transposed, C[:, :end])
    else:
        product(A[:end], B, transposed, C[:end])
    _collect(words, taken, ticket, began)
    return asleep


@njit(**ARITHMETIC)
def _tile_rows(columns: int) -> int:
    vectors = min(-(-columns // LANES), MOST_VECTORS)
    return TILE_ROWS[vectors]


@njit(**ARITHMETIC)
def _collect(words: Any, taken: int, ticket: int, began: int) -> None:
    """See that every part is done. Where a thread's core has other work, so that we would wait for it, have a rest."""
    ready, rest = cycles(), words.size - THREAD_WORDS
    resting = 0
    for start in range(0, rest, THREAD_WORDS):
        if taken >> start // THREAD_WORDS & 1:
            if exchange_word(words, start, POSTED + ticket, TAKEN):
                compute_task(words[start + _TASK : start + THREAD_WORDS])
                store_word(words, start, WAITING)
                resting = _REST
            while load_word(words, start) == WORKING + ticket:
                pause()
    waited = cycles() - ready
    if waited > ready - began + _TARDINESS:
        resting = max(resting, waited)
    if resting > 0:
        store_word(words, rest, cycles() + resting)


@kernel
def serve(words: OutIntegers, start: int) -> None:
    """Do what is posted for the thread whose words begin there, until there is nothing for a while, or a rest."""
    rest, task = words.size - THREAD_WORDS, words[start + _TASK : start + THREAD_WORDS]
    since = cycles()
    store_word(words, start, WAITING)
    while True:
        posted = load_word(words, start)
        if posted & 7 == POSTED and exchange_word(words, start, posted, posted - POSTED + WORKING):
            compute_task(task)
            store_word(words, start, WAITING)
            since = cycles()
        now = cycles()
        idle = now - since > _PATIENCE or now < load_word(words, rest)
        if idle and exchange_word(words, start, WAITING, ASLEEP):
            return
        pause()


@kernel
def have_a_rest(words: OutIntegers) -> None:
    """Share no work for about a tenth of a second, as long as OpenBLAS's threads spin, and let the threads sleep."""
    store_word(words, words.size - THREAD_WORDS, cycles() + _LONG_REST)

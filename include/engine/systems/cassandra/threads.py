"""Work on many nodes or files at the same time, as far as the machine and the nodes bear it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

NODES_AT_ONCE = 32

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(
    work: Callable[[Item], Result], items: Sequence[Item], *, at_once: int = NODES_AT_ONCE
) -> list[Result]:
    """Do *work* for all *items*, several at a time, and give the results in order.

    The first error comes through as soon as it happens; what has not begun by then does not begin.
    """
    if not items:
        return []
    with ThreadPoolExecutor(min(len(items), at_once), thread_name_prefix="cassandra") as pool:
        futures = [pool.submit(work, item) for item in items]
        done, rest = wait(futures, return_when=FIRST_EXCEPTION)
        for future in rest:
            future.cancel()
        for future in done:
            if not future.cancelled():
                future.result()
    return [future.result() for future in futures]

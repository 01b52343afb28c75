"""Work on many nodes or files at the same time, as far as the machine and the nodes bear it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

from include.engine.contracts import Stop
from include.engine.errors import Interrupted, MainstayError

NODES_AT_ONCE = 32

Item = TypeVar("Item")
Result = TypeVar("Result")


def linked(stop: Stop) -> Stop:
    """Give a stop of its own that also comes when *stop* does: for work that ends together."""
    own = Stop()
    stop.on_stop(lambda: own.stop(stop.reason))
    return own


def side_by_side(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    at_once: int = NODES_AT_ONCE,
    stop: Stop | None = None,
) -> list[Result]:
    """Do *work* for all *items*, several at a time, and give the results in order.

    After the first error nothing begins any more.  What runs by then is waited for, then that error is raised.

    :param stop: what all of them look at (:func:`linked`); pulled at the first error, so that it is not hours until they end
    """
    if not items:
        return []
    with ThreadPoolExecutor(min(len(items), at_once), thread_name_prefix="cassandra") as pool:
        futures = [pool.submit(work, item) for item in items]
        done, rest = wait(futures, return_when=FIRST_EXCEPTION)
        for future in rest:
            future.cancel()
        first = next((error for future in done if (error := future.exception()) is not None), None)
        if stop is not None and first is not None:
            stop.stop(f"another one failed: {first.message if isinstance(first, MainstayError) else first}")
    errors = [error for future in futures if not future.cancelled() and (error := future.exception()) is not None]
    if errors:
        # Who was stopped because of another's error has nothing to tell.
        raise next((error for error in errors if not isinstance(error, Interrupted)), errors[0])
    return [future.result() for future in futures]

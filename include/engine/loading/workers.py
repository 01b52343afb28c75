"""The generator: as many processes as it takes, started together, and what they recorded as one."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from include.engine.contracts import Progress, Stop
from include.engine.errors import MainstayError
from include.engine.loading.contracts import CPU_SHARE, LOAD_BEFORE, CutShort, LoadRun, Measured, Worker
from include.engine.loading.distribution import encoded
from include.engine.loading.process import Process
from include.engine.loading.recording import Recording, step_of
from include.engine.loading.schedule import SECOND, Schedule
from include.engine.loading.worker import Order
from include.engine.model import GeneratorLimit

_LEAD = 0.15  # seconds between the order to begin and the first operation
_MOST_INTERVALS = 600
_MORE_THAN_CAN_BE = 1_000_000.0  # operations per second of one Python
_TRIED_AT = 200.0  # operations per second, at most: enough to tell their cost, and little for any target
_LEAST_SHARE = 0.001  # of a processor: less cannot be told from nothing


def interval_of(schedule: Schedule) -> int:
    """Give how long an interval of the series is: a second, or more when the test is long; a quarter when it is short."""
    if schedule.seconds < 20:
        return SECOND // 4
    return SECOND * max(1, -(-int(schedule.seconds) // _MOST_INTERVALS))


def generate(
    worker: Worker,
    schedule: Schedule,
    *,
    processes: int,
    bound: int,
    grace: float,
    stop: Stop,
    progress: Progress | None = None,
    patience: float = 60.0,
    most: float | None = None,
) -> Measured:
    """Keep *schedule* with *processes* processes.

    :param bound: operations in flight at the same time, over all processes
    :param grace: seconds after the schedule's end in which answers still count
    :param patience: seconds that a process may take to reach the target, or to end
    :param most: operations that may be sent in any second, over all processes, also to make up for a stall
    :raises Interrupted: when it was asked to stop: :class:`CutShort` once something was measured after the warm-up
    :raises MainstayError: when a process could not reach the target, or died
    """
    orders = _orders(worker, schedule, processes=processes, bound=bound, grace=grace, most=most)
    with _at_work(orders, stop) as children:
        begin = _begin_together(children, patience)
        total, cpu = _heard_out(children, schedule.seconds + grace + patience, progress)
    lasted = (time.monotonic_ns() - begin) / SECOND
    if not stop.stopped:
        return _measured(total, schedule, processes=processes, cpu=cpu)
    if lasted < schedule.warm_up + 2 * total.interval / SECOND:
        stop.check()
    raise CutShort(_measured(total, schedule.until(min(lasted, schedule.seconds)), processes=processes, cpu=cpu))


def limit_of(worker: Worker, *, bound: int, processes: int, stop: Stop, how: str) -> GeneratorLimit:
    """Measure what the generator can do with *worker*, all processes at once: they are told to do more than they can.

    :param how: what the operations are sent to, in words
    """
    schedule = Schedule.steady(processes * _MORE_THAN_CAN_BE, 0.75, warm_up=0.25)
    measured = generate(worker, schedule, processes=processes, bound=bound, grace=0.0, stop=stop)
    return GeneratorLimit(rate=measured.step.achieved_rate / processes, processes=processes, how=how)


def trial_of(rate: float) -> Schedule:
    """Give the schedule by which the generator is tried on the target itself before a load of *rate*."""
    return Schedule.steady(min(rate, _TRIED_AT), 1.0, warm_up=0.25)


def limit_by_cost(worker: Worker, rate: float, run: LoadRun, *, bound: int, client: str) -> GeneratorLimit:
    """Work out what one process can do, from the processor time that each operation of a short trial costs it.

    For clients that need the target itself to do anything: to find their limit by reaching it would be the load.

    :param rate: of the load that comes; the trial's is no higher
    :param client: what the operations are made with, in words
    """
    trial = trial_of(rate)
    step = generate(worker, trial, processes=1, bound=bound, grace=0.0, stop=run.stop, most=run.most).step
    share = max(step.figures[CPU_SHARE], _LEAST_SHARE)
    how = f"by the processor time of {trial.operations} operations of {client}, {share:.1%} of one"
    # What was sent has cost, answered in this second or not.
    return GeneratorLimit(rate=step.target_rate / share, processes=run.processes, how=how, by_cost=True)


def machine() -> dict[str, str]:
    """Say on what the generator runs."""
    return {
        "generator on": f"{os.cpu_count()} processors, {platform.machine()}",
        LOAD_BEFORE: f"{os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
    }


def _orders(
    worker: Worker, schedule: Schedule, *, processes: int, bound: int, grace: float, most: float | None
) -> Sequence[Order]:
    return [
        Order(
            module=worker.module,
            parameters=worker.parameters,
            stages=schedule.stages,
            warm_up=schedule.warm_up,
            part=part,
            of=processes,
            bound=max(1, bound // processes),
            grace=grace,
            interval=interval_of(schedule),
            most=None if most is None else math.ceil(most / processes),
        )
        for part in range(processes)
    ]


@contextmanager
def _at_work(orders: Sequence[Order], stop: Stop) -> Iterator[Sequence[Process]]:
    """Give a process for each order; all of them have ended when the context has, whatever has ended it."""
    children: list[Process] = []

    def end_them() -> None:
        for child in children:
            child.stop()

    try:
        children.extend(map(Process, orders))  # those that were there when one could not be started end, too
        stop.on_stop(end_them)
        yield children
    except MainstayError:
        stop.check()
        raise
    finally:
        for child in children:
            child.end()


def _begin_together(children: Sequence[Process], patience: float) -> int:
    for child in children:
        child.expect("ready", patience)
    begin = time.monotonic_ns() + int(_LEAD * SECOND)
    for child in children:
        child.send({"begin": begin})
    return begin


def _heard_out(children: Sequence[Process], patience: float, progress: Progress | None) -> tuple[Recording, float]:
    """Give what all have recorded, as one, and the processor share of the busiest."""
    total: Recording | None = None
    cpu = 0.0
    for child in children:
        ended = child.expect("recording", patience, progress)
        recording = Recording.of_frame(ended["recording"])
        if total is None:
            total = recording
        else:
            total.merge(recording)
        cpu = max(cpu, ended["cpu"] / max(ended["ran"], 1e-3))
    assert total is not None  # there is always one process
    return total, cpu


def _measured(total: Recording, schedule: Schedule, *, processes: int, cpu: float) -> Measured:
    figures = {CPU_SHARE: round(cpu, 3), "last_answer_seconds": round(total.last / SECOND, 3)}
    step = step_of(total, schedule, processes=processes, figures=figures)
    kept = {"from_intended": total.intended, "from_sent": total.sent}
    histograms = {name: encoded(total.distribution(which, step.warm_up_seconds)) for name, which in kept.items()}
    return Measured(step=step, histograms=histograms)

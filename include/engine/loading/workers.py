"""The generator: as many processes as it takes, started together, and what they recorded as one.

They are fresh Pythons, so that a client that crashes takes a process with it and not the caller, and so that none of them
shares an interpreter's lock with the others.
"""

from __future__ import annotations

import math
import os
import platform
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

import msgspec

from include.engine import errors
from include.engine.contracts import Progress, Stop
from include.engine.errors import TransientError, Unreachable
from include.engine.loading.contracts import CPU_SHARE, LOAD_BEFORE, CutShort, Measured, Worker
from include.engine.loading.distribution import encoded
from include.engine.loading.recording import Recording, step_of
from include.engine.loading.schedule import SECOND, Schedule
from include.engine.loading.worker import Order, hear, tell
from include.engine.model import GeneratorLimit

_ROOT = Path(__file__).resolve().parents[3]
_LEAD = 0.15  # seconds between the order to begin and the first operation
_MOST_INTERVALS = 600
_MORE_THAN_CAN_BE = 1_000_000.0  # operations per second of one Python
_LAST_WORDS = 15
_LAST_MOMENT = 1.0  # seconds: production may suffer meanwhile, but nothing is sent any more


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
    interval = interval_of(schedule)
    orders = [
        Order(
            module=worker.module,
            parameters=worker.parameters,
            stages=schedule.stages,
            warm_up=schedule.warm_up,
            part=part,
            of=processes,
            bound=max(1, bound // processes),
            grace=grace,
            interval=interval,
            most=None if most is None else math.ceil(most / processes),
        )
        for part in range(processes)
    ]
    children = [_Process(order) for order in orders]

    def end_them() -> None:
        for child in children:
            child.stop()

    stop.on_stop(end_them)
    try:
        for child in children:
            child.expect("ready", patience)
        begin = time.monotonic_ns() + int(_LEAD * SECOND)
        for child in children:
            child.send({"begin": begin})
        total = Recording(interval)
        cpu = 0.0
        for child in children:
            ended = child.expect("recording", schedule.seconds + grace + patience, progress)
            total.merge(Recording.of_frame(ended["recording"]))
            cpu = max(cpu, ended["cpu"] / max(ended["ran"], 1e-3))
    except errors.MainstayError:
        stop.check()
        raise
    finally:
        for child in children:
            child.end()
    lasted = (time.monotonic_ns() - begin) / SECOND
    if stop.stopped:
        if lasted < schedule.warm_up + 2 * interval / SECOND:
            stop.check()
        schedule = schedule.until(min(lasted, schedule.seconds))
    figures = {
        CPU_SHARE: round(cpu, 3),
        "last_answer_seconds": round(total.last / SECOND, 3),
    }
    step = step_of(total, schedule, processes=processes, figures=figures)
    kept = {"from_intended": total.intended, "from_sent": total.sent}
    histograms = {name: encoded(total.distribution(which, step.warm_up_seconds)) for name, which in kept.items()}
    measured = Measured(step=step, histograms=histograms)
    if stop.stopped:
        raise CutShort(measured)
    return measured


def limit_of(worker: Worker, *, bound: int, processes: int, how: str) -> GeneratorLimit:
    """Measure what the generator can do with *worker*, all processes at once: they are told to do more than they can.

    :param how: what the operations are sent to, in words
    """
    schedule = Schedule.steady(processes * _MORE_THAN_CAN_BE, 0.75, warm_up=0.25)
    measured = generate(worker, schedule, processes=processes, bound=bound, grace=0.0, stop=Stop())
    return GeneratorLimit(rate=measured.step.achieved_rate / processes, processes=processes, how=how)


def machine() -> dict[str, str]:
    """Say on what the generator runs."""
    return {
        "generator on": f"{os.cpu_count()} processors, {platform.machine()}",
        LOAD_BEFORE: f"{os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
    }


class _Process:
    def __init__(self, order: Order) -> None:
        self._stuck = False
        self._said: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "include.engine.loading.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": f"{_ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
            start_new_session=True,  # a Ctrl-C is for the parent, which stops its children in good order
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self.send(msgspec.to_builtins(order))

    def send(self, frame: dict[str, Any]) -> None:
        try:
            tell(self._pipe("stdin"), frame)
        except (BrokenPipeError, ValueError) as error:
            raise self._death() from error

    def expect(self, wanted: str, patience: float, progress: Progress | None = None) -> dict[str, Any]:
        timer = threading.Timer(patience, self._give_up)
        timer.daemon = True
        timer.start()
        try:
            while True:
                frame = hear(self._pipe("stdout"))
                if frame is None:
                    raise self._death()
                if "error" in frame:
                    told = frame["error"]
                    raise getattr(errors, told["kind"], TransientError)(told["message"], hint=told["hint"])
                if wanted in frame:
                    return frame
                if progress is not None and "completed" in frame:
                    progress.say(f"{frame['completed']} answered, {frame['errors']} errors")
        finally:
            timer.cancel()

    def stop(self) -> None:
        """Ask it for what it has recorded, and give it a moment for that."""
        try:
            self.send({"stop": True})
        except errors.MainstayError:
            return  # it has ended
        timer = threading.Timer(_LAST_MOMENT, self.kill)
        timer.daemon = True
        timer.start()

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()

    def end(self) -> None:
        for name in ("stdin", "stdout"):
            try:
                self._pipe(name).close()
            except (BrokenPipeError, ValueError):
                continue
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
        self._listener.join(timeout=5)

    def _pipe(self, name: str) -> IO[bytes]:
        stream: IO[bytes] = getattr(self._process, name)
        return stream

    def _give_up(self) -> None:
        self._stuck = True
        self.kill()

    def _listen(self) -> None:
        with self._pipe("stderr") as stream:
            for line in stream:
                self._said.append(line.decode(errors="replace").rstrip())
                del self._said[:-_LAST_WORDS]

    def _death(self) -> errors.MainstayError:
        if self._stuck:
            return Unreachable(
                "a process of the load generator gave no sign of life and was killed",
                hint="check that the target answers, and run it again",
            )
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.kill()
            code = self._process.wait()
        self._listener.join(timeout=5)
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        last = self._said[-1] if self._said else "it said nothing"
        return TransientError(f"a process of the load generator ended {how}: {last}", hint="run it again")

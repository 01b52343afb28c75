"""What the verb ``stream`` asks of a system that can run a job from a log to tables, and keep it running."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from msgspec import Struct

from include.engine.contracts import Clock


class Life(StrEnum):
    """What the engine says of the application.  None of these says that it works: hung ones and crash loops run as well."""

    ABSENT = "absent"
    STARTING = "starting"
    RUNNING = "running"


class FlowSeen(Struct, frozen=True, kw_only=True):
    """How far one flow is, read from the log, so that it is known of a dead job too.

    :param position: what was done so far, as one number that only grows while the job works
    :param behind: records that wait
    :param seconds: age of the oldest record that waits; 0 when none does
    :param lost: records that retention deleted before they were read
    :param batch: number of the last batch whose figures are known
    """

    name: str
    topic: str
    position: int
    behind: int
    seconds: float
    lost: int = 0
    batch: int | None = None
    batch_seconds: float | None = None
    input_rate: float | None = None  # records a second
    processed_rate: float | None = None
    state_bytes: int | None = None
    dead_letters: int | None = None  # since the driver was started
    at: float | None = None  # when the last batch was committed, in seconds since the epoch


class StreamSeen(Struct, frozen=True, kw_only=True):
    """A job as it is now: what its engine, the log and the notes beside its checkpoint say."""

    job: str
    at: float  # seconds since the epoch, like all times here
    wish: str = "run"  # run, stop or drain: what a person said last
    wish_at: float = 0.0
    wish_reason: str = ""
    wish_by: str = ""
    paged: float = 0.0  # when a person was called about it as it is now; 0 when nobody was, or has said something since
    generation: int = 0  # number of the newest launch; 0 before the first
    life: Life = Life.ABSENT
    launched: float | None = None
    begun: bool = False  # whether that launch has read its checkpoint and started its queries
    end: str = ""  # in the launch's own words; empty when it runs, or was killed
    end_reason: str = ""
    ended: float | None = None
    launches: tuple[float, ...] = ()  # of the last hour
    flows: tuple[FlowSeen, ...] = ()
    unread: str = ""  # why nothing is known of its flows, when only a person can mend that: a topic is not there

    @property
    def position(self) -> int:
        """What all flows have done, as one number.  Whether each of them moves, it does not say."""
        return sum(flow.position for flow in self.flows)

    @property
    def behind(self) -> int:
        """Records that wait, of all flows."""
        return sum(flow.behind for flow in self.flows)

    @property
    def seconds(self) -> float:
        """Age of the oldest record that waits."""
        return max((flow.seconds for flow in self.flows), default=0.0)


class StreamPolicy(Struct, frozen=True, kw_only=True):
    """What was agreed for a job."""

    stalled_after: float  # seconds
    restarts: int  # an hour


class StreamJob(Protocol):
    """A declared streaming job.  In ``systems/<system>/stream.py``."""

    name: str
    policy: StreamPolicy

    def look(self, clock: Clock) -> StreamSeen:
        """Say how it is.

        :raises Unreachable: when engine, log or checkpoint do not answer: nothing is known then, and nothing may be done
        """
        ...

    def launch(self, *, after: int | None = None, reason: str, clock: Clock) -> str:
        """Launch it, and give the application's name.  Of several who do this at once, one does.

        :param after: the launch that was seen when this was decided, 0 for none; a newer one means that somebody else has done
            it.  The newest of all when nothing was decided by a look
        :raises Contended: when somebody else launches it, or has launched it since
        :raises Corrupt: when its checkpoint is damaged
        :raises Refused: when its checkpoint is about something else
        """
        ...

    def end(self, *, launch: int | None = None, kill: bool = False) -> None:
        """End a launch, the newest of all unless one is named, and return when it is gone."""
        ...

    def say(self, action: str, *, reason: str, by: str, clock: Clock) -> None:
        """Note what a person wishes: ``run``, ``stop`` or ``drain``.  It holds until another wish."""
        ...

    def call(self, seen: StreamSeen, why: str, clock: Clock) -> None:
        """Note that a person is called about *seen*: whoever looks next need not call again.

        :raises TransientError: when it could not be noted
        """
        ...

    def logs(self) -> str:
        """Give the last lines of what the newest launch said."""
        ...

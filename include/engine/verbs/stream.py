"""Stream: keep a streaming job running.  Look, decide, act; the decision is pure, and progress counts in it, not state.

Airflow waits between two looks in a trigger; the shell runs :func:`keep`, which waits here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from enum import StrEnum

from msgspec import Struct

from include.engine.contracts import Clock, Progress, Stop
from include.engine.errors import Contended, Misconfigured, PermanentError, TransientError
from include.engine.streaming import FlowSeen, Life, StreamJob, StreamPolicy, StreamSeen

BACK_OFF = (10.0, 30.0, 120.0, 300.0, 600.0)  # seconds before the second launch in an hour, the third …
WISHES = ("run", "stop", "drain")
MINIMUM_REASON = 10  # characters

# What no restart mends, and what a person looks for.
HOPELESS = {
    "lost": "retention deleted records before the job has read them",
    "damaged": "its checkpoint is damaged",
    "recreated": "a topic was deleted and made again",
    "table": "a table does not fit its flow",
    "unrepeatable": "a replay would write other keys",
}
_LOOK_EVERY = 2.0  # seconds
_BEGINS_WITHIN = 300.0  # seconds that a driver may take until its queries run: slow machines take a minute
_STOPS_WITHIN = 120.0  # seconds that a job may take to see that it is to stop
_HOUR = 3600.0


class Act(StrEnum):
    """What is to be done with a job now."""

    KEEP = "keep"  # nothing: it runs, rests because a person wished it, or waits for its back-off
    LAUNCH = "launch"
    RESTART = "restart"  # end it, and launch it
    END = "end"  # a person wished it, and it did not listen
    PAGE = "page"


class Decision(Struct, frozen=True, kw_only=True):
    """What is to be done, and why."""

    act: Act
    why: str

    def waits(self, seen: StreamSeen) -> bool:
        """Whether there is nothing to do but to look again: also when a person was called, and nothing has changed since.

        What nobody but the launch itself can know is tried again now and then.
        """
        if self.act is Act.KEEP or not seen.paged:
            return self.act is Act.KEEP
        return self.act is Act.PAGE or seen.at - seen.paged < BACK_OFF[-1]


class Stood(Struct, frozen=True, kw_only=True):
    """How far one flow was, and when that last changed."""

    position: int
    moved: float  # seconds since the epoch


class Watched(Struct, frozen=True, kw_only=True):
    """What a watcher remembers between two looks, of each flow: one that hangs is not hidden by another that moves."""

    flows: Mapping[str, Stood] = {}

    def after(self, seen: StreamSeen) -> Watched:
        """Give what is remembered after another look.  Having nothing to do counts as moving."""
        return Watched(flows={flow.name: self._after(flow, seen.at) for flow in seen.flows})

    def hung(self, seen: StreamSeen) -> tuple[FlowSeen, float] | None:
        """Give the flow with a backlog that has stood for the longest, and for how many seconds; None when none has one."""
        begun = seen.launched or 0.0
        stood = [
            (flow, seen.at - max(self.flows[flow.name].moved if flow.name in self.flows else seen.at, begun))
            for flow in seen.flows
            if flow.behind
        ]
        return max(stood, key=lambda one: one[1], default=None)

    def _after(self, flow: FlowSeen, at: float) -> Stood:
        known = self.flows.get(flow.name)
        stands = known is not None and flow.position == known.position and flow.behind > 0
        return known if known is not None and stands else Stood(position=flow.position, moved=at)


def decide(seen: StreamSeen, watched: Watched, policy: StreamPolicy) -> Decision:
    """Decide what to do with a job.  Pure.

    :param watched: with *seen* in it already
    """
    if seen.wish != "run":
        return _resting(seen)
    if seen.unread:
        return Decision(act=Act.PAGE, why=f"nobody knows how far it is: {seen.unread}")
    if seen.life is Life.ABSENT:
        return _absent(seen, policy)
    launched = seen.launched or 0.0
    if not seen.begun:
        if seen.at - launched > max(_BEGINS_WITHIN, policy.stalled_after):
            return _again(seen, policy, Act.RESTART, f"it has not begun within {seen.at - launched:.0f} s")
        return Decision(act=Act.KEEP, why="it is starting")
    hung = watched.hung(seen)
    if hung is not None and hung[1] > policy.stalled_after:
        flow, stood = hung
        why = f"{flow.name} has not moved for {stood:.0f} s, and {flow.behind} of its records wait"
        return _again(seen, policy, Act.RESTART, why)
    return Decision(act=Act.KEEP, why=f"{seen.behind} records wait, the oldest for {seen.seconds:.1f} s")


def wait_before(launches: tuple[float, ...], policy: StreamPolicy) -> float | None:
    """Give how long to wait after the last of *launches*, those of the last hour; None when there were too many.  Pure."""
    if not launches:
        return 0.0
    if len(launches) > policy.restarts:
        return None
    return BACK_OFF[min(len(launches), len(BACK_OFF)) - 1]


def _resting(seen: StreamSeen) -> Decision:
    if seen.life is Life.ABSENT:
        return Decision(act=Act.KEEP, why=f"it rests: a person wished {seen.wish}: {seen.wish_reason}")
    waited = seen.at - seen.wish_at
    if seen.wish == "stop" and waited > _STOPS_WITHIN:
        return Decision(act=Act.END, why=f"it did not stop by itself within {waited:.0f} s")
    return Decision(act=Act.KEEP, why=f"it is to {seen.wish} since {waited:.0f} s")


def _absent(seen: StreamSeen, policy: StreamPolicy) -> Decision:
    # What a person says afterwards counts more: they have mended it.
    mended = seen.wish_at > (seen.ended or 0.0)
    if seen.end in HOPELESS and not mended:
        return Decision(act=Act.PAGE, why=f"{HOPELESS[seen.end]}: {seen.end_reason}")
    if seen.generation == 0:
        return Decision(act=Act.LAUNCH, why="it was never launched")
    how = f"it ended ({seen.end}: {seen.end_reason})" if seen.end else "it is gone without a word"
    return _again(seen, policy, Act.LAUNCH, how)


def _again(seen: StreamSeen, policy: StreamPolicy, act: Act, why: str) -> Decision:
    """Do *act* when the back-off is over and the budget is not."""
    since = [at for at in seen.launches if at > max(seen.wish_at, seen.at - _HOUR)]
    wait = wait_before(tuple(since), policy)
    if wait is None:
        return Decision(act=Act.PAGE, why=f"{why}; launched {len(since)} times within an hour, and it did not help")
    left = since[-1] + wait - seen.at if since else 0.0
    if act is Act.LAUNCH and left > 0:
        return Decision(act=Act.KEEP, why=f"{why}; the next launch is in {left:.0f} s")
    return Decision(act=act, why=why)


def act(job: StreamJob, seen: StreamSeen, decision: Decision, *, clock: Clock) -> str:
    """Do what was decided by what was *seen*, and say what was done.

    What somebody else has done since is done: a launch that was not there then is neither ended nor doubled.

    :raises TransientError: when the engine does not answer: look again, and decide anew
    """
    if decision.act in (Act.KEEP, Act.PAGE):
        return decision.why
    if decision.act in (Act.RESTART, Act.END):
        job.end(launch=seen.generation)
    if decision.act is Act.END:
        return f"ended: {decision.why}"
    try:
        name = job.launch(after=seen.generation, reason=decision.why, clock=clock)
    except Contended as error:
        return error.message
    return f"launched {name}: {decision.why}"


def needs_a_person(name: str, decision: Decision) -> PermanentError:
    """Say that only a person can help."""
    return PermanentError(
        f"{name} needs a person: {decision.why}",
        hint=f"see the runbook stream-failed; when it is mended, `./mainstay stream {name} run --reason …`",
    )


def wish(job: StreamJob, action: str, *, reason: str, by: str, clock: Clock) -> None:
    """Note what a person wishes: ``stop`` at once, ``drain`` first, or ``run`` again.  It holds until another.

    :raises Misconfigured: when it is none of these, or the reason is too short
    """
    if action not in WISHES:
        raise Misconfigured(f"{action!r} is nothing that a stream can do", hint=f"wish {', '.join(WISHES)}")
    if len(reason.strip()) < MINIMUM_REASON:
        raise Misconfigured("the reason is too short", hint=f"say in {MINIMUM_REASON} characters or more why")
    job.say(action, reason=reason.strip(), by=by, clock=clock)


def keep(
    job: StreamJob,
    *,
    progress: Progress,
    stop: Stop,
    clock: Clock,
    until: Callable[[StreamSeen], bool] = lambda _: False,
    sleep: Callable[[float], None] = time.sleep,
) -> StreamSeen:
    """Keep *job* running until *until* says that it is enough; a person's wish to stop ends only the keeping.

    :raises Interrupted: when *stop* came
    :raises PermanentError: when only a person can help
    """
    watched, said = Watched(), ""
    while True:
        stop.check()
        try:
            seen = job.look(clock)
        except TransientError as error:  # nobody knows how it is, so nobody may do anything
            progress.say(f"{job.name}: {error.message}")
            sleep(_LOOK_EVERY)
            continue
        watched = watched.after(seen)
        if until(seen):
            return seen
        decision = decide(seen, watched, job.policy)
        if decision.act is Act.PAGE:
            raise needs_a_person(job.name, decision)
        told = act(job, seen, decision, clock=clock)
        if decision.act is not Act.KEEP or (told.partition(" ")[0] != said.partition(" ")[0]):
            progress.say(f"{job.name}: {told}")
        said = told
        sleep(_LOOK_EVERY)

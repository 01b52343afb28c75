"""Stream: keep a job running, wish it to rest or to run, and send it records."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from include.engine.errors import Incomplete, PermanentError, TransientError, Unreachable
from include.engine.streaming import StreamJob, StreamSeen
from include.engine.verbs import stream as verb
from include.engine.verbs.stream import Act, Decision, Watched
from mainstay.hooks.mainstay import MainstayHook
from mainstay.operators.step import Step, Summary, clock, run_name
from mainstay.triggers.stream import AtRestTrigger, StreamTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context


class StreamStep(Step):
    """A step on one job.

    :param job: ``<system>/<name>`` (templated)
    """

    template_fields: Sequence[str] = ("job",)

    def __init__(self, *, job: str, runbook: str = "stream-failed", **kwargs: Any) -> None:
        super().__init__(runbook=runbook, **kwargs)
        self.job = job

    @cached_property
    def opened(self) -> StreamJob:
        """The job, with Airflow's connections."""
        return MainstayHook().stream(self.job)


class KeepStreamOperator(StreamStep):
    """Keep a job running: act, then wait deferred until there is something to act on again.

    It ends well after *shift*, so that its log does not grow for ever; the next run of the DAG goes on.  Killing it ends the
    keeping, not the job: a person ends that with the DAG ``stream_control``.

    When only a person can help, it fails, which calls one.  The run after it waits for an answer, and fails at the end of its
    shift: a person who does not answer is called once an hour.

    :param shift: how long one run keeps it
    """

    def __init__(self, *, shift: timedelta = timedelta(hours=1), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shift = shift

    def execute(self, context: Context) -> Summary:
        """Look, and act."""
        return self._go_on(Watched(), time.time() + self.shift.total_seconds())

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Summary:
        """Act on what the trigger has seen, after another look: it may be over."""
        return self._go_on(msgspec.convert(event["watched"], Watched), float(event["until"]))

    def _go_on(self, watched: Watched, until: float) -> Summary:
        seen = self.opened.look(clock)
        watched = watched.after(seen)
        decision = verb.decide(seen, watched, self.opened.policy)
        over = time.time() >= until
        waiting = bool(seen.paged) and decision.waits(seen) and not over
        trouble = None if waiting else self._act(seen, decision)
        if trouble is not None and (over or not seen.paged):
            raise trouble
        if not over:
            self.defer(
                trigger=StreamTrigger(job=self.job, watched=msgspec.to_builtins(watched), until=until),
                method_name="execute_complete",
            )
        return {"job": self.job, "launch": seen.generation, "behind": seen.behind, "seconds": seen.seconds}

    def _act(self, seen: StreamSeen, decision: Decision) -> PermanentError | None:
        """Do what was decided; give what only a person can mend, noted for the runs that follow: each would call again."""
        try:
            if decision.act is Act.PAGE:
                raise verb.needs_a_person(self.job, decision)
            self.log.info("%s: %s", self.job, verb.act(self.opened, seen, decision, clock=clock))
        except PermanentError as error:  # also of a launch: a damaged checkpoint, a jar that is missing
            self.log.info("%s: %s", self.job, error.message)
            try:
                self.opened.call(seen, error.message, clock)
                self.log.info("the job's last words:\n%s", self.opened.logs())
            except TransientError as away:  # what is wrong is told all the same
                self.log.warning("%s", away.message)
            return error
        return None


class WishStreamOperator(StreamStep):
    """Wish that a job stops, drains or runs, and wait, deferred, until it rests.  Reads the params ``action`` and ``reason``.

    :param patience: for how long it may take to come to rest
    """

    def __init__(self, *, patience: timedelta = timedelta(hours=1), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.patience = patience

    def execute(self, context: Context) -> Summary:
        """Say it, unless a try before this one has."""
        action, reason = str(context["params"]["action"]), str(context["params"]["reason"])
        by = f"the DAG stream_control, run {run_name(context)}"
        seen = self.opened.look(clock)
        if (seen.wish, seen.wish_by) != (action, by):
            verb.wish(self.opened, action, reason=reason, by=by, clock=clock)
        if action != "run":
            until = time.time() + self.patience.total_seconds()
            self.defer(trigger=AtRestTrigger(job=self.job, until=until), method_name="execute_complete")
        return {"job": self.job, "wish": action}

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Summary:
        """Say how it came to rest.

        :raises Unreachable: when it did not
        :raises Incomplete: when it was to drain, and ended before
        """
        if not event["rests"]:
            raise Unreachable(
                f"{self.job} did not come to rest: {event['behind']} records wait",
                hint="see its log; wish `stop` rather than `drain`, or end it with ./mainstay stream",
            )
        if context["params"]["action"] == "drain" and event["end"] != "drained":
            raise Incomplete(
                f"{self.job} rests, and has not drained: it {event['end'] or 'was killed'}; {event['behind']} records wait",
                hint="wish `run`, and when it runs `drain` again; its log says why it ended",
            )
        return {"job": self.job, "end": event["end"], "behind": event["behind"]}


class IngestOperator(StreamStep):
    """Send users and events to the topics of a job.  Reads the params ``users``, ``events``, ``seed`` and ``api``."""

    def execute(self, context: Context) -> Summary:
        """Send."""
        sent = MainstayHook().ingest(self.job, context["params"], clock)
        self.log.info("sent %s users and %s events, from %s", sent.users, sent.events, sent.source)
        return {"users": sent.users, "events": sent.events, "source": sent.source}

"""A mirror of topics on another cluster, by MirrorMaker 2 on Kafka Connect (see ``contracts.Mirror``)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import msgspec

from include.engine.contracts import Clock, Connection, Connections
from include.engine.errors import MainstayError, NotFound, PermanentError, Refused, Unreachable
from include.engine.inventory import TargetSettings
from include.engine.mirroring import MirrorPlan, MirrorProgress
from include.engine.model import Check, Target
from include.engine.systems.kafka import mirror_notes as notes
from include.engine.systems.kafka.access import librdkafka_settings
from include.engine.systems.kafka.caught_up import PROBED, Lag, MirrorCut, lags, positions
from include.engine.systems.kafka.client import EARLIEST, LATEST, TP, open_admin
from include.engine.systems.kafka.connect import Connect, Status
from include.engine.systems.kafka.mirror_proof import MirrorProof
from include.engine.systems.kafka.settings import Mirror as MirrorSettings
from include.engine.systems.kafka.settings import Settings
from include.engine.systems.kafka.topology import (
    cannot_run,
    connector_name,
    desired,
    diff,
    is_of,
    left_out,
    mirrored,
)
from include.engine.systems.kafka.translate import Side

_AT_REST = ("STOPPED", "PAUSED")
_BRIEFLY = 5.0  # seconds to ask for what is good to know
_ENDS = 60.0  # seconds until a stopped connector has no task: each ends its transaction, and workers rebalance
_OBEYS = 10.0  # seconds that a connector may go on telling its old state when it was restarted or resumed


def open_mirror(target: Target, settings: TargetSettings, name: str, connections: Connections) -> KafkaMirror:
    """Open a declared mirror of *target*.  Asks nobody for anything yet.

    :raises NotFound: when the inventory declares no such mirror
    """
    assert isinstance(settings, Settings)
    declared = settings.mirrors.get(name)
    if declared is None:
        known = ", ".join(settings.mirrors) or "none"
        raise NotFound(f"{target} has no mirror {name}", hint=f"the inventory declares: {known}")
    return KafkaMirror(
        name,
        declared,
        source=connections.get(settings.connection),
        target=connections.get(declared.to),
        connect=connections.get(declared.connect),
        others={n: other for n, other in settings.mirrors.items() if n != name and other.to == declared.to},
    )


class KafkaMirror:
    """One declared mirror."""

    def __init__(
        self,
        name: str,
        settings: MirrorSettings,
        *,
        source: Connection,
        target: Connection,
        connect: Connection,
        others: Mapping[str, MirrorSettings] | None = None,
    ) -> None:
        self.name = name
        self.settings = settings
        self._others = others or {}
        self._source = source
        self._target = target
        self._connect = Connect(connect)
        self._proof = MirrorProof(name, settings, source=source, target=target)
        self._missing_before: list[Lag] = []
        self._wanted = desired(name, settings, librdkafka_settings(source), librdkafka_settings(target))

    def plan(self) -> MirrorPlan:
        """Say what would change, and what Connect thinks of it."""
        with open_admin(self._source) as admin:
            topics = sorted(mirrored(admin, self.settings))
            aside = left_out(admin, self.settings)
            source = admin.cluster_id()
        with open_admin(self._target) as admin:
            target = admin.cluster_id()
        actual = {name: self._connect.config(name) for name in self._connect.names() if is_of(self.name, name)}
        states = self._states()
        stopped = tuple(name for name, state in states.items() if state.connector == "STOPPED")
        resumed = [f"resume {n}, which is {s.connector}" for n, s in states.items() if s.connector in _AT_REST]
        restarted = [f"restart the failed tasks of {name}" for name, state in states.items() if state.failed]
        refused = [problem for name, wanted in self._wanted.items() for problem in self._connect.validate(name, wanted)]
        return MirrorPlan(
            mirror=self.name,
            changes=(*map(str, diff(self._wanted, actual)), *resumed, *restarted),
            topics=tuple(topics),
            problems=(*cannot_run(source, target, topics, self._others), *refused),
            warnings=(f"not mirrored, as MirrorMaker's own: {', '.join(aside)}",) if aside else (),
            stopped=stopped,
        )

    def apply(self, *, resume: bool = False) -> None:
        """Make the connectors what was declared, and start those that are paused or have failed.

        :raises Refused: when one was stopped, as a fail-over does, and *resume* was not said
        """
        states = self._states()
        stopped = [name for name, state in states.items() if state.connector == "STOPPED"]
        if stopped and not resume:
            raise Refused(
                f"{', '.join(stopped)} was stopped, as a fail-over does: copying on would write over what is new on the copy",
                hint="when the source is in charge again, type the mirror's name to confirm that it copies on",
            )
        if stopped:
            with open_admin(self._target) as admin:
                notes.resumed(admin, self.name)
        for name, config in self._wanted.items():
            self._connect.put(name, config)
            self._connect.resume(name)
        self._await(stopped, lambda state: state.connector != "STOPPED")
        for name in [name for name, state in states.items() if state.failed]:
            self._connect.restart_failed(name)
            self._await([name], lambda state: not state.failed)
        for name in self._connect.names():
            if is_of(self.name, name) and name not in self._wanted:
                self._connect.delete(name)

    def cut(self, clock: Clock) -> dict[str, object]:
        """Read the source's ends as of now."""
        with open_admin(self._source) as admin:
            topics = mirrored(admin, self.settings)
            partitions = [TP(name, p) for name, count in topics.items() for p in range(count)]
            at = clock()
            high, low = admin.offsets(partitions, LATEST), admin.offsets(partitions, EARLIEST)
        found = MirrorCut(
            at=at,
            low={name: [low[TP(name, p)] for p in range(count)] for name, count in topics.items()},
            high={name: [high[TP(name, p)] for p in range(count)] for name, count in topics.items()},
        )
        document: dict[str, object] = msgspec.to_builtins(found)
        return document

    def progress(self, cut: Mapping[str, object]) -> MirrorProgress:
        """Say how far the mirror is; caught up only when no committed record up to the cut is missing."""
        connector = connector_name(self.name)
        try:
            status = self._connect.status(connector)
            read = positions(self._connect.offsets(connector), self.settings.source_alias)
        except NotFound:
            return MirrorProgress(caught_up=False, missing=(f"the connector {connector} is not there (yet)",))
        asked = msgspec.convert(cut, MirrorCut)
        missing = lags(asked.ends(), asked.lows(), read)
        if status.failed:
            failed = status.traces or (f"{connector}: a task has FAILED",)
            offsets = sum(lag.offsets for lag in missing)
            return MirrorProgress(caught_up=False, offsets=offsets, missing=tuple(map(str, missing)), failed=failed)
        # Reading is dear: only when the connector has come to rest a little before the end.
        rests, self._missing_before = missing == self._missing_before, missing
        if missing and rests and sum(lag.offsets for lag in missing) <= PROBED:
            missing = self._with_records(missing)
        return MirrorProgress(
            caught_up=not missing, offsets=sum(lag.offsets for lag in missing), missing=tuple(map(str, missing))
        )

    def compare(self, cut: Mapping[str, object]) -> Sequence[Check]:
        """Compare the last records before the cut on both sides, byte by byte."""
        return [self._proof.records(msgspec.convert(cut, MirrorCut))]

    def move_groups(self, cut: Mapping[str, object]) -> Sequence[Check]:
        """Put every group of the source on the mirror at the very record that it would read next."""
        return [self._proof.groups(msgspec.convert(cut, MirrorCut))]

    def proved(self, cut: Mapping[str, object]) -> None:
        """Note on the copy that it was proved to have everything up to *cut*."""
        with open_admin(self._target) as admin:
            notes.proved(admin, self.name, self.settings, msgspec.convert(cut, MirrorCut).at)

    def stop(self, why: str = "") -> None:
        """Stop copying; how far it was stays known."""
        there = [name for name in self._connect.names() if name in self._wanted]
        for name in there:
            self._connect.stop(name)
        with suppress(MainstayError), open_admin(self._target) as admin:  # Connect's state is what counts
            notes.stopped(admin, self.name, self.settings, why)
        # Connect only notes the wish: its tasks may copy on for a while, over what is written to the copy by then.
        if going := self._await(there, lambda state: state.connector == "STOPPED" and not state.tasks, _ENDS):
            raise Unreachable(
                f"{', '.join(going)} was told to stop, and does not say that it has, with all of its tasks",
                hint="write nothing to the copy yet; see the workers' logs, end those that do not obey, and run it again",
            )

    def stopped(self) -> str:
        """Say which parts were stopped, and when and why as far as it is known; empty when none was.  Needs no source."""
        stopped = [name for name, state in self._states().items() if state.connector == "STOPPED"]
        why = ""
        if stopped:
            with suppress(MainstayError), open_admin(self._target, patience=_BRIEFLY) as admin:
                why = notes.why_stopped(admin, self.name, self.settings)
        return ", ".join(stopped) + (f": {why}" if why else "")

    def _states(self) -> dict[str, Status]:
        """Give the states of our connectors that are there."""
        found = {}
        for name in self._wanted:
            try:
                found[name] = self._connect.status(name)
            except NotFound:
                continue
        return found

    def _await(self, names: Sequence[str], true: Callable[[Status], bool], patience: float = _OBEYS) -> list[str]:
        """Wait a little until Connect says what it was told: whoever asks next would take its old state for the answer.

        :return: those that have not obeyed
        """
        deadline = time.monotonic() + patience
        while (left := [n for n in names if not true(self._connect.status(n))]) and time.monotonic() < deadline:
            time.sleep(0.2)
        return left

    def _with_records(self, missing: Sequence[Lag]) -> list[Lag]:
        """Leave out lags that hold markers and aborted records alone: they are never copied, so they would last for ever."""
        with Side(librdkafka_settings(self._source)) as source:
            return [lag for lag in missing if _holds(source, lag)]


def _holds(source: Side, lag: Lag) -> bool:
    try:
        return bool(source.digest(TP(lag.topic, lag.partition), lag.position, lag.end, lag.offsets)[0])
    except PermanentError:  # one that we cannot read is a record
        return True

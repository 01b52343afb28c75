"""Puts the sweep together: what is looked at by which probes, by which rules it is judged, and where it is remembered.

Beside :mod:`include.engine.wiring`, which it asks for targets and their probes: this module knows what else a sweep looks at.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

from include.engine import wiring
from include.engine.contracts import Clock, Connections
from include.engine.errors import MainstayError, Misconfigured
from include.engine.health import rules
from include.engine.health.rules import CustomProbe, RuleBook
from include.engine.inventory import Inventory
from include.engine.model import Reading, System, Target
from include.engine.probing import Once, Probe, Recalling
from include.engine.watching import CUSTOM

if TYPE_CHECKING:  # the history's and the store's clients are loaded when a sweep is made: DAG files import this module
    from include.engine.health.history import History
    from include.engine.verbs.looking import Asked
    from include.engine.verbs.pipeline import Pipeline
    from include.engine.verbs.sweep import Watch

RULES = wiring.PROJECT / "include" / "config" / "rules.yaml"
RUNBOOKS = wiring.PROJECT / "include" / "runbooks"
HISTORY_VARIABLE = "MAINSTAY_HISTORY"
AIRFLOW, HTTP, HOST, BACKUPS = "airflow", "http", "host", "backups"
_BY_HTTP, _BY_COMMAND = "include.engine.systems.http.declared", "include.engine.systems.host.declared"


class UnopenedProbe:
    """In place of probes that could not even be opened: reading it says why."""

    name = "connection"
    source = "how to reach it, in the inventory and its connections"
    metrics: Sequence[str] = ()

    def __init__(self, error: MainstayError) -> None:
        self._error = error

    def read(self, clock: Clock, *, timeout: float) -> Sequence[Reading]:  # noqa: ARG002
        """Say why."""
        raise self._error


def systems(inventory: Inventory) -> list[str]:
    """Name the systems that a sweep looks at, each by one task.

    Reads no rules: DAG files call it, and a mistake in a rule must not take the DAG away that restores.
    """
    targets = [str(system) for system in System if any(target.system is system for target in inventory.targets)]
    others = {
        AIRFLOW: bool(inventory.sweep.airflow),
        HTTP: bool(inventory.sweep.endpoints),
        HOST: bool(inventory.sweep.hosts),
        BACKUPS: True,
        CUSTOM: bool(inventory.sweep.rules),
    }
    return [*targets, *(name for name, there in others.items() if there)]


def load_rules(inventory: Inventory, beside: Path | None = None) -> RuleBook:
    """Read the rules that ship, and those that the inventory names.

    :param beside: the inventory's file, which the paths of rule files are relative to
    :raises Misconfigured: with all mistakes of a file
    """
    folder = (beside or wiring.inventory_path()).parent
    return rules.load([RULES, *(folder / path for path in inventory.sweep.rules)], runbooks=RUNBOOKS)


def open_watch(inventory: Inventory, connections: Connections, *, beside: Path | None = None) -> Watch:
    """Build what a sweep needs.  Asks no server for anything yet.

    :param beside: the inventory's file
    """
    from include.engine.verbs.sweep import Watch

    book = load_rules(inventory, beside)
    return Watch(
        systems=systems(inventory),
        asked=lambda system: list(_asked(system, inventory, connections, book)),
        book=book,
        limits=lambda reference, subject: limit(inventory, reference, subject),
        histories=histories(inventory, connections),
        left_behind=lambda: _left_behind(inventory),
        timeout=inventory.sweep.timeout,
        settle=inventory.sweep.settle,
        team=inventory.owner,
    )


def histories(inventory: Inventory, connections: Connections) -> Sequence[Callable[[], History]]:
    """Give where a sweep is remembered, from the best to the last resort."""
    from include.engine.health.history import History

    name = inventory.sweep.history
    here = [lambda: History.in_file(history_file(fallback=name is not None)), lambda: History.in_file(None)]
    if name is None:
        return here
    return [lambda: History.in_postgres(connections.get(name)), *here]


def _left_behind(inventory: Inventory) -> History | None:
    """Open the file that has taken over when the history in PostgreSQL did not answer, when there is one."""
    from include.engine.health.history import History

    path = history_file(fallback=True)
    return History.in_file(path) if inventory.sweep.history is not None and path.exists() else None


def history_file(*, fallback: bool = False) -> Path:
    """Give the SQLite file of the history: ``MAINSTAY_HISTORY``, else one in Mainstay's home."""
    from include.engine.sandbox.home import Home

    given = os.environ.get(HISTORY_VARIABLE, "")
    path = Path(given) if given else Home.of(wiring.PROJECT).root / "history.sqlite"
    return path.with_stem(f"{path.stem}-fallback") if fallback else path


def limit(inventory: Inventory, reference: str, subject: str) -> float | None:
    """Give what ``expect.…`` or ``objective.…`` stands for; nothing when the inventory does not declare it."""
    kind, _, name = reference.partition(".")
    if kind == "expect":
        return inventory.expect.value(name)
    try:
        objectives = inventory.objectives_of(Target.parse(subject.removeprefix(f"{BACKUPS}/")))
    except MainstayError:
        objectives = inventory.objectives
    promised: Mapping[str, float] = {"rpo": objectives.rpo.total_seconds(), "rto": objectives.rto.total_seconds()}
    return promised[name]


def _recalled(
    inventory: Inventory, connections: Connections, subject: str, metrics: Sequence[str], since: datetime
) -> Sequence[Reading]:
    """Give what the sweeps have read of *subject* since then."""
    found = histories(inventory, connections)[0]().points(metrics, since)
    return [
        Reading(
            metric=series.metric,
            value=value,
            unit=series.unit,
            at=datetime.fromtimestamp(at, UTC),
            labels=json.loads(series.labels),
        )
        for series, points in found.items()
        if series.subject == subject
        for at, value in points
    ]


def _asked(system: str, inventory: Inventory, connections: Connections, book: RuleBook) -> Iterator[Asked]:
    """Give the probes of all that belongs to *system*."""
    from include.engine.verbs.looking import Asked

    for subject, opener in _openers(system, inventory, connections, book):
        try:
            for probe in opener():
                if isinstance(probe, Recalling):
                    probe.recall = partial(_recalled, inventory, connections, subject)
                yield Asked(subject, probe)
        except MainstayError as error:  # one that is not defined hides none of the others
            yield Asked(subject, UnopenedProbe(error))


Opener = Callable[[], Sequence[Probe]]


def _openers(
    system: str, inventory: Inventory, connections: Connections, book: RuleBook
) -> Iterator[tuple[str, Opener]]:
    watch = inventory.sweep
    if system == AIRFLOW:
        from include.engine.systems.airflow import probes as airflow

        for name, one in watch.airflow.items():
            yield f"{AIRFLOW}/{name}", lambda one=one: airflow.open_probes(one, connections)  # type: ignore[misc]
    elif system == HTTP:
        from include.engine.systems.http import probes as http

        for name, endpoint in watch.endpoints.items():
            yield f"{HTTP}/{name}", lambda endpoint=endpoint: http.open_probes(endpoint, connections)  # type: ignore[misc]
    elif system == HOST:
        from include.engine.systems.host import probes as host

        for name, machine in watch.hosts.items():
            yield f"{HOST}/{name}", lambda machine=machine: host.open_probes(machine)  # type: ignore[misc]
    elif system == BACKUPS:
        yield from _proofs(inventory, connections)
    else:
        for target in sorted(inventory.targets):
            if target.system == system:
                yield str(target), lambda target=target: wiring.open_probes(inventory, connections, target)  # type: ignore[misc]
    yield from _declared(system, inventory, connections, book)


def _proofs(inventory: Inventory, connections: Connections) -> Iterator[tuple[str, Opener]]:
    from include.engine.verbs import proofs

    pipeline: Once[Pipeline] = Once(lambda: wiring.open_pipeline(inventory, connections))
    yield f"{BACKUPS}/{inventory.pipeline}", lambda: proofs.of_pipeline(pipeline)
    for target in sorted(inventory.targets):
        yield f"{BACKUPS}/{target}", lambda target=target: proofs.of_target(target, pipeline)  # type: ignore[misc]


def _declared(
    system: str, inventory: Inventory, connections: Connections, book: RuleBook
) -> Iterator[tuple[str, Opener]]:
    for probe in book.probes.values():
        subject = probe.target or f"{CUSTOM}/{probe.name}"
        if subject.partition("/")[0] == system:
            yield subject, lambda probe=probe: [_declared_probe(probe, inventory, connections)]  # type: ignore[misc]


def _declared_probe(declared: CustomProbe, inventory: Inventory, connections: Connections) -> Probe:
    if declared.kind in ("url", "command"):
        module = import_module(_BY_HTTP if declared.kind == "url" else _BY_COMMAND)
        return cast("Probe", module.open_declared(declared))
    wanted = {"sql": System.POSTGRES, "cql": System.CASSANDRA}[declared.kind]
    target = Target.parse(declared.target or "")
    if target.system is not wanted:
        raise Misconfigured(
            f"the probe {declared.name} asks {target} in {declared.kind.upper()}", hint=f"name a target of {wanted}"
        )
    module = import_module(f"include.engine.systems.{wanted}.declared")
    return cast("Probe", module.open_declared(declared, inventory.settings(target), connections))

"""A sweep of real servers with the rules that ship: make a condition true, see the finding, undo it, see it close.

The rules wait for nothing here (``for: 0s``): what is found is open and was told, what is gone was told to be over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import yaml

from include.engine import lookout, wiring
from include.engine.contracts import Clock, Connection
from include.engine.errors import Misconfigured
from include.engine.health.findings import ChangeKind, Finding, State
from include.engine.verbs import sweep
from include.engine.verbs.sweep import SweepReport, Watch
from tests.estate import eventually


def clock() -> datetime:
    return datetime.now(UTC)


class Known:
    """Connections by name."""

    def __init__(self, known: Mapping[str, Connection]) -> None:
        self.known = dict(known)

    def get(self, name: str) -> Connection:
        if name not in self.known:
            raise Misconfigured(f"there is no connection {name}", hint="define it")
        return self.known[name]


class Sweeping:
    """Sweeps of one inventory.

    :param settings: the inventory, but for the pipeline's name
    """

    def __init__(self, folder: Path, connections: Mapping[str, Connection], settings: Mapping[str, object]) -> None:
        self.connections = Known(connections)
        self.path = folder / "inventory.yaml"
        self.folder = folder
        self.told: set[str] | None = None  # keys of what was told to be so, and not to be over
        store = {"url": f"file://{folder}/bucket"}
        # A probe that a busy machine has kept waiting is told as one that was not answered: most tests ask for the numbers.
        limits = {"timeout": "60s", "settle": "0s", "rules": ["at-once.yaml"], **(settings.get("sweep") or {})}  # type: ignore[dict-item]
        document = {"pipeline": "shop", "store": store, **settings, "sweep": limits}
        self.path.write_text(yaml.safe_dump(document))
        at_once = {name: rule | {"for": "0s"} for name, rule in shipped().items() if "for" in rule}
        (folder / "at-once.yaml").write_text(yaml.safe_dump({"rules": at_once}))

    def declare(self, section: str, **changed: object) -> None:
        """Write something else into a section of the inventory."""
        document = yaml.safe_load(self.path.read_text())
        document[section] = {**document.get(section, {}), **changed}
        self.path.write_text(yaml.safe_dump(document))

    def tolerate(self, rule: str, limit: object) -> None:
        """Let a rule that ships speak beyond *limit*: what a test can make true in a moment, and everything else as it is."""
        own = self.folder / "tolerated.yaml"
        known = yaml.safe_load(own.read_text())["rules"] if own.exists() else {}
        ships = shipped()[rule]
        bounds = {which: limit for which in ("warning", "critical") if which in ships}
        self.add_rules(own.name, yaml.safe_dump({"rules": {**known, rule: ships | bounds | {"for": "0s"}}}))

    def add_rules(self, name: str, text: str) -> None:
        """Give the inventory a rule file of its own, beside the one that lets every rule speak at once."""
        (self.folder / name).write_text(text)
        document = yaml.safe_load(self.path.read_text())
        named = document["sweep"]["rules"]
        document["sweep"]["rules"] = [*named, *([] if name in named else [name])]
        self.path.write_text(yaml.safe_dump(document))

    def watch(self) -> Watch:
        inventory = wiring.load_inventory(self.path)
        return lookout.open_watch(inventory, self.connections, beside=self.path)

    def sweep(self, *systems: str, clock: Clock = clock) -> SweepReport:
        watch = self.watch()
        chosen = list(systems) or list(watch.systems)
        looks = sweep.look(watch, chosen, clock=clock)
        report, _ = sweep.conclude(watch, looks, chosen, clock=clock, seconds=0.0)
        self._keep_count(report)
        for look in report.looks:  # what is not promised closes its findings
            if look.trouble is None:
                given = {one.metric for one in look.readings}
                assert given <= {*look.metrics, *look.sometimes}, (look.subject, look.probe)
        return report

    def _keep_count(self, report: SweepReport) -> None:
        """See that whatever is found was told once, and whatever is gone was told to be over."""
        lives = {one.key for one in report.findings if one.state in (State.OPEN, State.RECOVERING)}
        if self.told is not None:
            for change in report.changes:
                if change.kind is ChangeKind.OPENED:
                    self.told.add(change.finding.key)
                elif change.kind is ChangeKind.CLOSED:
                    self.told.remove(change.finding.key)
            assert self.told == lives
        self.told = lives

    def rules(self, *systems: str, clock: Clock = clock) -> set[str]:
        """Sweep, and name the rules of what is open."""
        report = self.sweep(*systems, clock=clock)
        return {one.rule for one in report.findings if one.state is State.OPEN}

    def found(self, rule: str, *systems: str, **labels: str) -> list[Finding]:
        """Sweep, and give what a rule says of the series with these labels."""
        report = self.sweep(*systems)
        return [
            one
            for one in report.findings
            if one.rule == rule and one.state is State.OPEN and one.labels.items() >= labels.items()
        ]

    def awaited(self, rule: str, *systems: str, **labels: str) -> list[Finding]:
        """Sweep until a rule says something of these series, and give it: on a busy machine a probe may be late once."""
        found: list[Finding] = eventually(
            lambda: self.found(rule, *systems, **labels), within=120, what=f"{rule} {labels} is found"
        )
        return found

    def gone(self, rule: str, *systems: str, **labels: str) -> None:
        """Sweep until a rule says nothing of these series."""
        eventually(lambda: not self.found(rule, *systems, **labels), within=120, what=f"{rule} {labels} is gone")

    def until(self, expected: Callable[[set[str]], bool], *systems: str) -> set[str]:
        """Sweep until what is open is as expected."""
        seen: list[set[str]] = []

        def there() -> bool:
            seen.append(self.rules(*systems))
            return expected(seen[-1])

        try:
            eventually(there, within=120)
        except AssertionError:
            raise AssertionError(f"never as expected in {len(seen)} sweeps; the last saw {sorted(seen[-1])}") from None
        return seen[-1]


def shipped() -> dict[str, dict[str, object]]:
    """Give the rules that ship, as they are written."""
    rules: dict[str, dict[str, object]] = yaml.safe_load(lookout.RULES.read_text())["rules"]
    return rules


def later(seconds: float) -> Clock:
    return lambda: clock() + timedelta(seconds=seconds)


def with_password(connection: Connection, password: str) -> Connection:
    return msgspec.structs.replace(connection, password=password)

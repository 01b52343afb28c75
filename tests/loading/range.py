"""Where load tests are fired: one target, an empty bucket, and how to run the verb on them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from include.engine import load_wiring
from include.engine.contracts import Connection, Stop
from include.engine.loading import profiles
from include.engine.loading.contracts import LoadEngine
from include.engine.loading.permission import LoadPermission
from include.engine.loading.profiles import Profile
from include.engine.model import Check, LoadResult, Verdict
from include.engine.probing import Probe
from include.engine.store.bucket import Bucket
from include.engine.store.loads import Loads
from include.engine.verbs import load

SHORT = [{"rate": 150, "lasts": "2s"}]
WIDE = {"p99": 600_000}  # milliseconds: a gate that a busy machine keeps
ALLOWED: dict[str, Any] = {
    "allowed": True,
    "max_rate": 1_000_000,
    "max_seconds": "10m",
    # A machine that is shared with builds may be slow for a while: what guards do is a test of its own.
    "guards": {"load.canary": {"above": 30}},
    "guard_every": "1s",
}


def names(verdict: Verdict, checks: Iterable[Check]) -> set[str]:
    return {check.name for check in checks if check.verdict is verdict}


def clock() -> datetime:
    return datetime.now(UTC)


class Told:
    """A progress that remembers, and does something when a stage begins."""

    def __init__(self, at: Mapping[str, Callable[[], None]] | None = None) -> None:
        self.stages: list[str] = []
        self.said: list[str] = []
        self._at = at or {}

    def stage(self, name: str, total_bytes: int | None = None) -> None:
        self.stages.append(name)
        if name in self._at:
            self._at[name]()

    def advance(self, bytes_: int) -> None: ...

    def say(self, text: str) -> None:
        self.said.append(text)


class UnderWay(Told):
    """A progress that does something at the first report of what was answered: then the generator is at work.

    When the stage begins, its processes are not even started, and on a busy machine that takes seconds.
    """

    def __init__(self, then: Callable[[], None], at: Mapping[str, Callable[[], None]] | None = None) -> None:
        super().__init__(at)
        self._then = [then]

    def say(self, text: str) -> None:
        super().say(text)
        if " answered, " in text and self._then:
            self._then.pop()()


class Range:
    """One target of one system."""

    _ids = itertools.count(1)

    def __init__(self, system: str, connection: Connection, directory: Path) -> None:
        self.system, self.connection = system, connection
        self.target = f"{system}/main"
        self.bucket = Bucket.open(f"file://{directory}/bucket")
        self.loads = Loads(self.bucket)

    def profile(self, name: str | None = None, **changes: Any) -> Profile:
        """A shipped profile with keys changed."""
        name = name or f"{self.system}-steady"
        document = yaml.safe_load((load_wiring.LOAD_PROFILES / f"{name}.yaml").read_text())
        workload = document.get("workload", {}) | changes.pop("workload", {})
        document |= {"warm_up": "0.5s", **changes, "workload": workload}
        schema = import_module(f"include.engine.systems.{self.system}.workload").Workload
        return profiles.parse(yaml.safe_dump(document), {self.system: schema}, name=name)

    def engine(self, profile: Profile) -> LoadEngine:
        opened: LoadEngine = import_module(f"include.engine.systems.{self.system}.load").open_load(
            self.connection, profile
        )
        return opened

    def id(self) -> str:
        return f"20261123T{next(self._ids):06d}Z"

    def run(
        self,
        profile: Profile | None = None,
        *,
        id_: str | None = None,
        permission: Mapping[str, Any] | None = None,
        progress: Told | None = None,
        stop: Stop | None = None,
        pipeline: str = "test",
        probes: Sequence[Probe] = (),
        **wish: Any,
    ) -> LoadResult:
        profile = profile or self.profile()
        allowed = LoadPermission.model_validate(ALLOWED | dict(permission or {}))
        return load.run(
            pipeline,
            self.loads,
            self.engine(profile),
            load.Wish(profile=profile, target=self.target, permission=allowed, **wish),
            id_=id_ or self.id(),
            probes=probes,
            progress=progress or Told(),
            stop=stop or Stop(),
            clock=clock,
        )

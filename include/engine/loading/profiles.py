"""Load profiles: YAML files that say what load, how long, and what must hold.  A new one needs no code.

``include/config/load/<name>.yaml``.  Every mistake is told at once, with its line.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
from pydantic import Field, SerializeAsAny, ValidationError, model_validator

from include.engine.errors import Misconfigured, NotFound
from include.engine.loading.gates import Bound, Gates, needed
from include.engine.loading.schedule import Schedule, Stage
from include.engine.loading.search import SearchPlan
from include.engine.loading.workload import LoadWorkload
from include.engine.sections import Duration, Mistake, Section, mistakes_of, read_yaml

_HINT = "docs/load-tests.md explains each key"


class StageSection(Section):
    """A part of the test."""

    rate: float = Field(gt=0, description="operations per second, at its beginning")
    to: float | None = Field(None, gt=0, description="operations per second at its end, when that differs: a ramp")
    lasts: Duration = Field(description="how long it is")


class SearchSection(Section):
    """How the highest rate is looked for, when a run asks for it."""

    begin: float | None = Field(None, gt=0, description="the first rate; by default the highest of the stages")
    end: float | None = Field(None, gt=0, description="the highest rate to try; by default what the inventory allows")
    factor: float = Field(2.0, gt=1, le=10, description="from one rate to the next, while all pass")
    tolerance: float = Field(0.1, gt=0, le=1, description="how exact the result must be, as a share")
    step: Duration = Field(
        timedelta(seconds=10),
        description="how long each rate is held, besides the warm-up; longer when the gates need more operations",
    )
    limit: Duration = Field(timedelta(minutes=5), description="no rate is tried that would be held beyond this")


class BoundSection(Section):
    """A limit on a figure of the system's own."""

    most: float | None = Field(None, description="the figure may not be higher")
    least: float | None = Field(None, description="the figure may not be lower")

    @model_validator(mode="after")
    def _has_a_limit(self) -> BoundSection:
        if self.most is None and self.least is None:
            msg = "give `most`, `least` or both"
            raise ValueError(msg)
        return self


class GatesSection(Section):
    """What must hold for the test to be passed.  Latencies are in milliseconds, from the intended time."""

    p50: float | None = Field(None, gt=0, description="the median, ms")
    p90: float | None = Field(None, gt=0, description="ms")
    p99: float | None = Field(None, gt=0, description="ms")
    p999: float | None = Field(None, gt=0, description="the 99.9th percentile, ms")
    max: float | None = Field(None, gt=0, description="the longest of all, ms")
    errors: float = Field(0.0, ge=0, lt=1, description="share of operations that may fail")
    figures: dict[str, BoundSection] = Field(
        default_factory=dict, description="limits on what the system measures besides, by name"
    )


class Profile(Section):
    """The whole file."""

    version: int = Field(1, ge=1, le=1, description="of this format")
    system: str = Field(description="which system it is for: postgres, cassandra, kafka, spark or airflow")
    description: str = Field(min_length=1, description="what it stands for, in one line")
    warm_up: Duration = Field(timedelta(seconds=2), description="measured and shown, and not counted")
    stages: tuple[StageSection, ...] = Field(
        min_length=1, description="one after the other, after the warm-up at the first one's rate"
    )
    grace: Duration = Field(
        timedelta(seconds=10), description="how long answers still count after the last operation was due"
    )
    processes: int | None = Field(
        None,
        ge=1,
        le=64,
        description="of the generator; by default as many as the rate takes, by what one of them can do",
    )
    most_processes: int = Field(
        16,
        ge=1,
        le=64,
        description="of the generator when it chooses, at most, and never more than there are processors",
    )
    in_flight: int = Field(
        1000, ge=1, le=1_000_000, description="operations without an answer at the same time, at most"
    )
    gates: GatesSection = GatesSection()
    search: SearchSection = SearchSection()
    workload: SerializeAsAny[LoadWorkload] = Field(
        LoadWorkload(), description="what an operation is: the system's own keys"
    )

    name: str = Field("", exclude=True)

    def schedule(self, *, rate: float | None = None, seconds: float | None = None) -> Schedule:
        """Give the schedule: the stages, or one rate; *seconds* stretches or shrinks all stages in proportion."""
        total = sum(stage.lasts.total_seconds() for stage in self.stages)
        share = 1.0 if seconds is None else seconds / total
        warm_up = self.warm_up.total_seconds()
        if rate is not None:
            return Schedule.steady(rate, total * share, warm_up=warm_up)
        stages = [Stage(rate=one.rate, to=one.to, seconds=one.lasts.total_seconds() * share) for one in self.stages]
        first = (Stage(rate=stages[0].rate, seconds=warm_up),) if warm_up else ()
        if len(stages) == 1 and stages[0].to is None:
            return Schedule.steady(stages[0].rate, stages[0].seconds, warm_up=warm_up)
        return Schedule(stages=(*first, *stages), warm_up=warm_up)

    def plan(self, *, most: float) -> SearchPlan:
        """Give the search.

        :param most: operations per second that the inventory allows
        """
        search = self.search
        end = min(search.end or most, most)
        begin = search.begin or max(stage.to or stage.rate for stage in self.stages)
        return SearchPlan(
            begin=min(begin, end),
            end=end,
            factor=search.factor,
            tolerance=search.tolerance,
            step_seconds=search.step.total_seconds(),
            warm_up=float(math.ceil(self.warm_up.total_seconds())),  # it ends with a whole interval of the series
            limit=search.limit.total_seconds(),
            least=needed(self.limits(), drawn=self.workload.drawn),
        )

    @property
    def seconds_after(self) -> float:
        """How long the load may go on after the last operation was due."""
        return self.grace.total_seconds() + float(self.workload.seconds_after)

    def limits(self) -> Gates:
        """Give the gates."""
        gates = self.gates
        named = {name: getattr(gates, name) for name in ("p50", "p90", "p99", "p999", "max")}
        return Gates(
            latencies={name: value for name, value in named.items() if value is not None},
            errors=gates.errors,
            figures={name: Bound(most=one.most, least=one.least) for name, one in gates.figures.items()},
        )

    def declared(self) -> dict[str, Any]:
        """Give it as a document, for the result."""
        found: dict[str, Any] = msgspec.json.decode(self.model_dump_json())
        return found


def load(path: Path, workloads: Mapping[str, type[LoadWorkload]]) -> Profile:
    """Read a profile.

    :param workloads: what each system's operations may say, by system
    :raises NotFound: when there is no such file
    :raises Misconfigured: listing every mistake with its line
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        known = ", ".join(names(path.parent)) or "none"
        raise NotFound(f"there is no load profile {path.stem}", hint=f"in {path.parent} there are: {known}") from error
    return parse(text, workloads, name=path.stem)


def names(folder: Path) -> list[str]:
    """Name the profiles in a folder, without reading them."""
    return sorted(file.stem for file in folder.glob("*.yaml"))


def parse(text: str, workloads: Mapping[str, type[LoadWorkload]], *, name: str) -> Profile:
    """Read a profile from its text (see :func:`load`)."""
    source = read_yaml(text, name=f"{name}.yaml", start_from="include/config/load/kafka-steady.yaml")
    wrong: list[Mistake] = []
    found: Profile | None = None
    workload = LoadWorkload()
    system = str(source.document.get("system", ""))
    if system in workloads:
        try:
            workload = workloads[system].model_validate(source.document.get("workload") or {})
        except ValidationError as error:
            wrong += mistakes_of(error, ("workload",))
    elif system:
        wrong.append((("system",), f"system: {system!r} is none that can be loaded; there are {', '.join(workloads)}"))
    if "name" in source.document:
        wrong.append((("name",), "name: a profile is named after its file"))
    try:
        found = Profile.model_validate({**source.document, "name": name, "workload": workload})
    except ValidationError as error:
        wrong += mistakes_of(error, ())
    if found is not None:
        wrong += _contradictions(found)
    source.refuse(wrong, hint=_HINT)
    if found is None:
        raise Misconfigured(f"{name}.yaml cannot be read", hint=_HINT)
    return found


def _contradictions(profile: Profile) -> list[Mistake]:
    wrong: list[Mistake] = []
    for index, stage in enumerate(profile.stages):
        if stage.lasts.total_seconds() < 1:
            wrong.append((("stages", index, "lasts"), f"stages.{index}.lasts: less than a second measures nothing"))
    search = profile.search
    if search.begin and search.end and search.end < search.begin:
        wrong.append((("search", "end"), "search.end: is lower than search.begin"))
    if profile.processes is not None and profile.processes > profile.in_flight:
        wrong.append((("in_flight",), "in_flight: every process needs at least one"))
    return wrong

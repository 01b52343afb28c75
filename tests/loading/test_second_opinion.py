"""What a stock tool says beside ours: when it is asked, when both differ, and what it means that it says nothing."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from include.engine.errors import MainstayError, NotFound, Refused
from include.engine.loading.contracts import LoadRun, ToolSaid
from include.engine.loading.second_opinion import differences
from include.engine.model import Verdict
from tests.loading.paper import STEADY, Paper, PaperRange
from tests.loading.range import names
from tests.loading.test_judging import result


def said(rate: float = 100.0, p50: float = 10.0, p99: float = 30.0) -> ToolSaid:
    latencies = {"mean": p50, "max": p99, "p50": p50, "p95": p99, "p99": p99, "p999": p99}
    return ToolSaid(by="t", how="h", rate=rate, operations=900, resolution=1.0, latencies=latencies)


def test_a_tool_differs_when_it_is_outside_of_what_the_intervals_have_shown() -> None:
    measured = result("a", 10, seed=1).step  # p50 about 10 ms, p99 three times that, as intervals fall
    assert measured is not None
    measured = msgspec.structs.replace(measured, achieved_rate=100.0, target_rate=100.0)
    assert differences(said(), measured) == []
    assert differences(said(rate=95.1), measured) == []
    (rate,) = differences(said(rate=94.9), measured)
    assert rate == "it made 94.9 operations a second, and ours 100.0"
    p50s = [one.from_sent.p50 for one in measured.series]
    assert differences(said(p50=max(p50s) + 1), measured) == []
    (slow,) = differences(said(p50=max(p50s) + 1.1), measured)
    assert slow.startswith("its p50 from sending is ")
    (quick,) = differences(said(p99=1.0), measured)
    assert quick.startswith("its p99 from sending is 1.0 ms, and ours between ")


def test_a_second_opinion_of_a_system_that_has_none_is_refused_before_the_load(tmp_path: Path) -> None:
    range_ = PaperRange(tmp_path, Paper())
    with pytest.raises(Refused, match="no stock tool"):
        range_.run(range_.profile(**STEADY), cross_check=True)
    with pytest.raises(Refused, match="no stock tool"):
        range_.run(range_.profile(**STEADY, workload={"cross_check": True}))
    assert range_.paper.runs == []


class Doubted(Paper):
    """One whose own tool says something else, or nothing."""

    cross_check_by, cross_check_seconds = "its tool", 5.0

    def __init__(self, said: ToolSaid | MainstayError) -> None:
        super().__init__()
        self.said = said

    def cross_check_operations(self, rate: float) -> int:
        return int(rate)

    def cross_check(self, run: LoadRun, rate: float) -> ToolSaid:
        assert self.there == [run.name]  # what the load has used is still there
        if isinstance(self.said, MainstayError):
            raise self.said
        return self.said


def test_a_second_opinion_that_differs_is_a_note_and_one_that_is_not_given_proves_nothing(tmp_path: Path) -> None:
    latencies = dict.fromkeys(("mean", "max", "p50", "p95", "p99", "p999"), 0.0)
    said = ToolSaid(by="its tool", how="h", rate=399.0, operations=10, resolution=60_000.0, latencies=latencies)
    agreeing = PaperRange(tmp_path / "alike", Doubted(said))
    alike = agreeing.run(agreeing.profile(**STEADY), cross_check=True)
    assert alike.cross_check is not None
    assert alike.cross_check.failed == ""
    assert alike.step is not None
    assert alike.cross_check.differs == () or alike.step.achieved_rate < 380  # on a machine that is busy with others
    other = PaperRange(tmp_path / "other", Doubted(msgspec.structs.replace(said, rate=100.0)))
    apart = other.run(other.profile(**STEADY), cross_check=True)
    assert any("its tool differs beyond noise: it made 100.0 operations a second" in note for note in apart.notes)
    assert "A second opinion" in other.loads.page(apart.id)
    assert "cross-check" not in {check.name for check in apart.checks}
    silent = PaperRange(tmp_path / "silent", Doubted(NotFound("there is no Java", hint="install it")))
    nothing = silent.run(silent.profile(**STEADY), cross_check=True)
    assert nothing.verdict is Verdict.UNVERIFIED
    assert "cross-check" in names(Verdict.UNVERIFIED, nothing.checks)
    assert silent.run(silent.profile(**STEADY)).cross_check is None
    bounded = silent.profile(**STEADY)
    written = bounded.schedule().operations * bounded.workload.operation_bytes
    full = silent.run(bounded, cross_check=True, permission={"max_bytes": written})
    assert full.cross_check is not None
    assert "max_bytes" in full.cross_check.failed

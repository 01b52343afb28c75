"""Load on real servers: what is measured, what is left behind, and what happens on bad days.

The machine may be busy: what is asserted is the method (counts, injected stalls, what was removed), never how fast a server is.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka import KafkaError, Producer

from include.engine.contracts import Stop
from include.engine.errors import Contended, Interrupted, PermanentError, Refused
from include.engine.loading.distribution import decoded
from include.engine.loading.tool import run_tool
from include.engine.model import Verdict
from include.engine.systems.kafka import cross_check
from include.engine.systems.kafka.client import open_admin
from include.engine.systems.kafka.cut import covered
from include.engine.systems.kafka.declared import change_configs
from include.engine.systems.kafka.probes import AdminProbe, disks
from include.engine.systems.kafka.server import KafkaCluster
from include.engine.systems.kafka.settings import Mirror
from include.engine.systems.kafka.topology import mirrored
from include.engine.systems.kafka.workload import Workload
from include.engine.verbs import load
from tests.estate import eventually
from tests.loading.range import SHORT, WIDE, Range, Told, clock, names
from tests.loading.stalling import run_with_a_stall

pytestmark = pytest.mark.integration

DISK = "kafka.disk.log_bytes"
PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture
def kafka_range(kafka: KafkaCluster, tmp_path: Path) -> Range:
    return Range("kafka", kafka.connection(), tmp_path)


def topics(cluster: KafkaCluster) -> set[str]:
    with open_admin(cluster.connection()) as admin:
        return {name for name in admin.topics() if name.startswith("mainstay_load")}


def test_a_load_on_kafka_counts_every_record_and_leaves_nothing(kafka_range: Range, kafka: KafkaCluster) -> None:
    profile = kafka_range.profile(stages=SHORT, gates=WIDE, processes=2)
    result = kafka_range.run(profile, reason="first")
    assert result.step is not None
    assert result.step.processes == 2
    step = result.step
    assert step is not None
    assert step.from_intended.count == 300
    assert step.errors == {}
    assert sum(one.intended for one in step.series) == 375  # with the warm-up
    assert step.from_sent.p50 <= step.from_intended.p50
    assert decoded(result.histograms["from_intended"]).get_total_count() == 300
    assert result.limit is not None
    assert result.limit.rate > 100
    assert result.environment["kafka"].startswith("4.")
    assert names(Verdict.FAIL, result.checks) == set()
    assert topics(kafka) == set()
    assert kafka_range.loads.get(result.id) == result
    page = kafka_range.loads.page(result.id)
    assert page.count("<svg") == 3
    assert "<script" not in page
    assert "http" not in page  # it needs nothing from anywhere
    again = kafka_range.run(profile, id_=result.id)  # a retry after the result was written
    assert again == result


def test_kafkas_own_tool_is_asked_beside_ours_on_the_same_topic_and_no_password_is_on_its_command_line(
    kafka: KafkaCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    printed: list[str] = []

    def remembered(command: list[str], **more: Any) -> int | None:
        commands.append(command)
        code = run_tool(command, **more)
        printed.append(Path(more["output"].name).read_text())
        return code

    monkeypatch.setattr(cross_check, "run_tool", remembered)
    range_ = Range("kafka", kafka.connection(sasl=True), tmp_path)
    result = range_.run(range_.profile(stages=SHORT, gates=WIDE, workload={"cross_check": True}))
    other = result.cross_check
    assert other is not None
    assert other.failed == ""
    assert other.by.startswith("kafka-producer-perf-test 4.")
    assert (other.asked_rate, other.operations) == (150, 900)  # six seconds, without those of the warm-up
    (rate,) = re.findall(r"^900 steady state records sent, ([\d.]+) records/sec", printed[0], re.MULTILINE)
    assert other.rate == pytest.approx(float(rate), abs=0.001)  # however fast this machine let it be
    assert set(other.latencies) == set(other.ours) == {"mean", "max", "p50", "p95", "p99", "p999"}
    assert 0 < other.latencies["p50"] <= other.latencies["p99"] <= other.latencies["max"]
    assert other.ours["p99"] == pytest.approx(result.step.from_sent.p99 if result.step else 0, rel=0.01)
    assert bool(other.differs) == any("differs beyond noise" in note for note in result.notes)
    assert "A second opinion" in range_.loads.page(result.id)
    assert topics(kafka) == set()
    (command,) = commands
    assert not [part for part in command if kafka.password in part]


def test_what_kafkas_own_tool_prints_is_read_without_its_warm_up() -> None:
    whole = (
        "1350 records sent, 150.0 records/sec (0.03 MB/sec), 9.62 ms avg latency, 404.00 ms max latency,"
        " 6 ms 50th, 12 ms 95th, 90 ms 99th, 404 ms 99.9th.\n"
    )
    steady = (
        "900 steady state records sent, 149.8 records/sec (0.03 MB/sec), 6.12 ms avg latency, 22.00 ms max latency,"
        " 5 ms 50th, 9 ms 95th, 14 ms 99th, 22 ms 99.9th.\n"
    )
    found = cross_check.said_by(f"{whole}{steady}", Workload())
    assert (found.operations, found.rate) == (900, 149.8)
    assert found.latencies == {"mean": 6.12, "max": 22.0, "p50": 5.0, "p95": 9.0, "p99": 14.0, "p999": 22.0}
    assert cross_check.said_by(whole, Workload()).operations == 1350
    with pytest.raises(PermanentError, match=r"no percentiles: org\.apache\.kafka"):
        cross_check.said_by("begun\norg.apache.kafka.common.KafkaException: no\n", Workload())


def jvm(cluster: KafkaCluster) -> int:
    return next(
        one.pid
        for one in psutil.net_connections("tcp")
        if one.status == "LISTEN" and one.pid and tuple(one.laddr)[1:] == (cluster.nodes[0].port,)
    )


def test_a_stall_of_five_seconds_is_in_the_percentiles_within_five_per_cent(
    kafka_range: Range, kafka: KafkaCluster
) -> None:
    seconds = 20.0
    profile = kafka_range.profile(stages=[{"rate": 200, "lasts": f"{seconds:g}s"}], gates={"p99": 1000}, in_flight=5000)
    # So long that five per cent of it are more than a busy machine needs to take up what has piled up.
    result, took = run_with_a_stall(kafka_range, profile, lambda: jvm(kafka), seconds=5.0, after=4.0)
    step = result.step
    assert step is not None
    assert step.errors == {}
    # Of T seconds at a steady rate, one stall of S: a share of q waits longer than S - q T.
    assert step.from_intended.p99 / 1000 == pytest.approx(took - 0.01 * seconds, rel=0.05)
    assert names(Verdict.FAIL, result.checks) == {"p99"}
    assert result.verdict is Verdict.FAIL


def test_nothing_is_begun_when_production_is_not_well_or_does_not_answer(
    kafka_range: Range, kafka: KafkaCluster
) -> None:
    with pytest.raises(Refused, match=r"load\.canary is .* above"):
        kafka_range.run(permission={"guards": {"load.canary": {"above": 0.0}}})
    with pytest.raises(Refused, match="disk was not read"):
        kafka_range.run(permission={"guards": {"disk": {"below": 0.1}}})
    with pytest.raises(Refused, match="not allowed"):
        kafka_range.run(permission={"allowed": False})
    assert topics(kafka) == set()
    assert kafka_range.loads.ids() == []


def test_a_person_who_says_stop_is_obeyed_and_nothing_is_left(kafka_range: Range, kafka: KafkaCluster) -> None:
    stop = Stop()
    timer = threading.Timer(2, stop.stop, args=("by a person",))
    profile = kafka_range.profile(stages=[{"rate": 50, "lasts": "120s"}])
    with pytest.raises(Interrupted):
        kafka_range.run(profile, stop=stop, progress=Told({"load": timer.start}))
    assert topics(kafka) == set()
    assert kafka_range.loads.ids() == []
    with kafka_range.loads.alone(until=clock() + timedelta(minutes=1), clock=clock):  # and the turn is free again
        pass


def test_a_target_that_refuses_has_failed_and_its_words_are_kept(kafka_range: Range, kafka: KafkaCluster) -> None:
    profile = kafka_range.profile(stages=SHORT, gates=WIDE, workload={"acks": "1"})
    id_ = kafka_range.id()
    topic = f"mainstay_load_test_{id_.lower()}"

    def refused() -> bool:
        """Whether the broker has heard of it: the limit takes effect a moment after it was set."""
        told: list[int] = []
        producer = Producer({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
        producer.produce(topic, b"x" * 200, on_delivery=lambda error, _: told.append(error.code() if error else 0))
        assert producer.flush(30) == 0
        return told == [KafkaError.MSG_SIZE_TOO_LARGE]

    def refuse() -> None:
        with open_admin(kafka.connection()) as admin:
            change_configs(admin, topic, set_={"max.message.bytes": "20"})
        eventually(refused, what="the broker refuses what is larger")

    result = kafka_range.run(profile, id_=id_, progress=Told({"load": refuse}))
    assert result.verdict is Verdict.FAIL
    assert "errors" in names(Verdict.FAIL, result.checks)
    assert result.step is not None
    assert set(result.step.errors) == {"MSG_SIZE_TOO_LARGE"}
    assert result.step.error_count == result.step.from_intended.count == 300


def test_a_disk_that_fills_up_ends_the_load(kafka_range: Range, kafka: KafkaCluster) -> None:
    probe = AdminProbe(name="disks", metrics=(DISK,), source="", connect=kafka.connection, look=disks)
    (used,) = [one.value for one in probe.read(clock, timeout=30) if one.metric == DISK]
    guards = {"load.canary": {"above": 30}, DISK: {"above": used + 500_000}}
    profile = kafka_range.profile(stages=[{"rate": 200, "lasts": "120s"}], workload={"payload_bytes": 5000})
    began = time.monotonic()
    result = kafka_range.run(profile, permission={"guards": guards}, probes=[probe])
    assert time.monotonic() - began < 100
    assert result.stopped.startswith(f"guard: {DISK} ")
    assert "guards" in names(Verdict.FAIL, result.checks)
    assert topics(kafka) == set()


KILLED = """
import json, sys
from pathlib import Path
from include.engine.contracts import Connection
from tests.loading.range import Range, Told
told = json.loads(sys.stdin.readline())
range_ = Range("kafka", Connection(extra={"bootstrap.servers": told["servers"]}), Path(told["directory"]))
begun = Told({"load": lambda: print("load", flush=True)})
range_.run(range_.profile(stages=[{"rate": 50, "lasts": "300s"}]), id_="20260101T000000Z", progress=begun)
"""


def test_a_test_that_was_killed_is_cleared_up_by_the_next_and_two_never_run_at_once(
    kafka_range: Range, kafka: KafkaCluster, tmp_path: Path
) -> None:
    victim = subprocess.Popen(
        [sys.executable, "-c", KILLED],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": f"{PROJECT}:{PROJECT / 'plugins'}"},
        text=True,
    )
    assert victim.stdin is not None
    assert victim.stdout is not None
    victim.stdin.write(json.dumps({"servers": kafka.bootstrap, "directory": str(tmp_path)}) + "\n")
    victim.stdin.flush()
    assert victim.stdout.readline().strip() == "load"
    generators = psutil.Process(victim.pid).children()
    with pytest.raises(Contended):
        kafka_range.run(kafka_range.profile(stages=SHORT))
    victim.kill()
    victim.communicate()
    psutil.wait_procs(generators, timeout=20)
    assert not [one for one in generators if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    left = topics(kafka)
    assert left == {"mainstay_load_test_20260101t000000z"}
    other = kafka_range.run(kafka_range.profile(stages=SHORT, gates=WIDE), pipeline="another")
    assert topics(kafka) == left  # another pipeline's is not ours to remove
    assert other.notes == () or "had left" not in " ".join(other.notes)
    after = kafka_range.run(kafka_range.profile(stages=SHORT, gates=WIDE))
    assert f"a test that died had left {left.pop()}; it is removed" in after.notes
    assert topics(kafka) == set()
    found = load.comparison(kafka_range.loads, other.id, after.id)
    assert {change.verdict for change in found.changes} == {Verdict.UNVERIFIED}  # two seconds say nothing
    assert f"Compared with {other.id}" in kafka_range.loads.page(after.id)


def test_a_search_ends_with_a_rate_that_held(kafka_range: Range) -> None:
    search = {"begin": 250, "end": 500, "factor": 2, "step": "2s", "limit": "120s"}
    result = kafka_range.run(kafka_range.profile(stages=SHORT, gates=WIDE, search=search), search=True)
    assert round(result.steps[0].target_rate) == 250
    # However busy the machine is: a rate that is not reached sends the search down, to one that is.
    assert result.judged is not None, result.notes
    step = result.steps[result.judged]
    assert step.verdict is Verdict.PASS
    assert step.from_intended.count >= 500  # fewer say nothing about a p99
    assert names(Verdict.PASS, result.checks) >= {"rate reached", "errors", "p99"}
    assert decoded(result.histograms["from_intended"]).get_total_count() == step.from_intended.count
    assert "a second" in result.notes[0]


def test_no_backup_and_no_mirror_takes_the_topic_of_a_load_test(kafka_range: Range, kafka: KafkaCluster) -> None:
    seen: dict[str, set[str]] = {}

    def look() -> None:
        with open_admin(kafka.connection()) as admin:
            seen["there"] = topics(kafka)
            seen["covered"] = set(covered(admin, lambda _: True))
            seen["mirrored"] = set(mirrored(admin, Mirror(connect="c", to="dr")))

    kafka_range.run(kafka_range.profile(stages=SHORT, gates=WIDE), progress=Told({"load": look}))
    assert len(seen["there"]) == 1
    assert not seen["there"] & (seen["covered"] | seen["mirrored"])

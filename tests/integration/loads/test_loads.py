"""Load on real servers: what is measured, what is left behind, and what happens on bad days.

The machine may be busy: what is asserted is the method (counts, injected stalls, what was removed), never how fast a server is.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import msgspec
import psutil
import pytest

from include.engine.contracts import Connection, Stop
from include.engine.errors import Contended, Interrupted, Refused
from include.engine.loading.distribution import decoded
from include.engine.model import Verdict
from include.engine.systems.kafka.client import open_admin
from include.engine.systems.kafka.server import KafkaCluster
from include.engine.systems.postgres.server import PostgresServer
from include.engine.verbs import load
from tests.integration.loads.range import Range, Told, clock

pytestmark = pytest.mark.integration

SHORT = [{"rate": 100, "lasts": "3s"}]
WIDE = {"p99": 600_000}  # milliseconds: a gate that a busy machine keeps


def names(verdict: Verdict, checks: tuple[object, ...]) -> set[str]:
    return {check.name for check in checks if check.verdict is verdict}  # type: ignore[attr-defined]


def topics(cluster: KafkaCluster) -> set[str]:
    with open_admin(cluster.connection()) as admin:
        return {name for name in admin.topics() if name.startswith("mainstay_load")}


def test_a_load_on_kafka_counts_every_record_and_leaves_nothing(kafka_range: Range, broker: KafkaCluster) -> None:
    profile = kafka_range.profile(stages=SHORT, gates=WIDE, processes=2)
    result = kafka_range.run(profile, reason="first")
    step = result.step
    assert step is not None
    assert step.from_intended.count == 300
    assert step.errors == {}
    assert sum(one.intended for one in step.series) == 400  # with the warm-up
    assert step.from_sent.p50 <= step.from_intended.p50
    assert decoded(result.histograms["from_intended"]).get_total_count() == 300
    assert result.limit is not None
    assert result.limit.rate > 100
    assert result.environment["kafka"].startswith("4.")
    assert names(Verdict.FAIL, result.checks) == set()
    assert topics(broker) == set()
    assert kafka_range.loads.get(result.id) == result
    page = kafka_range.loads.page(result.id)
    assert page.count("<svg") == 3
    assert "<script" not in page
    assert "http" not in page  # it needs nothing from anywhere
    again = kafka_range.run(profile, id_=result.id)  # a retry after the result was written
    assert again == result


def test_a_load_on_postgresql_is_pgbench_with_both_latencies(postgres_range: Range, postgres: PostgresServer) -> None:
    mix = {"script": None, "mix": {"select-only": 3, "simple-update": 1}}
    result = postgres_range.run(postgres_range.profile(stages=SHORT, gates=WIDE, workload=mix))
    step = result.step
    assert step is not None
    assert step.errors == {}
    assert set(step.kinds) == {"select-only", "simple-update"}
    # pgbench draws its times: 300 are due, give or take five standard deviations of a Poisson process.
    assert step.from_intended.count == pytest.approx(300, abs=90)
    assert step.from_sent.p50 <= step.from_intended.p50
    with postgres.connect() as connection:
        assert connection.execute(
            "select count(*) from pg_database where datname like 'mainstay_load%'"
        ).fetchone() == (0,)


def test_a_load_on_cassandra_tells_writes_from_reads(cassandra_range: Range) -> None:
    profile = cassandra_range.profile(stages=SHORT, gates=WIDE, workload={"rows": 500})
    result = cassandra_range.run(profile)
    step = result.step
    assert step is not None
    assert step.errors == {}
    assert step.from_intended.count == 300
    assert {kind: one.count for kind, one in step.kinds.items()} == {"write": 225, "read": 75}
    assert cassandra_range.engine(profile).leftovers("mainstay_load") == []


@contextmanager
def stalled(pid: int, *, seconds: float, after: float) -> Iterator[list[float]]:
    """Stop a process for a while; give how long it was really stopped, on a busy machine."""
    took: list[float] = []

    def stall() -> None:
        time.sleep(after)
        began = time.monotonic()
        os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            os.kill(pid, signal.SIGCONT)
            took.append(time.monotonic() - began)

    thread = threading.Thread(target=stall)
    thread.start()
    yield took
    thread.join()


def jvm(cluster: KafkaCluster) -> int:
    (pid,) = {
        c.pid for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.laddr.port == cluster.nodes[0].port
    }
    assert pid is not None
    return int(pid)


def test_a_stall_of_two_seconds_is_in_the_percentiles_within_five_per_cent(
    kafka_range: Range, broker: KafkaCluster
) -> None:
    seconds = 12.0
    profile = kafka_range.profile(stages=[{"rate": 200, "lasts": f"{seconds:g}s"}], gates={"p99": 1000}, in_flight=5000)
    took: list[float] = []
    begun = threading.Event()
    stalls: list[threading.Thread] = []

    def begin() -> None:
        def stall() -> None:
            begun.wait()
            with stalled(jvm(broker), seconds=2.0, after=4.0) as measured:
                pass
            took.extend(measured)

        stalls.append(threading.Thread(target=stall))
        stalls[0].start()

    class Begun(Told):
        def say(self, text: str) -> None:
            begun.set()  # the first report: the generator is at work
            super().say(text)

    result = kafka_range.run(profile, progress=Begun({"load": begin}))
    stalls[0].join()
    step = result.step
    assert step is not None
    assert step.errors == {}
    # Of T seconds at a steady rate, one stall of S: a share of q waits longer than S - q T.
    assert step.from_intended.p99 / 1000 == pytest.approx(took[0] - 0.01 * seconds, rel=0.05)
    assert names(Verdict.FAIL, result.checks) == {"p99"}
    assert result.verdict is Verdict.FAIL


def test_a_target_that_dies_is_a_failed_test_and_not_an_endless_one(postgres: PostgresServer, tmp_path: Path) -> None:
    server = PostgresServer(postgres.sandbox, "dying").start()
    connection = Connection(host=server.host, port=server.port, login="postgres", password=server.password)
    range_ = Range("postgres", connection, tmp_path)
    killer = threading.Timer(2.5, server.kill)
    profile = range_.profile(stages=[{"rate": 50, "lasts": "30s"}], gates=WIDE, warm_up="0s")
    try:
        result = range_.run(profile, progress=Told({"load": killer.start}))
    finally:
        killer.join()
        server.start()
    assert result.verdict is Verdict.FAIL
    assert names(Verdict.FAIL, result.checks) & {"guards", "finished"}
    assert "removed" in names(Verdict.UNVERIFIED, result.checks)
    # The next test of this pipeline removes what the dead server kept.
    after = range_.run(range_.profile(stages=SHORT, gates=WIDE))
    assert any("had left mainstay_load_test_" in note for note in after.notes)
    assert range_.engine(profile).leftovers("mainstay_load") == []
    server.stop()


def test_nothing_is_begun_when_production_is_not_well_or_does_not_answer(
    kafka_range: Range, broker: KafkaCluster
) -> None:
    with pytest.raises(Refused, match=r"load\.canary is .* above"):
        kafka_range.run(permission={"guards": {"load.canary": {"above": 0.0}}})
    with pytest.raises(Refused, match="disk was not read"):
        kafka_range.run(permission={"guards": {"disk": {"below": 0.1}}})
    with pytest.raises(Refused, match="not allowed"):
        kafka_range.run(permission={"allowed": False})
    assert topics(broker) == set()
    assert kafka_range.loads.ids() == []


def test_a_guard_that_trips_ends_the_load_at_once_and_the_result_says_so(postgres_range: Range) -> None:
    began = time.monotonic()
    profile = postgres_range.profile(stages=[{"rate": 50, "lasts": "120s"}], gates=WIDE)
    engine = postgres_range.engine(profile)
    slow = threading.Event()
    honest = engine.canary

    def canary(*arguments: object, **more: object) -> object:
        (reading,) = honest(*arguments, **more)  # type: ignore[arg-type]
        return [msgspec.structs.replace(reading, value=reading.value + 60 * slow.is_set())]

    engine.canary = canary  # type: ignore[assignment, method-assign]
    postgres_range.engine = lambda _: engine  # type: ignore[method-assign]
    result = postgres_range.run(profile, progress=Told({"load": slow.set}))
    assert time.monotonic() - began < 100
    assert result.verdict is Verdict.FAIL
    assert result.stopped.startswith("guard: load.canary is ")
    assert "guards" in names(Verdict.FAIL, result.checks)
    assert engine.leftovers("mainstay_load") == []


def test_a_person_who_says_stop_is_obeyed_and_nothing_is_left(kafka_range: Range, broker: KafkaCluster) -> None:
    stop = Stop()
    timer = threading.Timer(2, stop.stop, args=("by a person",))
    profile = kafka_range.profile(stages=[{"rate": 50, "lasts": "120s"}])
    with pytest.raises(Interrupted):
        kafka_range.run(profile, stop=stop, progress=Told({"load": timer.start}))
    assert topics(broker) == set()
    assert kafka_range.loads.ids() == []
    with kafka_range.loads.alone(until=clock() + timedelta(minutes=1), clock=clock):  # and the turn is free again
        pass


KILLED = """
import json, sys
from pathlib import Path
from include.engine.contracts import Connection
from tests.integration.loads.range import Range, Told
told = json.loads(sys.stdin.readline())
range_ = Range("kafka", Connection(extra={"bootstrap.servers": told["servers"]}), Path(told["directory"]))
begun = Told({"load": lambda: print("load", flush=True)})
range_.run(range_.profile(stages=[{"rate": 50, "lasts": "300s"}]), id_="20260101T000000Z", progress=begun)
"""


def test_a_test_that_was_killed_is_cleared_up_by_the_next_and_two_never_run_at_once(
    kafka_range: Range, broker: KafkaCluster, tmp_path: Path
) -> None:
    root = Path(__file__).resolve().parents[3]
    victim = subprocess.Popen(
        [sys.executable, "-c", KILLED],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": f"{root}:{root / 'plugins'}"},
        text=True,
    )
    assert victim.stdin is not None
    assert victim.stdout is not None
    victim.stdin.write(json.dumps({"servers": broker.bootstrap, "directory": str(tmp_path)}) + "\n")
    victim.stdin.flush()
    assert victim.stdout.readline().strip() == "load"
    generators = psutil.Process(victim.pid).children()
    with pytest.raises(Contended):
        kafka_range.run(kafka_range.profile(stages=SHORT))
    victim.kill()
    victim.communicate()
    psutil.wait_procs(generators, timeout=20)
    assert not [one for one in generators if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    left = topics(broker)
    assert left == {"mainstay_load_test_20260101t000000z"}
    other = kafka_range.run(kafka_range.profile(stages=SHORT, gates=WIDE), pipeline="another")
    assert topics(broker) == left  # another pipeline's is not ours to remove
    assert other.notes == () or "had left" not in " ".join(other.notes)
    after = kafka_range.run(kafka_range.profile(stages=SHORT, gates=WIDE))
    assert f"a test that died had left {left.pop()}; it is removed" in after.notes
    assert topics(broker) == set()


def test_a_search_ends_with_a_rate_that_held_or_says_why_not(kafka_range: Range) -> None:
    search = {"begin": 50, "end": 200, "factor": 2, "step": "2s", "limit": "60s"}
    result = kafka_range.run(kafka_range.profile(stages=SHORT, gates=WIDE, search=search), search=True)
    assert [round(step.target_rate) for step in result.steps][:1] == [50]
    if result.judged is not None:
        assert result.steps[result.judged].verdict is Verdict.PASS
        assert result.histograms
    else:
        assert result.verdict is Verdict.FAIL
    assert result.notes


def test_two_tests_are_compared_from_the_bucket(kafka_range: Range) -> None:
    profile = kafka_range.profile(stages=SHORT, gates=WIDE)
    first, second = kafka_range.run(profile), kafka_range.run(profile)
    found = load.comparison(kafka_range.loads, first.id, second.id)
    assert {change.verdict for change in found.changes} == {Verdict.UNVERIFIED}  # three seconds say nothing
    assert "Compared with" in kafka_range.loads.page(second.id)

"""The stream on a standalone cluster: submitted over REST, found by name, killed in turn with what it runs on, and drained."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from include.engine import lookout
from include.engine.errors import Unreachable
from include.engine.sandbox.home import Sandbox
from include.engine.streaming import Life
from include.engine.systems.cassandra import keyspaces
from include.engine.systems.cassandra.server import CassandraServer
from include.engine.systems.kafka.server import KafkaCluster
from include.engine.systems.spark import probes
from include.engine.systems.spark.server import SparkCluster
from tests.estate import clock, eventually
from tests.integration.spark.brook import TARGET, Brook
from tests.integration.spark.keeping import Sent, require_all, traffic
from tests.integration.spark.test_stream import person

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def spark(sandbox: Sandbox) -> Iterator[SparkCluster]:
    cluster = SparkCluster(sandbox, "standalone", cores=4, memory=3072).start(timeout=240)
    yield cluster
    cluster.stop()


@pytest.fixture
def brook(sandbox: Sandbox) -> Iterator[Brook]:
    kafka = KafkaCluster(sandbox, "shared").start()
    cassandra = CassandraServer(sandbox, "shared", settings={"auto_snapshot": False}).start(timeout=300)
    with cassandra.connect() as cql:
        keyspaces.create(cql)
    with Brook(kafka, cassandra) as brook:
        yield brook


def processes(sign: str) -> list[int]:
    """The Java processes of the cluster whose command line holds *sign*."""
    found = subprocess.run(["pgrep", "-f", sign], capture_output=True, text=True, check=False).stdout.split()
    return [int(pid) for pid in found]


def test_driver_executor_master_and_worker_are_killed_in_turn_and_nothing_is_lost(
    brook: Brook, spark: SparkCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    brook.connections.known["cluster"] = spark.connection()
    given = {"engine": "standalone", "cluster": "cluster"}
    profile = {"driver_memory": "512m", "executor_memory": "768m", "java_options": "-XX:TieredStopAtLevel=1"}
    stream = brook.stream(**given, profile=profile)
    brook.send(brook.users, [person(n) for n in range(1000)])
    name = stream.launch(reason="a test", clock=clock)
    brook.caught_up(stream, 1000)
    assert stream.engine.life(name, None) is Life.RUNNING  # found by its name alone

    readings = {
        r.metric: r.value
        for probe in probes.open_probes(TARGET, stream.settings, brook.connections)
        for r in probe.read(clock, timeout=30)
        if r.labels.get("flow", "users") == "users"
    }
    assert readings["spark.workers.alive"] == readings["spark.masters.alive"] == readings["spark.applications"] == 1
    assert readings["spark.application.running"] == 1
    assert (readings["spark.flow.behind"], readings["spark.flow.freshness"], readings["spark.flow.lost"]) == (0, 0, 0)
    assert readings["spark.flow.group_behind_checkpoint"] == 0
    assert readings["spark.flow.batch_duration"] > 0

    monkeypatch.setenv(lookout.HISTORY_VARIABLE, str(tmp_path / "history.sqlite"))
    sweeping = brook.sweeping(tmp_path, spark={TARGET.name: brook.declared(**given, profile=profile)})
    few = {"spark-masters", "spark-workers"}
    sweeping.declare("expect", spark={"masters": 2, "workers": 2})
    assert sweeping.rules("spark") >= few
    sweeping.declare("expect", spark={"masters": 1, "workers": 1})
    assert not sweeping.rules("spark") & few

    with traffic(brook, first=1000, pause=0.3) as sent:

        def goes_on() -> None:
            """Records that are sent from now on are done."""
            upto = 1000 + sent.records + 50
            brook.until(stream, lambda seen: seen.position >= upto, "it goes on")

        # An executor dies: the master starts another one, and the driver goes on.
        killed("CoarseGrainedExecutorBackend", spark)
        goes_on()

        # The driver dies: nobody supervises it but us.
        killed("DriverWrapper", spark)
        brook.until(stream, lambda seen: seen.life is Life.ABSENT, "the driver is gone")
        stream.launch(reason="its driver died", clock=clock)
        goes_on()
        newest = stream.journal.newest()

        # The master dies: the job goes on without it, and the next one knows it.
        spark.master.kill()
        with pytest.raises(Unreachable):
            stream.look(clock)
        sweeping.until(lambda rules: {"spark-masters", "spark-leader"} <= rules, "spark")
        spark.start(timeout=240)
        sweeping.until(lambda rules: not rules & {"spark-masters", "spark-leader"}, "spark")
        goes_on()
        assert stream.journal.newest() == newest

        # The worker dies, and with it the driver: it is launched again when the worker is back.
        spark.workers[0].kill()
        sweeping.until(lambda rules: "spark-workers" in rules, "spark")
        spark.start(timeout=240)
        sweeping.until(lambda rules: "spark-workers" not in rules, "spark")
        brook.until(stream, lambda seen: seen.life is Life.ABSENT, "the driver is gone")
        stream.launch(reason="its worker died", clock=clock)
        goes_on()
    brook.caught_up(stream, 1000 + sent.records)
    require_all(brook, Sent(users=1000 + sent.users, broken=sent.broken))

    stream.say("drain", reason="the end of the test", by="tests", clock=clock)
    seen = brook.until(stream, lambda seen: seen.life is Life.ABSENT, "it drains")
    assert seen.end == "drained"
    stream.end()
    stream.end()  # nothing is left to end


def test_the_leading_master_dies_and_the_job_goes_on_under_the_other(brook: Brook, sandbox: Sandbox) -> None:
    pair = SparkCluster(sandbox, "pair", masters=2, cores=4, memory=3072).start(timeout=240)
    try:
        brook.connections.known["cluster"] = pair.connection()
        profile = {"driver_memory": "512m", "executor_memory": "768m", "java_options": "-XX:TieredStopAtLevel=1"}
        stream = brook.stream(engine="standalone", cluster="cluster", profile=profile)
        brook.send(brook.users, [person(n) for n in range(1000)])
        name = stream.launch(reason="a test", clock=clock)
        brook.caught_up(stream, 1000)
        newest = stream.journal.newest()

        first = pair.leader()

        def led_by_the_other() -> bool:
            try:
                return pair.leader() is not first
            except Unreachable:  # nobody leads yet
                return False

        first.process.kill()
        brook.send(brook.users, [person(n) for n in range(1000, 2000)])
        eventually(led_by_the_other, what="the other master leads", within=120)
        brook.caught_up(stream, 2000)
        assert stream.journal.newest() == newest  # nobody had to launch it again
        assert stream.engine.life(name, None) is Life.RUNNING
        cluster = probes.open_probes(TARGET, stream.settings, brook.connections)[-1]
        assert {one.metric: one.value for one in cluster.read(clock, timeout=30)}["spark.workers.alive"] == 1

        pair.start(timeout=240)  # the first one is back, and stands by
        assert pair.leader() is not first
        stream.end()
        assert stream.engine.life(name, None) is Life.ABSENT
        stream.launch(reason="the other master leads", clock=clock)
        brook.send(brook.users, [person(n) for n in range(2000, 2500)])
        brook.caught_up(stream, 2500)
        assert brook.count(brook.users_table) == 2500
    finally:
        for stream in brook.streams:
            stream.end(kill=True)
        brook.streams.clear()
        pair.stop()


def killed(sign: str, spark: SparkCluster) -> None:
    """SIGKILL all processes of *spark* of a kind; there has to be one."""
    victims = [pid for pid in processes(sign) if _ours(pid, spark)]
    assert victims, sign
    for pid in victims:
        os.kill(pid, signal.SIGKILL)


def _ours(pid: int, spark: SparkCluster) -> bool:
    """Whether it runs in a directory of this cluster: its command line tells no cluster."""
    try:
        return Path(f"/proc/{pid}/cwd").readlink().is_relative_to(spark.sandbox.root)
    except OSError:
        return False

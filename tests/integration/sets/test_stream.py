"""The whole pipeline: a set taken under traffic fits together, and comes back in a drill with its job running again."""

from __future__ import annotations

import itertools
import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from include.engine.contracts import Stop
from include.engine.model import DestinationKind, DrillReport, SetManifest, Target, Verdict, backup_id
from include.engine.verbs import backup, drill, restore_set
from include.engine.verbs.pipeline import Pipeline
from include.engine.verbs.wishes import Wishes
from include.engine.wiring import load_inventory, open_pipeline
from tests.estate import Quiet, clock
from tests.integration.cassandra.estate import Named
from tests.integration.sets.stage import Stage
from tests.integration.spark.brook import Brook
from tests.integration.spark.test_stream import event

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]


def person(number: int) -> dict[str, object]:
    return {"id": str(uuid.UUID(int=number + 1, version=4)), "first_name": f"F{number}"}


class River:
    """A pipeline with a stream: its job, its traffic and its sets.

    :param events: whether the job has the flow of events as well
    """

    def __init__(self, stage: Stage, brook: Brook, folder: Path, *, events: bool = False) -> None:
        self.stage, self.brook, self.folder, self.events = stage, brook, folder, events
        self.numbers = itertools.count()
        self.url = f"s3://{stage.store.create_bucket(f'river-{uuid.uuid4().hex[:8]}')}/p"

    def pipeline(self, **changed: Any) -> Pipeline:
        brook, topics = self.brook, [f"{self.brook.prefix}_.*"]
        flows = {"users": {"shape": "users", "topic": brook.users, "table": brook.users_table} | changed}
        if self.events:
            flows["events"] = {"shape": "events", "topic": brook.events, "table": brook.events_table}
        given = brook.settings().model_dump(mode="json", include={"checkpoint", "directory", "group"})
        document = {
            "pipeline": "river",
            "store": {"url": self.url, "connection": "store"},
            "spark": {
                "river": {
                    **given,
                    "kafka": "kafka",
                    "cassandra": "cassandra",
                    "flows": flows,
                    "trigger": "1s",
                    "profile": {"java_options": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"},
                }
            },
            # Of many sets the last is drilled long after it was taken: how old they are is no question here.
            "objectives": {"rpo": "12h"},
            "kafka": {"main": {"connection": "kafka", "topics": topics, "groups": topics, "exclude": []}},
            "cassandra": {
                "main": {
                    "connection": "cassandra",
                    **self.stage.cassandra.target_settings(),
                    "keyspaces": [brook.prefix],
                    # A small table under traffic: of few large ranges none would stand still while it is sampled twice.
                    # Partitions of events have five rows, those of users one.
                    "sample_ranges": 32,
                    "sample_rows": 8 if self.events else 2,
                }
            },
        }
        path = self.folder / "inventory.yaml"
        path.write_text(yaml.safe_dump(document))
        known = {
            "store": self.stage.connections["store"],
            "kafka": self.stage.kafka.connection(),
            "cassandra": self.stage.cassandra.connection(),
        }
        return open_pipeline(load_inventory(path), Named(known))

    def send(self, count: int) -> None:
        numbers = [next(self.numbers) for _ in range(count)]
        self.brook.send(self.brook.users, map(person, numbers))
        if self.events:
            self.brook.send(self.brook.events, map(event, numbers))

    @contextmanager
    def traffic(self) -> Iterator[None]:
        """Send records until the context ends, a broken one now and then."""
        over = threading.Event()

        def flow() -> None:
            while not over.wait(0.25):
                self.send(10)
                self.brook.send(self.brook.users, [b"{broken"])

        thread = threading.Thread(target=flow)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def take(self, pipeline: Pipeline, set_id: str = "") -> SetManifest:
        set_id = set_id or backup_id(clock())
        backup.freeze(pipeline, set_id, pipeline.targets, clock=clock)
        try:
            for target in pipeline.targets:
                backup.copy(pipeline, set_id, target, progress=Quiet(), stop=Stop(), clock=clock)
            return backup.seal(pipeline, set_id, clock=clock)
        finally:
            backup.release(pipeline, set_id, pipeline.targets)

    def drill(self, pipeline: Pipeline, sealed: SetManifest) -> DrillReport:
        return drill.drill(
            pipeline,
            drill.choose(pipeline, set_id=sealed.id),
            drill_id=backup_id(clock()),
            progress=Quiet(),
            stop=Stop(),
            clock=clock,
        )

    def forget(self, count: int) -> None:
        """Let retention take the first *count* records of the first partition: restored offsets are others from now on."""
        admin = AdminClient({"bootstrap.servers": self.stage.kafka.bootstrap})
        for done in admin.delete_records([TopicPartition(self.brook.users, 0, count)]).values():
            done.result()


def _restored_beside(river: River, pipeline: Pipeline, sealed: SetManifest) -> None:
    """The log under another name in the same cluster, and the checkpoint made for it: it goes on before the same record."""
    topic, into = river.brook.users, river.brook.directory / "restored"
    wishes = Wishes(
        destination=DestinationKind.SERVER,
        path=str(into),
        servers=["kafka/main:kafka"],
        confirm=["kafka/main"],
        only=[f"kafka/main:{topic}", "spark/river"],
        rename=[f"kafka/main:{topic}={topic}_back"],
    )
    plan = restore_set.plan(pipeline, sealed, wishes)
    assert [str(part.target) for part in plan.parts] == ["kafka/main", "spark/river"]
    assert "left as they are: cassandra/main" in plan.warnings[0]
    done = restore_set.restore_set(
        pipeline, plan, reason="a test asks for it", by="tests", progress=Quiet(), stop=Stop(), clock=clock
    )
    assert failed(done.checks) == []
    before = next(part.cut.offsets[topic] for part in sealed.parts if str(part.target) == "spark/river")
    newest = max((into / "spark-river" / "users" / "offsets").iterdir(), key=lambda file: int(file.name))
    after = json.loads(newest.read_text().splitlines()[2])
    assert after == {f"{topic}_back": {"0": before[0] - 17, "1": before[1], "2": before[2]}}


@pytest.fixture(scope="module")
def river(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[River]:
    with Brook(stage.kafka, stage.cassandra) as brook:
        yield River(stage, brook, tmp_path_factory.mktemp("river"))


def failed(checks: Any) -> list[str]:
    return [f"{check.verdict} {check.name}: {check.detail}" for check in checks if check.verdict is not Verdict.PASS]


def test_a_set_taken_under_traffic_comes_back_with_its_job_running(river: River) -> None:
    brook, pipeline = river.brook, river.pipeline()
    stream = brook.stream(flows={"users": {"shape": "users", "topic": brook.users, "table": brook.users_table}})
    river.send(900)
    stream.launch(reason="a test", clock=clock)
    brook.caught_up(stream, 900)
    river.forget(17)
    with river.traffic():
        brook.until(stream, lambda seen: seen.position > 1000, "the job is in the middle of it")
        sealed = river.take(pipeline)
    stream.end(kill=True)

    assert [str(one.target) for one in sealed.order] == ["spark/river", "cassandra/main", "kafka/main"]
    # The servers are shared with other tests, whose keyspaces and topics are in no backup of this pipeline: it says so.
    assert [line for line in failed(sealed.checks) if "coverage" not in line] == []
    about = {str(part.target): part.cut.identities for part in sealed.parts}
    assert about["spark/river"][brook.users] == about["kafka/main"][brook.users]
    (found,) = sealed.reconciled
    assert found.lost == 0
    assert found.rows > 800
    assert found.dead_letters > 0
    assert sealed.consistency is not None
    assert sealed.consistency.freeze_seconds < 60

    report = river.drill(pipeline, sealed)
    assert failed(report.checks) == []
    names = {check.name for check in report.checks}
    assert {
        "spark/river: a marked record of users",
        "spark/river: rows of users after the replay",
        "set: order of the freeze",
        "set: spark/river: read up to",
        "rto",
        "rpo",
    } <= names
    assert report.verdict is Verdict.PASS
    assert {stage.name for stage in report.stages} >= {"spark/river: resume and replay"}
    left = [
        one.name for one in river.stage.sandbox.home.root.joinpath("sandboxes").iterdir() if "drill-river" in one.name
    ]
    assert left == []

    _restored_beside(river, pipeline, sealed)

    # A part by itself is still a drill of that part only, and without the stream the whole is not proved.
    log = drill.choose(pipeline, target=Target.parse("kafka/main"), set_id=sealed.id)
    assert log.backups == ((Target.parse("kafka/main"), sealed.id),)


def test_a_set_without_the_stream_that_is_declared_proves_nothing_about_the_pipeline(river: River) -> None:
    pipeline = river.pipeline()
    set_id = "20200101T000000Z"
    chosen = [target for target in pipeline.targets if str(target) == "kafka/main"]
    backup.freeze(pipeline, set_id, chosen, clock=clock)
    backup.copy(pipeline, set_id, chosen[0], progress=Quiet(), stop=Stop(), clock=clock)
    sealed = backup.seal(pipeline, set_id, clock=clock)
    report = river.drill(pipeline, sealed)
    assert report.verdict is Verdict.UNVERIFIED
    assert [line.partition(":")[0] for line in failed(report.checks)] == ["UNVERIFIED pipeline"]


def test_on_its_first_day_a_pipeline_has_a_set_that_proves_that_nothing_flowed_yet_and_comes_back(
    stage: Stage, tmp_path: Path
) -> None:
    with Brook(stage.kafka, stage.cassandra) as brook:  # no record in its topics, no row in its tables
        river = River(stage, brook, tmp_path)
        pipeline = river.pipeline()
        stream = brook.stream(flows={"users": {"shape": "users", "topic": brook.users, "table": brook.users_table}})
        stream.launch(reason="a test", clock=clock)
        brook.until(stream, lambda seen: seen.begun, "it has begun, and has nothing to do")
        sealed = river.take(pipeline)
        stream.end(kill=True)
        assert sealed.nothing_to_look_at == ()
        # The servers are shared with other tests: what these have is in no backup of this pipeline.
        assert [line for line in failed(sealed.checks) if "coverage" not in line] == []
        told = {check.name: check.detail for check in sealed.checks}
        none_yet = f"users has had no record yet: {brook.users} ends at offset 0 in 3 of 3 partitions"
        assert told["reconciliation of users"] == told["spark/river: read up to"] == none_yet
        notes = {str(part.target): pipeline.catalog.backup(part.target, sealed.id).notes for part in sealed.parts}
        assert "no row in any of 2 tables" in notes["cassandra/main"][-1]

        report = river.drill(pipeline, sealed)
        assert failed(report.checks) == []
        verdicts = {check.name: check.verdict for check in report.checks}
        assert verdicts["spark/river: a marked record of users"] is Verdict.PASS  # the job takes the restored topic
        assert report.verdict is Verdict.PASS


def test_a_sink_that_writes_other_rows_on_a_replay_makes_no_set_and_no_drill_that_passes(
    stage: Stage, tmp_path: Path
) -> None:
    with Brook(stage.kafka, stage.cassandra) as brook:
        river = River(stage, brook, tmp_path)
        on_purpose: dict[str, Any] = {"replaced": {"id": "uuid()"}, "allow_unrepeatable": True}
        pipeline = river.pipeline(**on_purpose)
        flow = {"shape": "users", "topic": brook.users, "table": brook.users_table, **on_purpose}
        stream = brook.stream(flows={"users": flow})
        river.send(200)
        stream.launch(reason="a test", clock=clock)
        brook.caught_up(stream, 200)
        assert brook.count(brook.users_table) == 200  # nothing looks wrong: the job does what it was told
        with river.traffic():
            brook.until(stream, lambda seen: seen.position > 230, "the job is in the middle of it")
            sealed = river.take(pipeline)
        stream.end(kill=True)

        wrong = {check.name: check.detail for check in sealed.checks if check.verdict is Verdict.FAIL}
        assert "uuid" in wrong["spark/river: replay of users writes the same rows"]
        assert "reconciliation of users" in wrong
        assert sealed.verdict is Verdict.FAIL

        report = river.drill(pipeline, sealed)
        wrong = {check.name: check.detail for check in report.checks if check.verdict is Verdict.FAIL}
        assert "uuid" in wrong["set: spark/river: replay of users writes the same rows"]
        assert "spark/river: rows of users after the replay" in wrong
        assert report.verdict is Verdict.FAIL

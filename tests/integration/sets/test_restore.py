"""A set over three real systems comes back as one: planned on one page, approved once, judged together."""

from __future__ import annotations

from typing import Any

import msgspec
import psycopg
import pytest

from include.engine.contracts import Stop
from include.engine.errors import Refused
from include.engine.model import DestinationKind, Position, SetManifest, Verdict
from include.engine.sandbox.accounts import server_account
from include.engine.sandbox.home import Home
from include.engine.systems.postgres.restored import RestoredServer
from include.engine.verbs import restore, restore_set
from include.engine.verbs.wishes import Wishes
from tests.estate import Quiet, clock
from tests.integration.sets.stage import KEYSPACE, TOPIC, Stage
from tests.systems.kafka.stand import seen

pytestmark = pytest.mark.integration
REASON = "a test asks for it"


@pytest.fixture(scope="module")
def sealed(stage: Stage) -> SetManifest:
    stage.fill(300)
    sealed = stage.backup()
    stage.estate.archived()
    return sealed


def doing() -> dict[str, Any]:
    return {"reason": REASON, "by": "tests", "progress": Quiet(), "stop": Stop(), "clock": clock}


def test_a_set_goes_to_named_servers_and_running_clusters_under_one_plan(stage: Stage, sealed: SetManifest) -> None:
    pipeline = stage.pipeline()
    wishes = Wishes(
        destination=DestinationKind.SERVER,
        servers=["postgres/main:spare", "kafka/main:kafka_main", "cassandra/main:cassandra_admin"],
        rename=[f"kafka/main:{TOPIC}={TOPIC}_back", f"cassandra/main:{KEYSPACE}={KEYSPACE}_back"],
        confirm=["kafka/main"],  # the cluster is the source: beside its own topics, under another name
    )
    plan = restore_set.plan(pipeline, restore_set.find(pipeline, "latest-set"), wishes)
    assert [str(part.target) for part in plan.parts] == ["cassandra/main", "kafka/main", "postgres/main"]
    assert plan.bytes_to_fetch == sum(part.bytes_to_fetch for part in plan.parts) > 0
    assert plan.would_overwrite == ()

    done = restore_set.restore_set(pipeline, plan, **doing())

    bad = [check for check in done.checks if check.verdict is not Verdict.PASS]
    assert done.verdict is Verdict.PASS, bad
    assert stage.records(f"{TOPIC}_back") == stage.records(TOPIC)
    assert stage.events(f"{KEYSPACE}_back") == stage.events(KEYSPACE)
    spare = msgspec.structs.replace(stage.estate.connection, port=stage.spare["port"])
    with psycopg.connect(
        host=spare.host, port=spare.port, user=spare.login, password=spare.password, dbname="postgres"
    ) as connection:
        assert connection.execute("select count(*), max(n) from orders").fetchone() == (300, 300)
    records = pipeline.catalog.restores()
    assert {(record.set_id, record.verdict) for record in records} == {(sealed.id, Verdict.PASS)}
    assert len(records) == 3

    # Again: what was restored is in the way, and every part says so at once.
    with pytest.raises(Refused) as refused:
        restore_set.plan(pipeline, restore_set.find(pipeline, f"set/{sealed.id}"), wishes)
    assert "3 parts" in refused.value.message
    assert f"{TOPIC}_back" in refused.value.message
    stage.sandbox.home.sandbox("server-spare").destroy()
    stage.forget(topics=[f"{TOPIC}_back"], keyspaces=[f"{KEYSPACE}_back"])


def test_a_log_says_where_positions_are_after_its_restore(stage: Stage, sealed: SetManifest) -> None:
    pipeline = stage.pipeline()
    (part,) = [part for part in sealed.parts if str(part.target) == "kafka/main"]
    assert part.cut.offsets == {TOPIC: {0: 100, 1: 100, 2: 100}}
    plan = restore.plan(
        pipeline, part.target, backup=part.backup, destination=DestinationKind.SERVER, server="kafka_main",
        confirm="kafka/main", rename={TOPIC: f"{TOPIC}_moved"},
    )  # fmt: skip
    asked = [Position(topic=TOPIC, partition=0, offset=40), Position(topic=TOPIC, partition=2, offset=100)]
    restored = restore.restore(pipeline, plan, positions=asked, **doing())
    assert [one.before for one in restored.moved] == asked
    assert [(one.after.topic, one.after.partition, one.after.offset) for one in restored.moved] == [
        (f"{TOPIC}_moved", 0, 40),
        (f"{TOPIC}_moved", 2, 100),
    ]
    stage.forget(topics=[f"{TOPIC}_moved"], keyspaces=[])


def test_from_the_bucket_alone_every_part_gets_a_folder(stage: Stage, sealed: SetManifest) -> None:
    into = stage.sandbox.directory("sets-bare") / "all"
    arguments = ("restore", "latest-set", "--to", str(into))
    plan = stage.bare(*arguments, "--dry-run")
    assert plan["set_id"] == sealed.id
    assert not into.exists()
    try:
        done = stage.bare(*arguments, "--yes")
        assert {check["verdict"] for check in done["checks"]} == {"PASS"}
        server = RestoredServer(stage.sandbox, "sets-bare", data_directory=into / "postgres-main").start()
        with server.connect() as connection:
            assert connection.execute("select count(*) from orders").fetchone() == (300,)
        server.stop()
        assert (into / "cassandra-main" / "schema.cql").is_file()
        bootstrap = next(part["address"] for part in done["parts"] if part["target"]["system"] == "kafka")
        assert seen(bootstrap, TOPIC) == stage.records(TOPIC)
    finally:
        Home(root=into / "kafka-main", account=server_account()).sandbox("kafka").stop()

"""What Spark and the job are told, and that no password is where other users of a machine can read it."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from include.engine.contracts import Connection
from include.engine.errors import Misconfigured, NotFound
from include.engine.streaming import FlowSeen
from include.engine.systems.spark import access, people, positions
from include.engine.systems.spark.checkpoint import FlowState
from include.engine.systems.spark.distribution import LIBRARIES, Installation
from include.engine.systems.spark.positions import Place
from include.engine.systems.spark.probes import difference
from include.engine.systems.spark.settings import Settings
from include.engine.systems.spark.standalone import request
from include.engine.systems.spark.submission import DOCUMENT, Submission, submission

FLOWS = {"users": {"shape": "users", "topic": "users_created", "table": "spark_streams.created_users"}}
SECRETS = ("kafka's secret", "cassandra's secret", "the store's secret")
KAFKA = Connection(
    host="k1,k2:9093", login="stream", password=SECRETS[0], extra={"ssl.ca.location": "/etc/ca.pem", "group.id": "x"}
)
CASSANDRA = Connection(host="c1, c2", login="stream", password=SECRETS[1], extra={"datacenter": "dc1"})
STORE = Connection(login="key", password=SECRETS[2], extra={"endpoint_url": "http://127.0.0.1:7000"})


def settings(**changed: Any) -> Settings:
    given_: dict[str, Any] = {"checkpoint": "s3://stream/main", "kafka": "k", "cassandra": "c", "flows": FLOWS}
    return Settings(**(given_ | changed))


def made() -> Submission:
    jars, project = [Path("/spark/a.jar"), Path("/spark/b.jar")], Path("/srv/mainstay")
    return submission("main", settings(), 7, kafka=KAFKA, cassandra=CASSANDRA, store=STORE, jars=jars, project=project)


def test_passwords_are_in_the_environment_and_nowhere_else() -> None:
    ready = made()
    document = request(ready, "spark://m:7077", "/srv/mainstay")
    environment = document.pop("environmentVariables")
    assert all(secret in json.dumps(environment) for secret in SECRETS)
    shown = json.dumps(document) + repr(ready) + json.dumps(dict(ready.properties))
    assert not [secret for secret in SECRETS if secret in shown]


def test_the_job_is_told_what_the_inventory_says() -> None:
    told = json.loads(made().environment[DOCUMENT])
    assert (told["name"], told["generation"], told["checkpoint"]) == ("mainstay-main-7", 7, "s3a://stream/main")
    assert told["group"] == "mainstay-stream-main"
    assert told["flows"]["users"]["dead_letters"] == "users_created.dead"
    assert told["cassandra"]["hosts"] == ["c1", "c2"]
    assert told["kafka"]["bootstrap.servers"] == "k1:9092,k2:9093"
    assert told["kafka"]["ssl.truststore.type"] == "PEM"
    assert "group.id" not in told["kafka"]


def test_a_standalone_driver_is_told_twice_or_it_would_run_in_local_mode() -> None:
    document = request(made(), "spark://m:7077", "/srv/mainstay")
    arguments = document["appArgs"]
    assert arguments[arguments.index("--master") + 1] == document["sparkProperties"]["spark.master"] == "spark://m:7077"
    assert arguments[-1] == "/srv/mainstay/include/jobs/stream.py"
    assert "spark.jars=/spark/a.jar,/spark/b.jar" in arguments


def test_a_password_with_quotes_does_not_end_the_line_that_it_is_in() -> None:
    login = Connection(host="k", login="a", password='x"; evil="y\\')
    config = access.java_properties(login)["sasl.jaas.config"]
    assert config.endswith(' password="x\\"; evil=\\"y\\\\";')


def test_a_login_that_the_job_does_not_know_is_refused() -> None:
    with pytest.raises(Misconfigured, match="GSSAPI"):
        access.java_properties(Connection(host="k", login="a", extra={"sasl.mechanism": "GSSAPI"}))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"checkpoint": "/tmp/checkpoint"}, "neither file"),
        ({"engine": "standalone"}, "needs `cluster`"),
        ({"flows": {"_mainstay": FLOWS["users"]}}, "cannot name a flow"),
        ({"flows": {"a": FLOWS["users"], "b": FLOWS["users"]}}, "the same topic"),
        ({"flows": {}}, "at least 1"),
        ({"stalled_after": "2m"}, "361s or more"),
        ({"profile": "huge"}, "small or production"),
        ({"patience": "10s", "trigger": "5s", "stalled_after": "74s"}, "75s or more"),
    ],
)
def test_what_cannot_run_is_refused_when_the_inventory_is_read(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        settings(**changed)


def test_the_guides_sizes_are_a_profile_with_a_name() -> None:
    profile = settings(profile="production").profile
    assert (profile.driver_memory, profile.executor_memory) == ("4g", "8g")
    assert (profile.executor_cores, profile.cores, profile.shuffle_partitions) == (4, 16, 200)
    assert settings(profile="small") == settings() == settings(profile={"cores": 2})


def test_a_job_is_not_ended_while_its_batch_still_has_patience() -> None:
    told = settings()
    assert told.stalled_after > told.patience + told.trigger
    assert settings(patience="10s", trigger="5s", stalled_after="75s").stalled_after == timedelta(seconds=75)


def place(number: int, *, low: int, end: int, committed: int | None, since: float | None = None, **note: Any) -> Place:
    return Place(partition=number, low=low, end=end, committed=committed, note=note, waits_since=since)


def test_freshness_is_the_age_of_the_oldest_record_that_waits_and_idle_is_none() -> None:
    places = [
        place(0, low=0, end=10, committed=10, since=None, batch=4, at=9_000, ms=500, out=20.0),
        place(1, low=0, end=10, committed=7, since=70.0, batch=3, at=8_000),
        place(2, low=5, end=9, committed=2, since=95.0),
    ]
    seen = positions.seen("users", "t", places, 100.0)
    assert (seen.behind, seen.seconds, seen.lost, seen.position) == (7, 30.0, 3, 19)
    assert (seen.batch, seen.batch_seconds, seen.processed_rate) == (4, 0.5, 20.0)
    idle = positions.seen("users", "t", places[:1], 100.0)
    assert (idle.behind, idle.seconds) == (0, 0.0)


def test_markers_of_transactions_at_the_end_are_no_backlog() -> None:
    seen = positions.seen("users", "t", [place(0, low=0, end=11, committed=10, since=None)], 100.0)
    assert seen == FlowSeen(name="users", topic="t", position=10, behind=0, seconds=0.0)


@given(st.integers(0, 2**40), st.integers(0, 2**62 - 1), st.datetimes(datetime(2000, 1, 1), datetime(2090, 1, 1)))
def test_a_time_uuid_is_one_and_keeps_its_time(number: int, rest: int, at: datetime) -> None:
    moment = at.replace(tzinfo=UTC)
    made_ = people.time_uuid(moment, rest)
    assert (made_.version, made_.variant) == (1, uuid.RFC_4122)
    told = datetime(1582, 10, 15, tzinfo=UTC) + timedelta(microseconds=made_.time // 10)
    assert abs(told - moment) <= timedelta(microseconds=2)
    assert people.user(1, number) == people.user(1, number) != people.user(2, number)


def test_a_random_user_becomes_a_user() -> None:
    found = {
        "gender": "female",
        "name": {"title": "Ms", "first": "Ada", "last": "Lovelace"},
        "location": {
            "street": {"number": 7, "name": "High Street"},
            "city": "Bath",
            "state": "Avon",
            "country": "United Kingdom",
            "postcode": 12345,
        },
        "email": "ada@example.com",
        "login": {"uuid": "155e77ee-ba6d-486f-95ce-0e0c0fb4b919", "username": "ada1"},
        "registered": {"date": "2020-01-01T00:00:00Z", "age": 6},
        "phone": "0123",
        "picture": {"medium": "https://example.com/1.jpg"},
    }
    record = people.from_random_user(found)
    assert set(record) == set(people.user(1, 1))
    assert record["post_code"] == "12345"
    assert record["address"] == "7 High Street, Bath, Avon, United Kingdom"


def test_a_jar_that_is_missing_is_named_before_anything_is_launched(tmp_path: Path) -> None:
    names = [":".join(one.split(":")[1:]).replace(":", "-") + ".jar" for one in LIBRARIES.alone] + ["mainstay-sink.jar"]
    jars = tuple(tmp_path / name for name in names)
    submit = tmp_path / "bin" / "spark-submit"
    submit.parent.mkdir()
    for path in (submit, *jars):
        path.touch()
    whole = Installation(home=tmp_path, jars=jars, python=Path("python3"))
    whole.require()
    for lost in (submit, jars[0], jars[-1]):
        lost.unlink()
        with pytest.raises(NotFound, match=lost.name):
            whole.require()
        lost.touch()


def test_partitions_do_not_make_up_for_each_other_in_the_audit() -> None:
    state = FlowState(batch=3, offsets={"t": {0: 100, 1: 100}})

    def apart(first: int, second: int) -> int:
        places = [place(0, low=0, end=200, committed=first), place(1, low=0, end=200, committed=second)]
        return difference(state, "t", places)

    assert (apart(100, 100), apart(90, 95)) == (0, 15)
    assert apart(90, 110) == apart(80, 110) == -10

"""The engine `emr-serverless` against moto: a FAKE of AWS, which keeps job runs and secrets and runs nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from moto import mock_aws

from include.engine.contracts import Connection
from include.engine.errors import Misconfigured, PermanentError, Unauthorized, Unreachable
from include.engine.streaming import Life
from include.engine.systems.spark import emr_serverless
from include.engine.systems.spark.clients import ShellClusters
from include.engine.systems.spark.emr_serverless import EmrServerlessEngine, request
from include.engine.systems.spark.submission import DOCUMENT, Submission, placed, submission
from tests.systems.spark.test_submission import CASSANDRA, KAFKA, SECRETS, STORE, settings

NAME, PLACE = "mainstay-main-7", "s3://stream/main"
EXTRA = {"execution_role": "arn:aws:iam::123456789012:role/stream", "region_name": "eu-central-1"}


class OneConnection:
    """The connection to AWS, under any name."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def get(self, name: str) -> Connection:
        return self.connection


class Once(ShellClusters):
    """The shell's clusters, whose clients are made once: making one costs more than all that is asked here."""

    made: ClassVar[dict[str, Any]] = {}

    def aws(self, connection: str, service: str) -> Any:
        if service not in self.made:
            self.made[service] = super().aws(connection, service)
        return self.made[service]


def ready(generation: int = 7) -> Submission:
    parts: Any = {"kafka": KAFKA, "cassandra": CASSANDRA, "store": STORE, "jars": ()}
    return submission("main", settings(), generation, **parts, project=Path("/opt/mainstay"))


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmrServerlessEngine]:
    monkeypatch.setattr(emr_serverless, "_POLL", 0.01)
    with mock_aws():
        login = Connection(login="key", password="secret", extra=EXTRA)
        emr = Once(OneConnection(login)).aws("emr", "emr-serverless")
        made = emr.create_application(name="streams", releaseLabel="emr-7.0.0", type="SPARK", clientToken="x")
        connection = msgspec.structs.replace(login, extra={**EXTRA, "application_id": made["applicationId"]})
        yield EmrServerlessEngine("emr", connection, Once(OneConnection(connection)), checkpoint=PLACE)


def become(engine: EmrServerlessEngine, state: str) -> None:
    """Let the fake's newest job run be in another state: it changes none by itself."""
    from moto.emrserverless.models import emrserverless_backends

    runs = emrserverless_backends["123456789012"]["eu-central-1"].job_runs[engine._extra["application_id"]]
    runs[-1].state = state


def secrets(engine: EmrServerlessEngine) -> list[str]:
    return [one["Name"] for one in engine._secrets.list_secrets()["SecretList"]]


def test_a_job_run_is_rendered_as_it_was() -> None:
    extra = {**EXTRA, "application_id": "00f", "logs": "s3://logs/stream/"}
    made = request(ready(), placed(NAME, PLACE), extra)
    properties = made["configurationOverrides"]["applicationConfiguration"][0].pop("properties")
    assert made == {
        "applicationId": "00f",
        "executionRoleArn": "arn:aws:iam::123456789012:role/stream",
        "name": "mainstay-main-7-c55589",
        "mode": "STREAMING",
        "retryPolicy": {"maxFailedAttemptsPerHour": 1},
        "jobDriver": {"sparkSubmit": {"entryPoint": "local:///opt/mainstay/include/jobs/stream.py"}},
        "configurationOverrides": {
            "applicationConfiguration": [{"classification": "spark-defaults"}],
            "monitoringConfiguration": {"s3MonitoringConfiguration": {"logUri": "s3://logs/stream/"}},
        },
        "tags": {"mainstay-job": "main", "mainstay-launch": "mainstay-main-7-c55589"},
    }
    assert properties[f"spark.emr-serverless.driverEnv.{DOCUMENT}"] == "EMR.secret@mainstay/mainstay-main-7-c55589"
    assert properties["spark.emr-serverless.driverEnv.PYTHONPATH"] == "/opt/mainstay"
    assert properties["spark.executor.instances"] == "1"
    assert properties["spark.dynamicAllocation.enabled"] == "false"
    assert not [key for key in properties if key.startswith(("spark.jars", "spark.cores.max", "spark.hadoop.fs.s3a"))]


def test_no_password_is_in_a_job_run_and_all_are_in_its_secret(engine: EmrServerlessEngine) -> None:
    number = engine.launch(ready())
    run = engine._emr.get_job_run(applicationId=engine._extra["application_id"], jobRunId=number)["jobRun"]
    shown = json.dumps(run, default=str)
    assert not [secret for secret in (*SECRETS, "the store's secret") if secret in shown]
    kept = engine._secrets.get_secret_value(SecretId=f"mainstay/{placed(NAME, PLACE)}")["SecretString"]
    assert all(secret in kept for secret in SECRETS[:2])


def test_it_is_found_by_its_handle_and_by_its_name_alone(engine: EmrServerlessEngine) -> None:
    assert engine.life(NAME, None) is Life.ABSENT
    number = engine.launch(ready())
    for state, life in {
        "SUBMITTED": Life.STARTING,
        "QUEUED": Life.STARTING,
        "RUNNING": Life.RUNNING,
        "CANCELLING": Life.RUNNING,  # it may still write
        "FAILED": Life.ABSENT,
        "SUCCESS": Life.ABSENT,
    }.items():
        become(engine, state)
        assert engine.life(NAME, number) is life
        assert engine.life(NAME, None) is life
    assert engine.life("mainstay-main-8", None) is Life.ABSENT
    become(engine, "RUNNING")
    elsewhere = EmrServerlessEngine(
        "emr", Connection(extra=engine._extra), engine._clusters, checkpoint="s3://other/main"
    )
    assert elsewhere.life(NAME, None) is Life.ABSENT
    assert number in engine.logs(NAME, None)


def test_ending_it_cancels_it_and_takes_its_secret(engine: EmrServerlessEngine) -> None:
    engine.end(NAME, None)
    number = engine.launch(ready())
    become(engine, "RUNNING")
    assert secrets(engine) == [f"mainstay/{placed(NAME, PLACE)}"]
    engine.end(NAME, None)
    assert engine.life(NAME, number) is Life.ABSENT
    assert secrets(engine) == []
    engine.end(NAME, number)


def test_one_that_does_not_end_lets_nobody_launch(engine: EmrServerlessEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    number = engine.launch(ready())
    become(engine, "CANCELLING")
    monkeypatch.setattr(emr_serverless, "_GONE_WITHIN", 0.0)
    with pytest.raises(Unreachable, match="did not end"):
        engine.end(NAME, number)


def test_the_next_launch_takes_the_secret_of_the_last(engine: EmrServerlessEngine) -> None:
    engine.launch(ready(7))
    engine.launch(ready(8))
    assert secrets(engine) == [f"mainstay/{placed('mainstay-main-8', PLACE)}"]


def test_an_application_that_is_not_there_is_said_so_and_no_secret_stays(engine: EmrServerlessEngine) -> None:
    lost = Connection(extra={**engine._extra, "application_id": "nowhere"})
    other = EmrServerlessEngine("emr", lost, engine._clusters, checkpoint=PLACE)
    with pytest.raises(Misconfigured, match="no EMR Serverless application nowhere"):
        other.launch(ready())
    assert secrets(engine) == []


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("AccessDeniedException", Unauthorized),
        ("ThrottlingException", Unreachable),
        ("ValidationException", PermanentError),
    ],
)
def test_what_aws_answers_is_said_with_what_to_do(
    engine: EmrServerlessEngine, monkeypatch: pytest.MonkeyPatch, code: str, kind: type[Exception]
) -> None:
    def answer(**asked: Any) -> None:
        raise ClientError({"Error": {"Code": code, "Message": "no"}}, "StartJobRun")

    monkeypatch.setattr(engine._emr, "start_job_run", answer)
    with pytest.raises(kind):
        engine.launch(ready())
    # Of a launch whose answer is not known, the run may be there, and needs its secret; the next launch takes it.
    assert len(secrets(engine)) == (kind is Unreachable)


def test_silence_is_not_absence(engine: EmrServerlessEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def silence(**asked: Any) -> None:
        raise EndpointConnectionError(endpoint_url="https://emr")

    monkeypatch.setattr(engine._emr, "get_job_run", silence)
    with pytest.raises(Unreachable):
        engine.life(NAME, "run")


def test_a_connection_that_lacks_something_says_what() -> None:
    with pytest.raises(Misconfigured, match="no application_id"):
        EmrServerlessEngine("emr", Connection(), ShellClusters(OneConnection(Connection())), checkpoint=PLACE)
    assumes = Connection(extra={"role_arn": "arn:…"})
    with pytest.raises(Misconfigured, match="role to assume"):
        ShellClusters(OneConnection(assumes)).aws("emr", "emr-serverless")

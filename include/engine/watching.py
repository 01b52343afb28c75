"""What the inventory says about being watched: what else the sweep reads, what is expected of it, and who is told.

Read at DAG parsing.  Secrets are named here, never written: the address of a chat's webhook is one, so it is a connection too.
"""

from __future__ import annotations

from datetime import date, timedelta
from enum import StrEnum
from pathlib import Path

from pydantic import Field, field_validator

from include.engine.sections import Duration, Section, unless_given

CUSTOM = "custom"  # the system of probes that belong to none: those that rule files declare by a URL or a command


class Severity(StrEnum):
    """How soon a person must act."""

    PAGE = "page"  # now, also at night
    TODAY = "today"
    WEEK = "this-week"


class AirflowWatch(Section):
    """The Airflow that is watched."""

    connection: str = Field(description="name of the connection to its API server: host (a URL), login, password")
    api_servers: tuple[str, ...] = Field(
        (), description="URLs of the API servers behind that address, each asked itself; only that address when empty"
    )
    must_run: tuple[str, ...] = Field((), description="DAGs that must not be paused")
    late_after: dict[str, Duration] = Field(
        default_factory=dict,
        description="per DAG: how old its last success may be (of the sweep and the checklists: its last run, as they are red by "
        "what they find); the others are judged by failures in a row",
    )
    log_folder: Path | None = Field(None, description="where task logs lie on this machine, for the evening's errors")


class EndpointWatch(Section):
    """An HTTP endpoint that must answer: Superset's ``/health``, a load balancer, anything."""

    url: str = Field(pattern=r"^https?://", description="what is asked for by GET")
    connection: str | None = Field(None, description="name of the connection with the login, for basic authentication")
    status: int = Field(200, ge=100, le=599, description="the status that it must answer with")
    body: str | None = Field(None, description="text that its body must hold; Superset's /health says OK")
    ca: Path | None = Field(None, description="file with the certificates that sign its own, when it is a private one")


class HostWatch(Section):
    """The machine on which the sweep's worker runs."""

    disks: tuple[Path, ...] = Field((Path("/"),), description="directories whose file systems are read")
    sandbox: Path | None = Field(None, description="a sandbox whose servers' memory is read, one series per process")
    node_exporter: str | None = Field(None, description="URL of a node exporter to read instead of this machine")


class SweepSection(Section):
    """The health sweep."""

    timeout: Duration = Field(timedelta(seconds=10), description="how long one probe may take")
    history: str | None = Field(
        None, description="name of a connection to the PostgreSQL that keeps the history; a SQLite file when not given"
    )
    metrics_token: str | None = Field(
        None, description="name of a connection whose password lets Prometheus read `/mainstay/scrape` without a login"
    )
    settle: Duration = Field(timedelta(minutes=10), description="how long a finding must be gone before it is closed")
    rules: tuple[Path, ...] = Field(
        (),
        description="rule files besides include/config/rules.yaml, relative to the inventory; a rule of the same name wins",
    )
    airflow: dict[str, AirflowWatch] = Field(default_factory=dict, description="Airflows that are watched")
    endpoints: dict[str, EndpointWatch] = Field(default_factory=dict, description="HTTP endpoints that are watched")
    hosts: dict[str, HostWatch] = Field(default_factory=dict, description="machines that are watched")
    logs: dict[str, str] = Field(
        default_factory=dict,
        description="log files on this machine, as patterns in which `$NAME` is a variable of the environment: the evening's "
        "checklist groups their errors",
    )

    @field_validator("airflow", "endpoints", "hosts", "logs")
    @classmethod
    def _names_are_names(cls, value: dict[str, object]) -> dict[str, object]:
        for name in value:
            if not name or not all(letter.isascii() and (letter.isalnum() or letter in "_-") for letter in name):
                msg = f"{name!r} cannot be a name: use letters, digits, _ and -"
                raise ValueError(msg)
        return value


class PostgresExpect(Section):
    """What is expected of every PostgreSQL target."""

    standbys: int | None = Field(None, ge=0, description="streaming standbys, at least")
    synchronous_standbys: int | None = Field(None, ge=0, description="synchronous standbys, at least")


class CassandraExpect(Section):
    """What is expected of every Cassandra target."""

    nodes: int | None = Field(None, ge=1, description="live nodes, at least")
    replication_factor: int | None = Field(None, ge=1, description="replicas of every keyspace of the user, at least")
    quorum: bool = Field(False, description="whether the streams must write with a quorum (QUORUM, LOCAL_QUORUM, …)")
    repair_within: Duration | None = Field(None, description="how old the last repair of every table may be")


class KafkaExpect(Section):
    """What is expected of every Kafka target."""

    brokers: int | None = Field(None, ge=1, description="live brokers, at least")
    replication_factor: int | None = Field(None, ge=1, description="replicas of every topic, at least")
    min_insync_replicas: int | None = Field(
        None, ge=1, description="`min.insync.replicas` of every topic, at least: what a write with acks=all waits for"
    )
    partitions_per_broker: float | None = Field(
        None, gt=0, description="partitions of every topic for each broker, at least; 1 when each broker must have one"
    )


class SparkExpect(Section):
    """What is expected of every Spark target."""

    masters: int | None = Field(None, ge=1, description="masters that answer, at least; 2 is a highly available pair")
    workers: int | None = Field(None, ge=0, description="workers, at least")
    batch_seconds: float | None = Field(None, gt=0, description="the SLA of one micro-batch, in seconds")


class AirflowExpect(Section):
    """What is expected of every watched Airflow."""

    schedulers: int | None = Field(None, ge=1, description="schedulers with a heartbeat, at least")
    triggerers: int | None = Field(None, ge=1, description="triggerers with a heartbeat, at least")
    dag_processors: int | None = Field(None, ge=1, description="DAG processors with a heartbeat, at least")
    api_servers: int | None = Field(None, ge=1, description="API servers that answer (`sweep.airflow`), at least")


class ExpectSection(Section):
    """The topology as it was meant to be.  What is not declared is not judged."""

    postgres: PostgresExpect = unless_given()
    cassandra: CassandraExpect = unless_given()
    kafka: KafkaExpect = unless_given()
    spark: SparkExpect = unless_given()
    airflow: AirflowExpect = unless_given()

    def value(self, name: str) -> float | None:
        """Give what ``expect.<name>`` stands for in a rule, such as ``kafka.brokers``; nothing when it was not declared.

        :raises KeyError: when there is no such expectation
        """
        if name in _DERIVED:
            return self._derived(name)
        system, _, key = name.partition(".")
        section = getattr(self, system) if system in type(self).model_fields else None
        if section is None or key not in type(section).model_fields:
            raise KeyError(name)
        found = getattr(section, key)
        if isinstance(found, timedelta):
            return found.total_seconds()
        return None if found is None or found is False else float(found)

    def _derived(self, name: str) -> float | None:
        """Give how many exceptions are tolerable: none, once the inventory says that there should be none."""
        declared = {"cassandra.unrepaired": self.cassandra.repair_within is not None}
        return 0.0 if declared[name] else None


_DERIVED = ("cassandra.unrepaired",)


class NotifyKind(StrEnum):
    """How a message is sent."""

    SMTP = "smtp"
    SLACK = "slack"
    PAGERDUTY = "pagerduty"


class NotifySection(Section):
    """One place that is told of findings, once per change."""

    kind: NotifyKind
    connection: str = Field(
        description="smtp: host, port, login, password; slack: the webhook's URL as the password; pagerduty: the routing key as "
        "the password, and as the host the URL of an events API other than PagerDuty's own"
    )
    to: tuple[str, ...] = Field((), description="smtp: who gets the mail")
    sender: str = Field("mainstay@localhost", description="smtp: who it is from")
    severities: tuple[Severity, ...] = Field((), description="only these; all when empty")
    teams: tuple[str, ...] = Field((), description="only findings of these teams; all when empty")


class EvidenceSection(Section):
    """Something that people did, where it is written down, and how long it counts."""

    document: str = Field(description="file of the repository, or a URL")
    passed: date = Field(description="the day on which it was passed")
    by: str = Field(description="who stands for it")
    valid_for: Duration = Field(timedelta(days=90), description="for how long it counts")


class DeploymentSection(Section):
    """What the checklist before a deployment asks for."""

    security_audit: EvidenceSection | None = Field(
        None, description="the last audit; without one that item is UNVERIFIED"
    )
    drill_within: Duration = Field(timedelta(days=8), description="how old the last passed drill may be")
    load_test_within: Duration = Field(timedelta(days=90), description="how old the last passed load test may be")
    documents: tuple[Path, ...] = Field(
        (Path("README.md"), Path("docs/architecture.md"), Path("SECURITY.md")),
        description="documents that must be there, besides the runbook of every rule",
    )

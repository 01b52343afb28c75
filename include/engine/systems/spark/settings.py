"""What the inventory says about a streaming job.  It is read at DAG parsing, so this imports no client library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from include.engine.inventory import Duration, Section, TargetSettings

_SLACK = timedelta(minutes=1)  # for the last attempts of a batch whose patience is over
_NAME = r"^[A-Za-z0-9_]{1,48}\.[A-Za-z0-9_]{1,48}$"


class Flow(Section):
    """From one topic to one table."""

    shape: Literal["users", "events"] = Field(description="how the records are read: include/jobs/shapes.py")
    topic: str = Field(pattern=r"^[A-Za-z0-9._-]{1,249}$", description="where the records come from")
    table: str = Field(pattern=_NAME, description="keyspace and table that they go to")
    dead_letters: str = Field(
        "", description="topic that broken records go to; the topic's name with `.dead` when empty"
    )
    max_offsets: int = Field(50_000, ge=1, description="offsets in a batch, at most")
    allow_unrepeatable: bool = Field(
        default=False, description="run though a replay would write other keys; no set is consistent then, and says so"
    )
    replaced: dict[str, str] = Field({}, description="SQL expressions that stand in for columns of the table")

    @property
    def letters(self) -> str:
        """The topic of its dead letters."""
        return self.dead_letters or f"{self.topic}.dead"


class Profile(Section):
    """What the job gets: each value, or the name of a profile, ``small`` (the defaults) or ``production`` (the guide's)."""

    driver_memory: str = Field("1g", pattern=r"^\d+[mg]$", description="heap of the driver")
    executor_memory: str = Field("1g", pattern=r"^\d+[mg]$", description="heap of each executor")
    executor_cores: int = Field(2, ge=1, description="cores of each executor; of the driver, in local mode")
    cores: int = Field(2, ge=1, description="cores of all executors together")
    java_options: str = Field("", description="more options of the driver's and the executors' Java; never a password")
    shuffle_partitions: int = Field(4, ge=1, description="of stateful queries; a stream's plan never changes it")


# The defaults carry some thousand records a second on two cores.
PROFILES: Mapping[str, Profile] = {
    "small": Profile(),
    "production": Profile(driver_memory="4g", executor_memory="8g", executor_cores=4, cores=16, shuffle_partitions=200),
}


class Settings(TargetSettings):
    """One streaming job, and its checkpoint."""

    connection: str = Field(
        "", description="name of the connection to the checkpoint's object store; empty for a directory"
    )
    checkpoint: str = Field(
        description="where the checkpoint is: file:///path or s3://bucket/prefix; never another job's"
    )
    kafka: str = Field(description="name of the connection to Kafka")
    cassandra: str = Field(description="name of the connection to Cassandra; its role needs SELECT and MODIFY")
    flows: dict[str, Flow] = Field(min_length=1, description="what goes where, by name; a name is never used again")
    engine: Literal["local", "standalone", "kubernetes", "emr-serverless"] = Field(
        "local", description="what runs it: a process here, a standalone cluster, Kubernetes, or EMR Serverless"
    )
    cluster: str = Field("", description="name of the connection to the cluster; not for `local`")
    directory: str = Field(
        "", description="where the local engine keeps its records; `.mainstay` in the project when empty"
    )
    trigger: Duration = Field(
        timedelta(seconds=1), description="time between two batches; 5s or more on an object store"
    )
    group: str = Field("", description="Kafka group that shows how far the job is; `mainstay-stream-<job>` when empty")
    profile: Profile = Profile()
    consistency: str = Field("LOCAL_QUORUM", pattern=r"^[A-Z_]+$", description="of the writes to Cassandra")
    in_flight: int = Field(128, ge=1, le=4096, description="writes on their way at once, of each task")
    patience: Duration = Field(timedelta(minutes=5), description="for how long a batch waits for Cassandra")
    stalled_after: Duration = Field(
        timedelta(minutes=7),
        description="a flow with a backlog that has not moved for this long is restarted; a minute more than `patience` "
        "and `trigger`, and more than the longest batch",
    )
    restarts: int = Field(5, ge=0, description="launches in an hour after which a person is called instead")
    conf: dict[str, str] = Field({}, description="more properties of Spark; never a password")

    @field_validator("checkpoint")
    @classmethod
    def _is_place(cls, url: str) -> str:
        if urlsplit(url).scheme not in ("file", "s3"):
            raise ValueError(f"{url!r} is neither file:///path nor s3://bucket/prefix")
        return url.rstrip("/")

    @field_validator("profile", mode="before")
    @classmethod
    def _by_name(cls, told: object) -> object:
        if not isinstance(told, str):
            return told
        if told not in PROFILES:
            raise ValueError(f"{told!r} is no profile: {' or '.join(PROFILES)}, or its values")
        return PROFILES[told]

    @field_validator("flows")
    @classmethod
    def _are_folders(cls, flows: dict[str, Flow]) -> dict[str, Flow]:
        for name in flows:
            if not name.replace("_", "").replace("-", "").isalnum() or name.startswith("_"):
                raise ValueError(
                    f"{name!r} cannot name a flow: use letters, digits, - and _, and no _ at the beginning"
                )
        topics = [flow.topic for flow in flows.values()]
        if len(set(topics)) < len(topics):
            raise ValueError("two flows read the same topic, and one group cannot show both: declare two jobs")
        return flows

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.engine != "local" and not self.cluster:
            raise ValueError(f"the engine {self.engine} needs `cluster`, the name of its connection")
        if self.engine in ("kubernetes", "emr-serverless") and not self.checkpoint.startswith("s3://"):
            raise ValueError(
                f"the engine {self.engine} needs a checkpoint in an object store: a pod's directory goes with it"
            )
        return self

    @model_validator(mode="after")
    def _waits_before_it_is_ended(self) -> Self:
        least = self.patience + self.trigger + _SLACK
        if self.stalled_after < least:
            raise ValueError(
                "`stalled_after` must be a minute more than `patience` and `trigger` together, "
                f"{least.total_seconds():.0f}s or more: a batch that waits for Cassandra would be ended before its patience is"
            )
        return self

    def connections(self) -> Sequence[str]:
        """Name those of both of its sides, and of what runs it, too."""
        return [*super().connections(), *(name for name in (self.kafka, self.cassandra, self.cluster) if name)]

    def group_of(self, job: str) -> str:
        """The group that shows how far *job* is."""
        return self.group or f"mainstay-stream-{job}"

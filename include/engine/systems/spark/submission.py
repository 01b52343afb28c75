"""What the job is told and what Spark is told, from the inventory.  Pure; what is secret stays out of Spark's properties."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from include.engine.contracts import Connection
from include.engine.systems.spark import access
from include.engine.systems.spark.settings import Settings

DOCUMENT = "MAINSTAY_STREAM"  # as include/jobs/stream.py reads it
SCRIPT = Path("include/jobs/stream.py")
LOGGING = Path("include/jobs/log4j2.properties")
# A freeze reads the newest batches' notes; Spark's 100 are gone after 100 s at one batch a second.
_BATCHES_KEPT = "1000"


class Submission(Struct, frozen=True, kw_only=True):
    """One launch, ready for any engine.  Its ``repr`` hides the environment, which holds passwords."""

    job: str
    name: str  # of the application: the same for the same launch, so it is found again
    generation: int
    properties: Mapping[str, str]
    environment: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Submission({self.name})"


def application(job: str, generation: int) -> str:
    """Name the application of a launch."""
    return f"mainstay-{job}-{generation}"


def placed(name: str, checkpoint: str) -> str:
    """Name an application where others run too: the same job of another checkpoint is another one.  Fit for DNS."""
    digest = hashlib.sha256(f"{checkpoint} {name}".encode()).hexdigest()[:6]
    return f"{name.lower().replace('_', '-')[:40].rstrip('-')}-{digest}"  # Spark allows 47 characters before executors' numbers


def in_image(extra: Mapping[str, str]) -> Path:
    """Give where the job's code is in an image."""
    return Path(extra.get("project") or "/opt/mainstay")


def spark_url(checkpoint: str) -> str:
    """Write the checkpoint's place as Spark's file systems do."""
    return "s3a" + checkpoint.removeprefix("s3") if checkpoint.startswith("s3://") else checkpoint


def submission(
    job: str,
    settings: Settings,
    generation: int,
    *,
    kafka: Connection,
    cassandra: Connection,
    store: Connection | None,
    jars: Sequence[Path],
    project: Path,
) -> Submission:
    """Say what to launch.

    :param generation: number of the launch in its checkpoint
    :param store: how the checkpoint's object store is reached; None for a directory
    :param jars: what the job needs beside Spark's own, by absolute path
    :param project: where the job's code is, on the machine that runs it
    """
    told = document(job, settings, generation, kafka=kafka, cassandra=cassandra)
    return Submission(
        job=job,
        name=application(job, generation),
        generation=generation,
        properties=properties(settings, jars, store, project),
        environment={DOCUMENT: json.dumps(told), **_store_login(store)},
    )


def document(
    job: str, settings: Settings, generation: int, *, kafka: Connection, cassandra: Connection
) -> dict[str, Any]:
    """Give what the job is told.  Passwords are in it."""
    sink = access.cassandra(cassandra)
    sink["options"] |= {
        "consistency": settings.consistency,
        "in_flight": str(settings.in_flight),
        "deadline_seconds": str(int(settings.patience.total_seconds())),
    }
    flows = {
        name: {
            "shape": flow.shape,
            "topic": flow.topic,
            "table": flow.table,
            "dead_letters": flow.letters,
            "max_offsets": flow.max_offsets,
            "allow_unrepeatable": flow.allow_unrepeatable,
            "replaced": dict(flow.replaced),
        }
        for name, flow in settings.flows.items()
    }
    return {
        "job": job,
        "name": application(job, generation),
        "generation": generation,
        "checkpoint": spark_url(settings.checkpoint),
        "group": settings.group_of(job),
        "trigger_ms": int(settings.trigger.total_seconds() * 1000),
        "kafka": access.java_properties(kafka),
        "cassandra": sink,
        "flows": flows,
    }


def properties(settings: Settings, jars: Sequence[Path], store: Connection | None, project: Path) -> dict[str, str]:
    """Give Spark's properties, without the master and without secrets."""
    profile = settings.profile
    java = f"-Dlog4j2.configurationFile=file:{project / LOGGING} {profile.java_options}".strip()
    found = {
        "spark.driver.extraJavaOptions": java,
        "spark.executor.extraJavaOptions": java,
        "spark.jars": ",".join(map(str, jars)),
        "spark.driver.memory": profile.driver_memory,
        "spark.executor.memory": profile.executor_memory,
        "spark.executor.cores": str(profile.executor_cores),
        "spark.cores.max": str(profile.cores),
        "spark.sql.shuffle.partitions": str(profile.shuffle_partitions),
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.streaming.minBatchesToRetain": _BATCHES_KEPT,
        "spark.sql.streaming.metricsEnabled": "true",
        # Executors that come and go with the backlog would each begin cold, in the very moment when speed is needed.
        "spark.dynamicAllocation.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    if settings.checkpoint.startswith("s3://"):
        found |= _object_store(store)
    return found | settings.conf


def _object_store(store: Connection | None) -> dict[str, str]:
    endpoint = store.extra.get("endpoint_url", "") if store else ""
    found = {
        "spark.hadoop.fs.s3a.path.style.access": "true" if endpoint else "false",
        "spark.hadoop.fs.s3a.aws.credentials.provider": (
            "software.amazon.awssdk.auth.credentials.EnvironmentVariableCredentialsProvider"
        ),
    }
    if endpoint:
        found["spark.hadoop.fs.s3a.endpoint"] = endpoint
        found["spark.hadoop.fs.s3a.connection.ssl.enabled"] = str(endpoint.startswith("https")).lower()
    region = (store.extra.get("region_name") if store else None) or ("us-east-1" if endpoint else "")
    if region:  # of a server that is not Amazon's, Hadoop guesses another one than everybody else, and signs for that
        found["spark.hadoop.fs.s3a.endpoint.region"] = region
    return found


def _store_login(store: Connection | None) -> dict[str, str]:
    if store is None or not store.login:
        return {}
    return {"AWS_ACCESS_KEY_ID": store.login, "AWS_SECRET_ACCESS_KEY": store.password}

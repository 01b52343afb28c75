"""EMR Serverless: a job run of an application, in streaming mode.

The document that tells the job what to do holds passwords.  So it goes into a secret of the launch in Secrets Manager, and the job
run names that secret: EMR puts its value in when the driver starts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, TypeVar

from include.engine.contracts import Connection
from include.engine.errors import Misconfigured, PermanentError, Unauthorized, Unreachable
from include.engine.streaming import Life
from include.engine.systems.spark.clients import Clusters
from include.engine.systems.spark.submission import DOCUMENT, SCRIPT, Submission, application, in_image, placed

_STARTING = {"SUBMITTED", "PENDING", "SCHEDULED", "QUEUED"}
_THERE = _STARTING | {"RUNNING", "CANCELLING"}
_OVER = {"SUCCESS", "FAILED", "CANCELLED"}  # in any other, one that is not known yet included, it may write
_GONE_WITHIN = 180.0  # seconds
_POLL = 2.0
_NOT_HERE = ("spark.jars", "spark.cores.max", "spark.hadoop.fs.s3a.")  # the role opens the store
_REFUSED = {"AccessDeniedException", "UnrecognizedClientException", "ExpiredTokenException", "InvalidClientTokenId"}
_ABSENT = "ResourceNotFoundException"
_BUSY = {
    "ThrottlingException",
    "InternalServerException",
    "InternalServiceError",
    "ServiceUnavailable",
    "ConflictException",
}

Result = TypeVar("Result")


class EmrServerlessEngine:
    """Runs the job on EMR Serverless.

    :param cluster: name of the connection
    :param connection: to AWS; extras ``application_id``, ``execution_role`` (an ARN), ``project`` (where the job's code is in the
        application's image), ``logs`` (an S3 URL)
    :param checkpoint: the same job of another checkpoint is another application
    """

    def __init__(self, cluster: str, connection: Connection, clusters: Clusters, *, checkpoint: str) -> None:
        self._cluster = cluster
        self._clusters = clusters
        self._checkpoint = checkpoint
        self._extra = connection.extra
        for key in ("application_id", "execution_role"):
            if not self._extra.get(key):
                raise Misconfigured(
                    f"the connection {cluster} names no {key}", hint=f'give {{"{key}": "…"}} in its extras'
                )

    @cached_property
    def _emr(self) -> Any:
        return self._clusters.aws(self._cluster, "emr-serverless")

    @cached_property
    def _secrets(self) -> Any:
        return self._clusters.aws(self._cluster, "secretsmanager")

    def launch(self, submission: Submission) -> str:
        """Start a job run (see ``engines.Engine``)."""
        name = placed(submission.name, self._checkpoint)
        self._keep_secret(name, submission.environment[DOCUMENT])
        try:
            asked = request(submission, name, self._extra)
            # A try that is repeated by the client carries the same token, so it starts one.
            answer = self._asked(lambda: self._emr.start_job_run(**asked))
        except PermanentError:
            self._drop_secret(name)
            raise  # of another error it is not known whether the run began: it is looked for by its name, and needs its secret
        if answer is None:
            self._drop_secret(name)
            raise Misconfigured(
                f"there is no EMR Serverless application {self._extra['application_id']}",
                hint=f"see the extras of the connection {self._cluster}, and its region",
            )
        self._drop_secret(placed(application(submission.job, submission.generation - 1), self._checkpoint))
        return str(answer["jobRunId"])

    def life(self, name: str, handle: str | None) -> Life:
        """Say whether it runs (see ``engines.Engine``)."""
        run = self._run(handle) if handle else self._find(name)
        if run is None or run["state"] in _OVER:
            return Life.ABSENT
        return Life.STARTING if run["state"] in _STARTING else Life.RUNNING

    def end(self, name: str, handle: str | None, *, kill: bool = False) -> None:
        """Cancel the job run, and wait until it is over (see ``engines.Engine``)."""
        del kill  # EMR knows one way
        run = self._run(handle) if handle else self._find(name)
        if run and run["state"] not in _OVER:
            where = {"applicationId": self._extra["application_id"], "jobRunId": run.get("jobRunId") or run["id"]}
            if run["state"] != "CANCELLING":
                self._asked(lambda: self._emr.cancel_job_run(**where))
            until = time.monotonic() + _GONE_WITHIN
            while self.life(name, where["jobRunId"]) is not Life.ABSENT:
                if time.monotonic() > until:
                    raise Unreachable(
                        f"the job run {where['jobRunId']} did not end within {_GONE_WITHIN:.0f} s",
                        hint="cancel it in the console of EMR Studio",
                    )
                time.sleep(_POLL)
        self._drop_secret(placed(name, self._checkpoint))

    def logs(self, name: str, handle: str | None) -> str:
        """Give what EMR says of it, and where the driver's output is (see ``engines.Engine``)."""
        run = self._run(handle) if handle else self._find(name)
        if run is None:
            return f"there is no job run of {name}"
        number, application_id = run.get("jobRunId") or run["id"], self._extra["application_id"]
        root = self._extra.get("logs")
        where = f"{root.rstrip('/')}/applications/{application_id}/jobs/{number}/" if root else "EMR's own storage"
        return f"the job run {number} is {run['state']}: {run.get('stateDetails') or 'no details'}. Logs: {where}"

    def _run(self, number: str) -> Mapping[str, Any] | None:
        application_id = self._extra["application_id"]
        answer = self._asked(lambda: self._emr.get_job_run(applicationId=application_id, jobRunId=number))
        return answer["jobRun"] if answer else None

    def _find(self, name: str) -> Mapping[str, Any] | None:
        """Find the newest job run of that name that is not over."""
        wanted = placed(name, self._checkpoint)

        def listed() -> list[Mapping[str, Any]]:
            pages = self._emr.get_paginator("list_job_runs").paginate(
                applicationId=self._extra["application_id"], states=sorted(_THERE)
            )
            return [run for page in pages for run in page["jobRuns"] if run.get("name") == wanted]

        found = self._asked(listed) or []
        return max(found, key=lambda run: run["createdAt"], default=None)

    def _keep_secret(self, name: str, value: str) -> None:
        known = self._asked(lambda: self._secrets.describe_secret(SecretId=secret(name)))
        if known is None:
            self._asked(lambda: self._secrets.create_secret(Name=secret(name), SecretString=value))
        else:
            self._asked(lambda: self._secrets.put_secret_value(SecretId=secret(name), SecretString=value))

    def _drop_secret(self, name: str) -> None:
        self._asked(lambda: self._secrets.delete_secret(SecretId=secret(name), ForceDeleteWithoutRecovery=True))

    def _asked(self, ask: Callable[[], Result]) -> Result | None:
        """Give the answer; None when what was asked about is not there."""
        from botocore import exceptions as failures

        try:
            return ask()
        except failures.ClientError as error:
            code = str(error.response.get("Error", {}).get("Code"))
            said = str(error.response.get("Error", {}).get("Message", ""))
            if code == _ABSENT:
                return None
            if code in _REFUSED:
                raise Unauthorized(f"AWS refuses: {code}: {said}", hint="give the role of docs/stream.md") from None
            if code in _BUSY:
                raise Unreachable(f"AWS answers {code}: {said}", hint="look again") from None
            raise PermanentError(f"AWS refuses: {code}: {said}", hint=f"see the connection {self._cluster}") from None
        except failures.NoCredentialsError as error:
            raise Unauthorized(
                "there are no credentials for AWS", hint=f"see the connection {self._cluster}"
            ) from error
        except (failures.ConnectionError, failures.HTTPClientError) as error:
            raise Unreachable(f"AWS does not answer: {type(error).__name__}", hint="check the way to it") from error
        except failures.BotoCoreError as error:
            raise Misconfigured(f"AWS cannot be asked: {error}", hint=f"see the connection {self._cluster}") from error


def secret(name: str) -> str:
    """Name the secret of a launch."""
    return f"mainstay/{name}"


def request(submission: Submission, name: str, extra: Mapping[str, str]) -> dict[str, Any]:
    """Write the job run.  Pure; the secret is named, never given."""
    properties = {key: value for key, value in submission.properties.items() if not key.startswith(_NOT_HERE)}
    cores = int(submission.properties["spark.cores.max"])
    project = in_image(extra)
    properties |= {
        "spark.executor.instances": str(max(1, cores // int(properties["spark.executor.cores"]))),
        "spark.emr-serverless.driverEnv.PYTHONPATH": str(project),
        f"spark.emr-serverless.driverEnv.{DOCUMENT}": f"EMR.secret@{secret(name)}",
        # The driver's page and its event log show properties.
        "spark.redaction.regex": f"(?i)secret|password|token|access[.]?key|{DOCUMENT}",
    }
    found: dict[str, Any] = {
        "applicationId": extra["application_id"],
        "executionRoleArn": extra["execution_role"],
        "name": name,
        "mode": "STREAMING",  # no limit of time
        # One is none: who decides about restarts is not EMR.
        "retryPolicy": {"maxFailedAttemptsPerHour": 1},
        "jobDriver": {"sparkSubmit": {"entryPoint": f"local://{project / SCRIPT}"}},
        "configurationOverrides": {
            "applicationConfiguration": [{"classification": "spark-defaults", "properties": properties}]
        },
        "tags": {"mainstay-job": submission.job, "mainstay-launch": name},
    }
    if logs := extra.get("logs"):
        found["configurationOverrides"]["monitoringConfiguration"] = {"s3MonitoringConfiguration": {"logUri": logs}}
    return found

"""Kubernetes: the driver is a pod of our own naming, submitted by ``spark-submit`` in cluster mode.

The document that tells the job what to do holds passwords.  So it goes into a Secret of the launch, over the API; what is submitted
names that Secret and nothing in it.  The Secret belongs to the driver's pod, and goes when the pod goes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from include.engine.contracts import Connection
from include.engine.errors import MainstayError, Misconfigured, Refused, Unreachable
from include.engine.streaming import Life
from include.engine.systems.spark.clients import Clusters, SparkSubmit
from include.engine.systems.spark.pods import JOB, LAUNCH, Pods
from include.engine.systems.spark.submission import SCRIPT, Submission, application, in_image, placed

_GONE_WITHIN = 120.0  # seconds
_GRACE, _AT_ONCE = (
    30,
    1,
)  # seconds; 0 would take the pod out of the API before anybody knows that its processes are gone
_POLL = 1.0
_ENDED = {"Succeeded", "Failed"}
# Of other engines; the rest of what is said of jars is in the image.
_NOT_HERE = {"spark.jars", "spark.cores.max"}


class KubernetesEngine:
    """Runs the job on Kubernetes.

    :param cluster: name of the connection
    :param connection: host ``k8s://https://…`` and port of the API; extras ``image``, ``namespace``, ``service_account`` (of the
        driver, which starts executors), ``project`` (where the job's code is in the image)
    :param checkpoint: the same job of another checkpoint is another application
    :param spark: gives the Spark that submits
    """

    def __init__(
        self, cluster: str, connection: Connection, clusters: Clusters, *, checkpoint: str, spark: Callable[[], Path]
    ) -> None:
        self._cluster = cluster
        self._clusters = clusters
        self._checkpoint = checkpoint
        self._spark = spark
        self._extra = connection.extra
        self._master = f"{connection.host}:{connection.port}" if connection.port else connection.host
        if not connection.host.startswith("k8s://"):
            raise Misconfigured(
                f"the connection {cluster} names no Kubernetes",
                hint="give it the type spark and a host like k8s://https://10.0.0.1, with the port of the API",
            )
        if not self._extra.get("image"):
            raise Misconfigured(
                f"the connection {cluster} names no image",
                hint='give {"image": "…"} in its extras: Spark with the job and its jars, see docs/stream.md',
            )

    @cached_property
    def pods(self) -> Pods:
        """Its pods and secrets."""
        return Pods(self._clusters.core_v1(self._cluster), self._extra.get("namespace", "default"))

    def launch(self, submission: Submission) -> str:
        """Submit it (see ``engines.Engine``)."""
        pod = placed(submission.name, self._checkpoint)
        self._make_room(pod)
        self.pods.keep_secret(pod, submission.environment, {JOB: submission.job, LAUNCH: pod})
        told = SparkSubmit(
            name=submission.name,
            master=self._master,
            conf=conf(submission, pod, self._extra, self.pods.namespace),
            application=f"local://{in_image(self._extra) / SCRIPT}",
            environment=self._environment(),
        )
        try:
            self._clusters.spark_submit(self._cluster, told)
        except MainstayError:
            # Only the answer may have been lost.
            if self.pods.read(pod) is None:
                self.pods.drop_secret(pod)
                raise
        found = self.pods.read(pod)
        if found is None:
            raise Unreachable(f"{submission.name} was submitted, and there is no pod {pod}", hint="look again")
        self.pods.give_secret(pod, found)
        self.pods.drop_secret(placed(application(submission.job, submission.generation - 1), self._checkpoint))
        return f"{self.pods.namespace}/{pod}"

    def life(self, name: str, handle: str | None) -> Life:
        """Say whether it runs (see ``engines.Engine``).  A pod whose node is lost may run, so it does."""
        del handle
        found = self.pods.read(placed(name, self._checkpoint))
        if found is None or found.phase in _ENDED:
            return Life.ABSENT
        return Life.STARTING if found.phase == "Pending" else Life.RUNNING

    def end(self, name: str, handle: str | None, *, kill: bool = False) -> None:
        """Delete the driver, and wait until no pod of the launch is left (see ``engines.Engine``)."""
        del handle
        pod = placed(name, self._checkpoint)
        found = self.pods.read(pod)
        if found is not None and found.phase not in _ENDED:
            self.pods.delete(pod, grace=_AT_ONCE if kill else _GRACE)
        until = time.monotonic() + _GONE_WITHIN
        while left := [one.name for one in self.pods.of(pod) if one.phase not in _ENDED]:
            if time.monotonic() > until:
                raise Unreachable(
                    f"{', '.join(left)} did not end within {_GONE_WITHIN:.0f} s",
                    hint="its node may be lost: make sure that it is down, then delete the pod by force",
                )
            time.sleep(_POLL)
        self.pods.drop_secret(pod)

    def logs(self, name: str, handle: str | None) -> str:
        """Give the end of the driver's log, or why it has none (see ``engines.Engine``)."""
        del handle
        pod = placed(name, self._checkpoint)
        found = self.pods.read(pod)
        if found is None:
            return f"there is no pod {pod} in {self.pods.namespace} any more"
        if found.reason:
            return f"the pod {pod} waits: {found.reason}"
        return self.pods.tail(pod, 40)

    def _make_room(self, pod: str) -> None:
        """Take away what an earlier life of the checkpoint left under the same name."""
        found = self.pods.read(pod)
        if found is None:
            return
        if found.phase not in _ENDED:
            raise Refused(
                f"the pod {pod} runs, though nobody is noted to have launched it",
                hint="somebody emptied the checkpoint under a running job: end that pod, then look at the checkpoint",
            )
        self.pods.delete(pod, grace=_AT_ONCE)
        until = time.monotonic() + _GONE_WITHIN
        while self.pods.read(pod) is not None:
            if time.monotonic() > until:
                raise Unreachable(f"the ended pod {pod} does not go away", hint="delete it by hand")
            time.sleep(_POLL)

    def _environment(self) -> dict[str, str]:
        home = self._spark()
        found = {"SPARK_HOME": str(home), "PATH": f"{home / 'bin'}:{os.environ.get('PATH', os.defpath)}"}
        if config := self._extra.get("kube_config_path"):
            found["KUBECONFIG"] = config
        return found


def conf(submission: Submission, pod: str, extra: dict[str, str], namespace: str) -> dict[str, str]:
    """Give Spark's properties for Kubernetes.  Pure; secrets are named, never given."""
    properties = {key: value for key, value in submission.properties.items() if key not in _NOT_HERE}
    if "AWS_ACCESS_KEY_ID" not in submission.environment:
        # No key: the service account's role, by the default chain.
        properties.pop("spark.hadoop.fs.s3a.aws.credentials.provider", None)
    cores = int(submission.properties["spark.cores.max"])
    found = properties | {
        "spark.executor.instances": str(max(1, cores // int(properties["spark.executor.cores"]))),
        "spark.kubernetes.container.image": extra["image"],
        "spark.kubernetes.namespace": namespace,
        "spark.kubernetes.driver.pod.name": pod,
        "spark.kubernetes.executor.podNamePrefix": pod,
        "spark.kubernetes.driverEnv.PYTHONPATH": str(in_image(extra)),
        # The decision about restarts is made elsewhere, and nobody waits for the end of a stream.
        "spark.kubernetes.submission.waitAppCompletion": "false",
    }
    for role in ("driver", "executor"):
        found[f"spark.kubernetes.{role}.label.{JOB}"] = submission.job
        found[f"spark.kubernetes.{role}.label.{LAUNCH}"] = pod
    for name in submission.environment:
        found[f"spark.kubernetes.driver.secretKeyRef.{name}"] = f"{pod}:{name}"
    if account := extra.get("service_account"):
        found["spark.kubernetes.authenticate.driver.serviceAccountName"] = account
    if context := extra.get("cluster_context"):
        found["spark.kubernetes.context"] = context
    return found

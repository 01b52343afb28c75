"""What the engines `kubernetes` and `emr-serverless` are reached with, and who opens it.

In Airflow its providers' hooks do, which know kubeconfigs, roles and sessions: ``mainstay.hooks.clusters``.  The engine knows no
Airflow: it says here what it needs, and in the shell the client libraries find their own way.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from msgspec import Struct

from include.engine.contracts import Connections
from include.engine.errors import Misconfigured, PermanentError, Unreachable

_SUBMITS_WITHIN = 300.0  # seconds: a JVM that starts on a busy machine
_AWAY = ("UnknownHostException", "ConnectException", "SocketTimeoutException", "NoRouteToHostException")


class SparkSubmit(Struct, frozen=True, kw_only=True):
    """What ``spark-submit`` is told, in cluster mode.  No secret is in it: it is logged, and other processes see it.

    :param environment: of the submission itself, not of the driver
    """

    name: str
    master: str
    conf: Mapping[str, str]
    application: str
    environment: Mapping[str, str]


@runtime_checkable
class Clusters(Protocol):
    """Connections that open a provider's clients too."""

    def core_v1(self, connection: str) -> Any:
        """Give Kubernetes' ``CoreV1Api``.

        :raises Misconfigured: when its library is not installed, or the connection does not lead anywhere
        """
        ...

    def aws(self, connection: str, service: str) -> Any:
        """Give boto3's client of *service*."""
        ...

    def spark_submit(self, connection: str, told: SparkSubmit) -> None:
        """Submit an application, and return when the cluster has it.

        :raises Unreachable: when the cluster does not answer
        :raises PermanentError: when it refuses
        """
        ...


def clusters_of(connections: Connections) -> Clusters:
    """Give what opens clients: *connections* themselves when they can, as Airflow's do."""
    return connections if isinstance(connections, Clusters) else ShellClusters(connections)


class ShellClusters:
    """Clients without Airflow (see :class:`Clusters`)."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def core_v1(self, connection: str) -> Any:
        """Log in as ``kubectl`` would, or as a pod."""
        try:
            from kubernetes import client, config
        except ModuleNotFoundError as error:
            raise no_kubernetes() from error
        extra = self._connections.get(connection).extra
        try:
            if extra.get("in_cluster", "").lower() == "true":
                settings = client.Configuration()
                config.load_incluster_config(client_configuration=settings)
                return client.CoreV1Api(client.ApiClient(settings))
            file, context = extra.get("kube_config_path"), extra.get("cluster_context")
            return client.CoreV1Api(config.new_client_from_config(config_file=file, context=context))
        except config.ConfigException as error:
            raise Misconfigured(
                f"the connection {connection} leads to no Kubernetes: {error}",
                hint='give {"kube_config_path": "…"} or {"in_cluster": "true"} in its extras',
            ) from error

    def aws(self, connection: str, service: str) -> Any:
        """Log in with the connection's key, or as boto3 finds it."""
        import boto3

        found = self._connections.get(connection)
        if "role_arn" in found.extra:
            raise Misconfigured(
                f"the connection {connection} names a role to assume, which only Airflow's hook does",
                hint="run it from the DAG stream, or leave out role_arn and let AWS_PROFILE name the role",
            )
        session = boto3.Session(
            aws_access_key_id=found.login or None,
            aws_secret_access_key=found.password or None,
            region_name=found.extra.get("region_name"),
        )
        client: Any = session.client(service, endpoint_url=found.extra.get("endpoint_url"))  # type: ignore[call-overload]
        return client

    def spark_submit(self, connection: str, told: SparkSubmit) -> None:
        """Run it."""
        del connection  # the submission finds kubeconfig or service account by itself
        try:
            done = subprocess.run(
                command(told),
                env={**os.environ, **told.environment},
                capture_output=True,
                text=True,
                timeout=_SUBMITS_WITHIN,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired as error:
            raise Unreachable(f"spark-submit of {told.name} did not end", hint="check the cluster") from error
        if done.returncode != 0:
            raise refused(told.name, done.stderr)


def command(told: SparkSubmit) -> Sequence[str]:
    """Give the command line.  Pure."""
    flags = [part for key, value in sorted(told.conf.items()) for part in ("--conf", f"{key}={value}")]
    start = ("spark-submit", "--master", told.master, "--deploy-mode", "cluster", "--name", told.name)
    return [*start, *flags, told.application]


def refused(name: str, said: str) -> Unreachable | PermanentError:
    """Say why ``spark-submit`` failed, by what it said."""
    told = [line for line in said.strip().splitlines() if not line.lstrip().startswith(("at ", "..."))]
    last = "\n".join(told[-8:])
    if any(sign in said for sign in _AWAY):
        return Unreachable(f"spark-submit of {name} did not reach the cluster", hint=f"it said: {last}")
    return PermanentError(f"spark-submit of {name} failed", hint=f"it said: {last}")


def no_kubernetes() -> Misconfigured:
    """Say what to install."""
    return Misconfigured(
        "the engine `kubernetes` needs Airflow's Kubernetes provider, which is not installed",
        hint="add apache-airflow-providers-cncf-kubernetes>=10,<11 to requirements.txt and build the image anew",
    )

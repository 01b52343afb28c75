"""Airflow's way to the clusters that run streaming jobs: its providers' hooks, with Airflow's connections."""

from __future__ import annotations

import os
from typing import Any

from airflow.sdk.exceptions import AirflowException

from include.engine.systems.spark.clients import SparkSubmit, no_kubernetes, refused


class ProviderClusters:
    """Opens clients by the providers' hooks (see ``systems.spark.clients.Clusters``).

    Their operators hold a worker, or follow what they launched, for as long as it runs; a stream runs for longer than any task.  So
    the hooks behind them launch, and the stream's own trigger waits.
    """

    def core_v1(self, connection: str) -> Any:
        """Log in to Kubernetes as the connection says: kubeconfig, context, or a pod's own account."""
        try:
            from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
        except ModuleNotFoundError as error:
            raise no_kubernetes() from error
        return KubernetesHook(conn_id=connection).core_v1_client

    def aws(self, connection: str, service: str) -> Any:
        """Log in to AWS as the connection says: a key, a role, a web identity."""
        if service == "emr-serverless":
            from airflow.providers.amazon.aws.hooks.emr import EmrServerlessHook

            return EmrServerlessHook(aws_conn_id=connection).conn
        from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

        return AwsBaseHook(aws_conn_id=connection, client_type=service).conn

    def spark_submit(self, connection: str, told: SparkSubmit) -> None:
        """Submit it by the Spark provider's hook, which lets go when the driver's pod is there."""
        from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook

        hook = SparkSubmitHook(
            conn_id=connection,
            conf=dict(sorted(told.conf.items())),
            name=told.name,
            deploy_mode="cluster",
            spark_binary="spark-submit",
            track_driver_via_k8s_api=True,
        )
        try:
            hook.submit(told.application, env={**os.environ, **told.environment})
        except AirflowException as error:
            raise refused(told.name, str(error)) from error

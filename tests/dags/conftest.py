"""Airflow's settings, before anything here imports Airflow; and the DAGs, read once."""

from __future__ import annotations

import pytest

from tests import airflow_env  # isort: skip  # before the first import of Airflow

from airflow.dag_processing.dagbag import DagBag


@pytest.fixture(scope="session")
def bag() -> DagBag:
    """All DAG files of the project, as the DAG processor reads them."""
    return DagBag(dag_folder=str(airflow_env.PROJECT / "dags"))

"""What `astro dev parse` runs: every DAG file imports.

The file that the Astro CLI 1.46 generates asks for an argument that Airflow 3.3 no longer has, and fails on any project.
"""

from __future__ import annotations

import os

import pytest

os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")

from airflow.dag_processing.dagbag import DagBag

BAG = DagBag()


def test_no_dag_file_fails_to_import() -> None:
    assert BAG.import_errors == {}


@pytest.mark.parametrize("dag_id", ["backup", "drill", "restore", "upkeep"])
def test_the_dag_is_there(dag_id: str) -> None:
    assert dag_id in BAG.dags

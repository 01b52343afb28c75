"""What a load profile may say about Airflow: what is asked of its API server, and how many tasks it has to run."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from include.engine.loading.workload import LoadWorkload

PROBE = "load_probe"  # the DAG whose tasks do nothing


class Workload(LoadWorkload):
    """Questions to the API server, and then a run of the DAG ``load_probe`` with so many mapped tasks."""

    tried_out: ClassVar[bool] = True

    paths: dict[str, int] = Field(
        default_factory=lambda: {"monitor/health": 1, "dags?limit=50": 2, f"dags/{PROBE}": 1},
        min_length=1,
        description="what is asked for by GET below /api/v2/, with weights",
    )
    connections: int = Field(8, ge=1, le=500, description="questions at the same time, at most, of each process")
    tasks: int = Field(
        0, ge=0, le=1000, description="mapped tasks of one run of load_probe, after the questions; 0 for none"
    )
    tasks_timeout_seconds: int = Field(
        300, ge=10, description="after which that run has failed; it counts against the inventory's max_seconds"
    )

    @property
    def seconds_after(self) -> float:
        """How long the tasks may take."""
        return float(self.tasks_timeout_seconds) if self.tasks else 0.0

"""What Airflow tells about a run: its tasks, and the questions that wait for a person."""

from __future__ import annotations

from dataclasses import dataclass

from include.engine.errors import NotFound

FINAL = frozenset({"success", "failed"})


@dataclass(frozen=True)
class Task:
    """One task instance of a run, as it is now."""

    name: str
    state: str
    map_index: int = -1
    tries: int = 0
    seconds: float | None = None


@dataclass(frozen=True)
class Run:
    """One run of a DAG, as it is now."""

    dag: str
    id: str
    state: str
    run_after: str
    tasks: tuple[Task, ...]

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.state in FINAL

    @property
    def waits_for_a_person(self) -> bool:
        """Whether a task of it waits for an answer."""
        return any(task.state == "awaiting_input" for task in self.tasks)

    def task(self, name: str, map_index: int = -1) -> Task:
        """Give one of its tasks.

        :raises NotFound: it has none of that name
        """
        for task in self.tasks:
            if task.name == name and task.map_index == map_index:
                return task
        raise NotFound(
            f"run {self.id} of {self.dag} has no task {name}[{map_index}]",
            hint=f"It has: {', '.join(sorted({task.name for task in self.tasks}))}",
        )


@dataclass(frozen=True)
class Approval:
    """A question of a run that waits for a person."""

    dag: str
    run: str
    task: str
    subject: str
    body: str
    options: tuple[str, ...]
    asked: float  # seconds since the epoch

"""The DAGs as files and as objects: what they promise to whoever is woken by them, and that reading them is cheap."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from tests.airflow_env import PROJECT, settings  # isort: skip  # before the first import of Airflow

from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG, TriggerRule
from airflow.sdk.definitions.context import Context
from airflow.sdk.definitions.mappedoperator import MappedOperator
from airflow.serialization.serialized_objects import DagSerialization

from include.engine.model import waves
from include.engine.wiring import load_inventory
from mainstay.defaults import Tag

FILES = sorted((PROJECT / "dags").glob("*.py"))
NAMES = [
    "backup",
    "checklist_evening",
    "checklist_morning",
    "checklist_predeployment",
    "drill",
    "failover",
    "ingest",
    "load_probe",
    "load_test",
    "mirror",
    "restore",
    "stream",
    "stream_control",
    "sweep",
    "upkeep",
]
ROWS = ("If it fails", "Safe to clear", "Objective")
CLIENTS = (
    "boto3",
    "botocore",
    "cassandra",
    "confluent_kafka",
    "fsspec",
    "kafka",
    "obstore",
    "psycopg",
    "pyarrow",
    "pyrage",
    "pyspark",
)
MOST_SECONDS = 0.5  # of CPU that one DAG file adds to importing Airflow; the first one pays for what they share

# Imports Airflow, then each DAG file, and tells what each has cost and loaded.
READ = """
import importlib.util, json, resource, sys
def spent():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
import airflow.sdk
from airflow.dag_processing.dagbag import DagBag
from airflow.providers.standard.operators.hitl import ApprovalOperator
airflows = set(sys.modules)
seconds = []
for path in sys.argv[1:]:
    began = spent()
    spec = importlib.util.spec_from_file_location("read_dag", path)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    seconds.append(spent() - began)
print(json.dumps({"seconds": seconds, "modules": sorted(set(sys.modules) - airflows)}))
"""

# Tells which assets make a run of the one DAG of a file.
SCHEDULE = """
import sys
from airflow.dag_processing.dagbag import DagBag
(dag,) = DagBag(dag_folder=sys.argv[1]).dags.values()
print(dag.timetable.asset_condition.uri)
"""

# Tells what each task of the one DAG of a file waits for.
TASKS = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
(dag,) = DagBag(dag_folder=sys.argv[1]).dags.values()
print(json.dumps({task.task_id: sorted(task.upstream_task_ids) for task in dag.tasks}))
"""

by_name = pytest.mark.parametrize("name", NAMES)


def dag_of(bag: DagBag, name: str) -> DAG:
    dag = bag.dags[name]
    assert isinstance(dag, DAG)
    return dag


def test_no_dag_file_fails_to_import(bag: DagBag) -> None:
    assert bag.import_errors == {}


def test_there_is_one_dag_for_each_job_and_no_other(bag: DagBag) -> None:
    assert sorted(bag.dags) == NAMES
    assert [file.stem for file in FILES] == NAMES


@by_name
def test_a_dag_survives_being_stored_and_read_again(bag: DagBag, name: str) -> None:
    dag = dag_of(bag, name)
    stored = DagSerialization.to_dict(dag)
    again = DagSerialization.from_dict(json.loads(json.dumps(stored)))
    assert again.dag_id == dag.dag_id
    assert set(again.task_dict) == set(dag.task_dict)
    for task_id, task in dag.task_dict.items():
        assert again.task_dict[task_id].downstream_task_ids == task.downstream_task_ids


@by_name
def test_a_dag_says_what_to_do_when_it_fails(bag: DagBag, name: str) -> None:
    doc = dag_of(bag, name).doc_md or ""
    missing = [row for row in ROWS if not re.search(rf"^\| \*\*{row}\*\* \| \S", doc, re.MULTILINE)]
    assert not missing


@by_name
def test_every_runbook_that_a_dag_names_exists(bag: DagBag, name: str) -> None:
    dag = dag_of(bag, name)
    linked = set(re.findall(r"/mainstay/runbooks/([a-z-]+)", dag.doc_md or ""))
    operators = [vars(task) | getattr(task, "partial_kwargs", {}) for task in dag.task_dict.values()]
    linked |= {one[key] for one in operators for key in ("runbook", "unverified_runbook") if one.get(key)}
    assert linked
    missing = [slug for slug in sorted(linked) if not (PROJECT / "include" / "runbooks" / f"{slug}.md").is_file()]
    assert not missing


class _Anything:
    """Whatever is asked of it: what a task before this one has told, or the task itself when it is mapped."""

    unsafe_callable = alters_data = False  # Jinja's sandbox asks for these before it calls anything

    def __getattr__(self, name: str) -> _Anything:
        return self

    def __call__(self, *_: object, **__: object) -> _Anything:
        return self

    def __getitem__(self, name: str) -> _Anything:
        return self


def _texts(value: Any) -> Iterator[str]:
    """Give every text in the value of a template field."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)


def _templates(task: Any) -> Iterator[str]:
    given = task.partial_kwargs if isinstance(task, MappedOperator) else vars(task)
    for field in (*task.template_fields, "map_index_template"):
        yield from _texts(given.get(field))
    for callback in given.get("on_failure_callback") or ():
        for field in getattr(callback, "template_fields", ()):
            yield from _texts(getattr(callback, field))


@by_name
def test_every_template_can_be_filled_in(bag: DagBag, name: str) -> None:
    """By what Airflow gives a task, and nothing else: a name that is not there fails every run, and no import."""
    dag = dag_of(bag, name)
    values = {key: param.value if param.has_value else "a text" for key, param in dag.params.items()}
    given: dict[str, Any] = dict.fromkeys(Context.__annotations__, _Anything())
    given |= {"params": SimpleNamespace(**values)}
    environment = dag.get_template_env()
    for task in dag.task_dict.values():
        for text in _templates(task):
            assert "{{" not in environment.from_string(text).render(given)


@by_name
def test_every_task_belongs_to_the_team_of_the_inventory(bag: DagBag, name: str) -> None:
    team = load_inventory(PROJECT / "include" / "config" / "inventory.yaml").owner
    assert team
    assert {task.owner for task in dag_of(bag, name).task_dict.values()} == {team}


@by_name
def test_the_tags_are_known_and_say_who_is_woken(bag: DagBag, name: str) -> None:
    tags = set(dag_of(bag, name).tags)
    assert tags <= {str(tag) for tag in Tag}
    assert len([tag for tag in tags if tag.startswith("tier:")]) == 1


@by_name
def test_a_dag_runs_once_at_a_time_and_does_not_catch_up(bag: DagBag, name: str) -> None:
    dag = dag_of(bag, name)
    assert dag.max_active_runs == 1
    assert not dag.catchup


def test_what_may_destroy_wants_a_reason_and_is_dry_by_default(bag: DagBag) -> None:
    dangerous = {name: dag for name, dag in bag.dags.items() if Tag.DANGER in dag.tags}
    assert set(dangerous) == {"failover", "restore"}
    for name in dangerous:
        params = dag_of(bag, name).params
        reason = params.get_param("reason")
        assert reason.schema["minLength"] >= 10
        assert not reason.has_value
        assert params["dry_run"] is True
        assert "approve" in dag_of(bag, name).task_dict


def failing(dag: DAG, broken: str) -> set[str]:
    """Name the tasks that count as failed when one has failed, as Airflow goes on from there."""
    failed: set[str] = set()
    for task in dag.topological_sort():
        waits = task.trigger_rule not in (TriggerRule.ALL_DONE, TriggerRule.ALWAYS)
        if task.task_id == broken or (waits and failed & set(task.upstream_task_ids)):
            failed.add(task.task_id)
    return failed


@by_name
def test_a_run_is_not_green_when_one_of_its_tasks_has_failed(bag: DagBag, name: str) -> None:
    dag = dag_of(bag, name)
    last = {task.task_id for task in dag.leaves if not task.is_teardown}
    told = {("sweep", "look")}  # what it did not look at is a finding, by which `verdict` fails
    tasks = [task.task_id for task in dag.tasks if not task.is_teardown and (name, task.task_id) not in told]
    assert [task for task in tasks if not failing(dag, task) & last] == []


def test_every_pool_exists_and_counts_those_who_wait(bag: DagBag) -> None:
    pools = json.loads((PROJECT / "include" / "config" / "pools.json").read_text())
    used = {task.pool for dag in bag.dags.values() for task in dag.task_dict.values()}
    assert used - {"default_pool"} <= set(pools)
    assert {"backup", "restore", "probe"} <= used
    assert all(pool["include_deferred"] is True and pool["slots"] > 0 for pool in pools.values())


def test_the_parts_of_a_set_are_restored_side_by_side_and_a_drill_has_the_pool_to_itself(bag: DagBag) -> None:
    """The RTO of a plan and of a drill is that of the slowest part: it would be wrong if one waited for the other."""
    slots = json.loads((PROJECT / "include" / "config" / "pools.json").read_text())["restore"]["slots"]
    wave = waves(load_inventory().targets)[0]
    restores = [dag_of(bag, "restore").task_dict[name] for name in ("restore", "restore_readers")]
    assert [(task.pool, task.pool_slots) for task in restores] == [("restore", 1)] * 2
    assert len(wave) >= 3
    assert slots >= len(wave)
    others = [task for dag in bag.dags.values() for task in dag.task_dict.values() if task.pool == "restore"]
    alone = {task.task_id: task.pool_slots for task in others if task not in restores}
    assert alone == {"drill": slots, "failover": slots}


def test_what_only_waits_takes_no_turn_from_what_works(bag: DagBag) -> None:
    """Mirrors that lag would keep every look at the pipeline waiting for as long as they lag."""

    def waits(task: Any) -> bool:
        return hasattr(getattr(task, "operator_class", type(task)), "execute_complete")

    pools = {id_: task.pool for dag in bag.dags.values() for id_, task in dag.task_dict.items() if waits(task)}
    assert {"approve", "wait"} <= {id_.rpartition(".")[2] for id_ in pools}
    assert set(pools.values()) <= {"default_pool", "stream"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_dag_file_is_short_and_imports_no_other(file: Path) -> None:
    text = file.read_text()
    assert len(text.splitlines()) <= 80
    tree = ast.parse(text)
    imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert not {module for module in imported if module.split(".")[0] in {"dags", *NAMES}}


def environment(home: Path) -> dict[str, str]:
    paths = os.pathsep.join([str(PROJECT), str(PROJECT / "plugins")])
    return {"PATH": os.environ["PATH"], "PYTHONPATH": paths, **settings(home)}


def test_reading_the_dag_files_is_cheap_and_loads_no_client_library(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", READ, *map(str, FILES)],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    cost = json.loads(done.stdout.splitlines()[-1])
    assert "mainstay.defaults" in cost["modules"]  # the files were read
    # What Airflow had loaded before them is not their doing.
    loaded = {module.split(".")[0] for module in cost["modules"]}
    assert not loaded & set(CLIENTS)
    assert max(cost["seconds"]) < MOST_SECONDS, cost["seconds"]


def read_with(home: Path, declared: dict[str, Any], code: str, name: str) -> str:
    """Give the last line that *code* prints of a DAG file, with an inventory that declares this."""
    there = environment(home)
    Path(there["MAINSTAY_INVENTORY"]).write_text(yaml.safe_dump(declared))
    done = subprocess.run(
        [sys.executable, "-c", code, str(PROJECT / "dags" / f"{name}.py")],
        env=there,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def inventory_of(home: Path) -> dict[str, Any]:
    declared = yaml.safe_load(Path(settings(home)["MAINSTAY_INVENTORY"]).read_text())
    assert isinstance(declared, dict)
    return declared


def test_a_drill_follows_every_set_when_the_inventory_asks_for_it(tmp_path: Path) -> None:
    declared = inventory_of(tmp_path)
    declared.setdefault("schedule", {})["drill"] = "after-backup"
    assert read_with(tmp_path, declared, SCHEDULE, "drill") == f"x-mainstay://sets/{declared['pipeline']}"


def test_each_declared_mirror_has_tasks_of_its_own_that_wait_for_no_other(tmp_path: Path) -> None:
    declared = inventory_of(tmp_path)
    (name, mirror), *_ = declared["kafka"]["main"]["mirrors"].items()
    declared["kafka"]["main"]["mirrors"] = {name: mirror, "far.away": {**mirror, "to": "kafka_far"}}
    waits = json.loads(read_with(tmp_path, declared, TASKS, "mirror"))
    assert {task.partition(".")[0] for task in waits} == {f"kafka_main_{name}", "kafka_main_far_away"}
    for group in ("kafka_main_far_away", f"kafka_main_{name}"):
        own = {task.partition(".")[2]: before for task, before in waits.items() if task.startswith(f"{group}.")}
        assert list(own) == ["plan", "apply", "wait", "prove", "judge"]
        assert own["plan"] == []  # the clock runs each of them, whatever became of another
        assert {one.partition(".")[0] for before in own.values() for one in before} == {group}


def test_what_astro_parses_with_passes(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", ".astro/test_dag_integrity_default.py"],
        cwd=PROJECT,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr

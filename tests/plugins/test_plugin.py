"""What Airflow finds when it loads the plugins, and what its workers do with our errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.airflow_env import PROJECT, settings  # isort: skip  # before the first import of Airflow

from airflow.providers.standard.exceptions import HITLTimeoutError
from airflow.sdk.definitions.retry_policy import RetryAction

from include.engine import errors
from mainstay.defaults import DEFAULT_ARGS, RETRY_POLICY
from mainstay.operators.judge import NotProved

PLUGINS = PROJECT / "plugins"

# What a component of Airflow does when it starts, then what an API server does; in a process that has not seen our modules.
LOAD = """
import json, secrets, sys
from airflow import plugins_manager
found, wrong = plugins_manager._get_plugins()
plugins_manager.get_operator_extra_links()
told = {
    "wrong": wrong,
    "files": {name: module.__file__ for name, module in sys.modules.items() if getattr(module, "__file__", None)},
    "views": [view for plugin in found for view in plugin.external_views],
    "apps": [(one["url_prefix"], type(one["app"]).__name__) for one in plugins_manager.get_fastapi_plugins()[0]],
    "links": [type(link).__module__ for plugin in found for link in plugin.operator_extra_links],
}
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    home = tmp_path_factory.mktemp("airflow")
    done = subprocess.run(
        [sys.executable, "-c", LOAD],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(PROJECT), **settings(home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return told


def files(loaded: dict[str, object]) -> dict[str, Path]:
    found = loaded["files"]
    assert isinstance(found, dict)
    return {name: Path(file) for name, file in found.items()}


def test_the_plugin_loads_and_is_the_only_file_that_airflow_imports_by_its_bare_name(
    loaded: dict[str, object],
) -> None:
    assert loaded["wrong"] == {}
    ours = {name: file for name, file in files(loaded).items() if file.is_relative_to(PLUGINS)}
    assert "mainstay.links" in ours
    assert {name for name in ours if name.split(".")[0] != "mainstay"} == {"mainstay_plugin"}
    # Each file once: two copies of one class are two classes.
    assert len(set(ours.values())) == len(ours)


def test_nothing_of_ours_takes_the_place_of_another_module(loaded: dict[str, object]) -> None:
    for name in ("secrets", "operators", "hooks", "params"):
        assert not files(loaded).get(name, Path("/")).is_relative_to(PLUGINS)


def test_loading_the_plugin_loads_no_page_and_no_client(loaded: dict[str, object]) -> None:
    names = set(files(loaded))
    assert "mainstay.ui" in names
    assert not names & {"mainstay.ui.app", "mainstay.ui.views", "obstore", "psycopg", "pyrage"}


def test_the_pages_are_mounted_and_in_the_navigation(loaded: dict[str, object]) -> None:
    assert loaded["apps"] == [["/mainstay", "Pages"]]
    assert isinstance(loaded["views"], list)
    [view] = loaded["views"]
    assert (view["name"], view["href"], view["destination"]) == ("Mainstay", "mainstay/", "nav")
    assert loaded["links"] == ["mainstay.links", "mainstay.links"]


@pytest.mark.parametrize(
    ("error", "action"),
    [
        (errors.Refused("no", hint="look"), RetryAction.FAIL),
        (errors.Corrupt("no", hint="look"), RetryAction.FAIL),
        (NotProved("no", hint="look"), RetryAction.FAIL),
        (HITLTimeoutError("nobody has approved the plan within a day"), RetryAction.FAIL),
        (errors.Unreachable("no", hint="look"), RetryAction.RETRY),
        (errors.Interrupted("no", hint="look"), RetryAction.RETRY),
        (ValueError("a bug, or a worker that died"), RetryAction.DEFAULT),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_trying_again_is_for_what_may_help(error: Exception, action: RetryAction) -> None:
    assert DEFAULT_ARGS["retry_policy"] is RETRY_POLICY
    decision = RETRY_POLICY.evaluate(error, try_number=1, max_tries=4)
    assert decision.action is action

"""``./mainstay sweep`` and ``./mainstay checklist`` on a real endpoint: what they print, and the exit codes that were promised."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from include.engine import lookout
from tests.cli.conftest import Shell
from tests.systems.http.serving import Serving, serving

FINE, WRONG, UNPROVED = 0, 1, 3


@pytest.fixture
def page() -> Iterator[Serving]:
    with serving() as server:
        yield server


@pytest.fixture
def inventory(page: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """An inventory with one endpoint and this machine; whoever changes it writes it again by ``declare``."""
    monkeypatch.setenv("MAINSTAY_INVENTORY", str(tmp_path / "inventory.yaml"))
    monkeypatch.setenv(lookout.HISTORY_VARIABLE, str(tmp_path / "history.sqlite"))
    document: dict[str, Any] = {
        "pipeline": "shop",
        "store": {"url": f"file://{tmp_path}/bucket"},
        "postgres": {"main": {"connection": "nobody_has_defined_it"}},
        "sweep": {
            "endpoints": {"shop": {"url": f"http://127.0.0.1:{page.port}/health"}},
            "hosts": {"here": {"disks": [str(tmp_path)]}},
            "timeout": "20s",
            "settle": "0s",
        },
    }
    declare(tmp_path, document)
    return document


def declare(folder: Path, document: dict[str, Any]) -> None:
    (folder / "inventory.yaml").write_text(yaml.safe_dump(document))


def test_a_sweep_that_finds_nothing_ends_with_0_and_says_what_it_has_read(
    inventory: dict[str, Any], shell: Shell
) -> None:
    done = shell("sweep", "http", "--readings")
    assert done.exit_code == FINE, done.output
    assert "http.latency" in done.stdout
    assert "PASS" in done.stdout


def test_a_sweep_that_finds_something_ends_with_1_until_it_is_over(
    inventory: dict[str, Any], page: Serving, shell: Shell
) -> None:
    page.status = 500
    done = shell("sweep", "http", "--json")
    assert done.exit_code == WRONG, done.output
    told = json.loads(done.stdout)
    assert told["report"]["verdict"] == "FAIL"
    assert [one["rule"] for one in told["report"]["findings"]] == ["http-up"]
    assert told["scaling"] == []
    page.status = 200
    assert shell("sweep", "http").exit_code == FINE


def test_a_sweep_that_could_not_read_all_ends_with_3(inventory: dict[str, Any], tmp_path: Path, shell: Shell) -> None:
    inventory["sweep"]["hosts"]["here"]["disks"] = [str(tmp_path / "not-there")]
    declare(tmp_path, inventory)
    done = shell("sweep", "host")
    assert done.exit_code == UNPROVED, done.output
    assert "1 of 2 probes could not read" in done.stdout


def test_a_sweep_of_what_is_not_watched_says_what_is(inventory: dict[str, Any], shell: Shell) -> None:
    done = shell("sweep", "kafka")
    assert done.exit_code == WRONG
    assert "nothing of kafka is watched" in done.output


def test_the_scaling_table_of_what_could_not_be_read_is_not_green(inventory: dict[str, Any], shell: Shell) -> None:
    done = shell("sweep", "postgres", "--scaling")
    assert done.exit_code == UNPROVED  # the connection is defined nowhere, so nothing is known of it
    assert "When to scale" in done.stdout
    assert "UNVERIFIED" in done.stdout


def test_a_checklist_is_printed_and_written_as_a_page_and_is_no_sweep(
    inventory: dict[str, Any], tmp_path: Path, shell: Shell
) -> None:
    page = tmp_path / "page.html"
    done = shell("checklist", "morning", "--page", str(page))
    assert done.exit_code == UNPROVED, done.output
    assert done.stdout.startswith("# Morning checklist: UNVERIFIED")
    assert "http/shop" in done.stdout
    assert "<h1>Morning checklist" in page.read_text()
    told = json.loads(shell("checklist", "predeployment", "--json").stdout)
    lines = {item["name"]: item["verdict"] for chapter in told["chapters"] for item in chapter["items"]}
    assert (lines["sweep"], lines["signed"]) == ("FAIL", "UNVERIFIED")
    shell("sweep")
    told = json.loads(shell("checklist", "predeployment", "--json").stdout)
    lines = {item["name"]: item["verdict"] for chapter in told["chapters"] for item in chapter["items"]}
    assert lines["sweep"] == "PASS"


def test_a_checklist_that_there_is_not_is_told(inventory: dict[str, Any], shell: Shell) -> None:
    done = shell("checklist", "midnight")
    assert done.exit_code == WRONG
    assert "morning, evening, predeployment" in done.output

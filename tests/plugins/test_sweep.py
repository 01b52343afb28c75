"""The operators and pages of the sweep and the checklists, on an inventory of a machine and an endpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.plugins.conftest import context  # isort: skip  # sets Airflow up

import pytest
import yaml
from fastapi.testclient import TestClient

from include.engine import lookout
from include.engine.contracts import Connection
from include.engine.errors import Incomplete, Misconfigured, Unreachable
from include.engine.health.history import History
from include.engine.health.looks import unpack
from include.engine.store.bucket import Bucket
from include.engine.systems.messaging import sending
from mainstay.hooks.mainstay import AirflowConnections
from mainstay.notifiers.findings import FindingsNotifier
from mainstay.operators.checklist import InspectOperator, SignOperator
from mainstay.operators.judge import JudgeOperator, NotProved
from mainstay.operators.sweep import JudgeSweepOperator, LookOperator, TellOperator
from mainstay.ui import Pages
from mainstay.ui import app as pages
from mainstay.ui.scrape import scrape
from tests.systems.host.test_host import EXPORTER
from tests.systems.http.serving import Serving, serving
from tests.systems.messaging.test_sending import mailbox

TOKEN = "t0ken-of-prometheus"


class World:
    """An endpoint and a machine that are watched, and a chat that is told.

    :param machine: a node exporter; how full this machine is, on which the tests run, is its owner's business
    """

    def __init__(self, folder: Path, page: Serving, chat: Serving, machine: Serving) -> None:
        self.page, self.chat = page, chat
        self.machine = machine
        machine.body = EXPORTER.encode()
        self.connections: dict[str, Connection] = {}
        self.path = folder / "inventory.yaml"
        document: dict[str, Any] = {
            "pipeline": "shop",
            "store": {"url": f"file://{folder}/bucket"},
            "postgres": {"main": {"connection": "postgres_main"}},
            "sweep": {
                "endpoints": {"superset": {"url": f"http://127.0.0.1:{page.port}/health", "body": "OK"}},
                "hosts": {"here": {"node_exporter": f"http://127.0.0.1:{machine.port}/metrics"}},
                "settle": "0s",
                "timeout": "30s",
                "metrics_token": "prometheus",
            },
            "notify": {"chat": {"kind": "slack", "connection": "chat"}},
        }
        self.path.write_text(yaml.safe_dump(document))

    def get(self, name: str) -> Connection:
        known = {
            "chat": Connection(password=f"http://127.0.0.1:{self.chat.port}/hook"),
            "prometheus": Connection(password=TOKEN),
            **self.connections,
        }
        if name not in known:
            raise Misconfigured(f"there is no connection {name}", hint="define it")
        return known[name]

    def run(self, *systems: str) -> dict[str, Any]:
        """Run the DAG's tasks one after the other."""
        looks = [LookOperator(task_id=f"look-{one}", system=one).execute(context()) for one in systems]
        judge = JudgeSweepOperator(task_id="judge", looks=looks, systems=systems)
        summary = judge.execute(context())
        receivers = yaml.safe_load(self.path.read_text())["notify"]
        notifiers = [FindingsNotifier(receiver=name) for name in sorted(receivers)]
        tell = TellOperator(task_id="tell", summary=summary, notifiers=notifiers)
        tell.execute(context())
        return summary

    def told(self) -> list[str]:
        return [json.loads(body)["text"] for _, _, body in self.chat.seen]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with serving() as page, serving() as chat, serving() as machine:
        made = World(tmp_path, page, chat, machine)
        monkeypatch.setenv("MAINSTAY_INVENTORY", str(made.path))
        monkeypatch.setenv(lookout.HISTORY_VARIABLE, str(tmp_path / "history.sqlite"))
        monkeypatch.setattr(AirflowConnections, "get", lambda self, name: made.get(name))
        yield made


def test_a_change_is_told_once_and_the_verdict_is_red_meanwhile(world: World) -> None:
    quiet = world.run("http", "host")
    assert (quiet["verdict"], quiet["changes"]) == ("PASS", 0)
    assert world.told() == []
    world.page.status = 500
    first, second = world.run("http", "host"), world.run("http", "host")
    assert (first["verdict"], first["changes"], second["changes"]) == ("FAIL", 1, 0)
    (text,) = world.told()
    assert "NEW critical http/superset http-up" in text
    assert "/mainstay/runbooks/system-down" in text
    with pytest.raises(NotProved, match="http/superset http-up"):
        JudgeOperator(task_id="verdict", summary=second, runbook="not-read").execute(context())
    world.page.status = 200
    assert world.run("http", "host")["verdict"] == "PASS"
    assert world.told()[-1].startswith("```OVER")


def test_each_receiver_is_told_in_its_form_and_only_of_what_is_its_business(world: World) -> None:
    with mailbox() as mail, serving() as pager:
        world.connections |= {
            "mail": Connection(host="127.0.0.1", port=mail.port),
            "pager": Connection(host=f"http://127.0.0.1:{pager.port}/v2/enqueue", password="routing-key"),
        }
        document = yaml.safe_load(world.path.read_text())
        document["notify"] |= {
            "mail": {"kind": "smtp", "connection": "mail", "to": ["ops@example.org"], "severities": ["this-week"]},
            "pager": {"kind": "pagerduty", "connection": "pager", "severities": ["page"]},
        }
        world.path.write_text(yaml.safe_dump(document))
        world.run("http")
        world.page.status = 500
        world.run("http")
        world.page.status = 200
        world.run("http")
        events = [json.loads(body) for _, _, body in pager.seen]
    assert [(one["event_action"], one["routing_key"]) for one in events] == [
        ("trigger", "routing-key"),
        ("resolve", "routing-key"),
    ]
    assert events[0]["payload"]["class"] == "http-up"
    assert mail.mails == []
    assert len(world.told()) == 2


def test_a_receiver_that_fails_is_told_by_the_next_sweep(world: World) -> None:
    world.page.status, world.chat.status = 500, 503
    with pytest.raises(Incomplete, match="not everybody could be told: chat"):
        world.run("http")
    world.chat.status = 200
    world.run("http")
    assert len([text for text in world.told() if "http-up" in text]) == 2


def test_a_task_that_gave_nothing_leaves_its_system_unproved(world: World) -> None:
    looks = [LookOperator(task_id="look", system="host").execute(context()), None]
    assert unpack(str((looks[0] or {})["looks"]))
    summary = JudgeSweepOperator(task_id="judge", looks=looks, systems=["host", "http"]).execute(context())
    assert summary["verdict"] == "UNVERIFIED"
    assert any("http/main" in problem for problem in summary["problems"])


@pytest.mark.parametrize("value", ["NaN", "+Inf"])
def test_a_reading_that_is_no_number_is_told_and_takes_no_other_along(world: World, value: str) -> None:
    """As one task hands it to the next."""
    world.machine.body = EXPORTER.replace("2.5e+10", value).encode()
    world.page.status = 500
    summary = world.run("http", "host")
    assert any("http/superset http-up" in problem for problem in summary["problems"])
    assert any("host/here unread" in problem and "no number" in problem for problem in summary["problems"])
    assert "http-up" in "".join(world.told())


def test_without_any_history_people_are_told_all_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(lookout.HISTORY_VARIABLE, str(world.path / "a-file-is-no-directory" / "h.sqlite"))
    world.page.status = 500
    assert world.run("http")["verdict"] == "FAIL"
    assert "http-up" in world.told()[0]
    assert "history/main" in world.told()[0]


def test_a_checklist_is_kept_and_signed_by_who_answered(world: World) -> None:
    inspect = InspectOperator(task_id="inspect", kind="predeployment", to_be_signed=True)
    summary = inspect.execute(context())
    assert summary["verdict"] == "FAIL"
    assert summary["report"].startswith("checklists/predeployment/2026")
    assert "nobody has signed yet" in summary["page"]
    answer = {"chosen_options": ["Sign"], "params_input": {"note": "ready"}, "responded_by_user": {"name": "Ada"}}
    signed = SignOperator(task_id="sign", kind="predeployment", answer=answer).execute(context())
    assert "Accepted by Ada" in signed["page"]
    refused = {"chosen_options": ["Refuse"], "responded_by_user": {"name": "Bob"}}
    again = SignOperator(task_id="sign", kind="predeployment", answer=refused).execute(context())
    assert "Accepted by Ada" in again["page"]  # what was signed stays signed


def test_a_signature_of_nobody_proves_nothing(world: World) -> None:
    InspectOperator(task_id="inspect", kind="predeployment", to_be_signed=True).execute(context())
    signed = SignOperator(task_id="sign", kind="predeployment", answer={"chosen_options": ["Sign"]}).execute(context())
    assert "nobody's name is known" in signed["page"]


def test_the_pages_show_findings_reports_and_metrics(world: World) -> None:
    world.page.status = 500
    world.run("http", "host")
    InspectOperator(task_id="inspect", kind="morning").execute(context())
    pages.app.dependency_overrides[pages.may_look] = lambda: None
    try:
        with TestClient(pages.app) as client:
            findings = client.get("/findings").text
            assert "http-up" in findings
            assert 'badge bad">FAIL' in findings
            assert "morning" in client.get("/checklists/").text
            report = client.get("/checklists/morning/20261123T020000Z")
            assert "Morning checklist" in report.text
            assert "<script" not in report.text
            assert "sha256-" in report.headers["Content-Security-Policy"]
            assert client.get("/checklists/morning/20200101T000000Z").status_code == 404
            metrics = client.get("/metrics").text
    finally:
        pages.app.dependency_overrides.clear()
    assert 'mainstay_http_up{subject="http/superset"} 0' in metrics
    assert "mainstay_last_sweep_timestamp_seconds" not in metrics  # it was none of everything
    assert (
        'mainstay_finding{rule="http-up",severity="page",state="open",subject="http/superset",team="platform-ops"} 2'
        in metrics
    )


def test_prometheus_gets_in_by_its_token_only(world: World) -> None:
    world.run("http")
    with TestClient(Pages()) as stranger:  # as Airflow mounts it
        assert stranger.get("/scrape").status_code == 401
        assert stranger.get("/metrics").status_code == 401
    with TestClient(scrape) as client:
        assert client.get("/scrape").status_code == 401
        assert client.get("/scrape", headers={"Authorization": "Bearer nothing"}).status_code == 401
        good = client.get("/scrape", headers={"Authorization": f"Bearer {TOKEN}"})
        assert good.status_code == 200
        assert "mainstay_http_up" in good.text
        world.path.write_text(world.path.read_text().replace("  metrics_token: prometheus\n", ""))
        assert client.get("/scrape", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 404


def test_what_was_found_while_the_history_was_away_is_told_when_it_could_tell_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network of the worker was gone: neither the history in PostgreSQL nor the chat answered."""
    away = True

    def best(_connection: Connection) -> History:
        if away:
            raise Unreachable("the history is away", hint="start it")
        return History.in_file(world.path.parent / "best.sqlite")

    monkeypatch.setattr(History, "in_postgres", best)
    world.connections["history"] = Connection(host="away")
    document = yaml.safe_load(world.path.read_text())
    document["sweep"]["history"] = "history"
    world.path.write_text(yaml.safe_dump(document))
    world.page.status, world.chat.status = 500, 503
    with pytest.raises(Incomplete, match="chat"):
        world.run("http")
    world.chat.seen.clear()
    away, world.chat.status = False, 200
    assert world.run("http")["changes"] == 0  # a look at one system says nothing about the history
    text = "\n".join(world.told())
    assert "NEW critical http/superset http-up" in text
    world.run("http")
    assert "\n".join(world.told()) == text


def test_what_a_service_has_taken_is_not_sent_again_when_it_takes_no_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []
    room = [1]

    def send(_connection: Connection, events: Sequence[Mapping[str, Any]], *, timeout: float) -> None:
        for event in events:
            if len(taken) >= room[0]:
                raise Unreachable("the events API answered 429", hint="wait")
            taken.append(event["dedup_key"])

    monkeypatch.setattr(sending, "send_events", send)
    world.connections["pager"] = Connection(password="routing-key")
    document = yaml.safe_load(world.path.read_text())
    document["notify"] = {"pager": {"kind": "pagerduty", "connection": "pager"}}
    endpoint = document["sweep"]["endpoints"]["superset"]
    document["sweep"]["endpoints"] = {f"superset-{number}": endpoint for number in range(3)}
    world.path.write_text(yaml.safe_dump(document))
    world.page.status = 500
    for room[0] in (1, 2):
        with pytest.raises(Incomplete):
            world.run("http")
    room[0] = 9
    world.run("http")
    assert [key.partition("http/")[2] for key in taken] == ["superset-0|", "superset-1|", "superset-2|"]


def test_a_damaged_report_hides_no_other(world: World) -> None:
    world.run("http", "host")
    InspectOperator(task_id="inspect", kind="morning").execute(context())
    Bucket.open(f"file://{world.path.parent}/bucket").create("checklists/evening/20261122T020000Z/report.json", b"{")
    pages.app.dependency_overrides[pages.may_look] = lambda: None
    try:
        with TestClient(pages.app) as client:
            page = client.get("/checklists/")
    finally:
        pages.app.dependency_overrides.clear()
    assert page.status_code == 200
    assert "20261123T020000Z" in page.text
    assert "checklists/evening/20261122T020000Z/report.json" in page.text

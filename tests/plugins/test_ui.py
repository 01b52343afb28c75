"""The pages as a browser gets them, over a bucket that was filled through the catalog."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from tests import airflow_env  # isort: skip  # before the first import of Airflow

from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from httpx import Response

from include.engine.archiving import Archive
from include.engine.errors import Unauthorized
from include.engine.health.findings import advance
from include.engine.health.history import History
from include.engine.model import (
    ArchiveReach,
    Check,
    Consistency,
    Destination,
    DestinationKind,
    DrillReport,
    Freeze,
    Manifest,
    RecoverableWindow,
    RecoveryPoint,
    RestorePlan,
    RestoreRecord,
    SetManifest,
    Stage,
    Target,
    Verdict,
    backup_id,
    encode,
)
from include.engine.sandbox.ports import free_port
from include.engine.store.bucket import Bucket
from include.engine.store.catalog import Keep
from include.engine.verbs import retention
from include.engine.verbs.pipeline import Pipeline
from mainstay.ui import Pages, health, runbooks, views
from mainstay.ui import app as pages
from mainstay.ui.exposure import exposure
from tests.cli import paper as on_paper
from tests.cli.paper import TARGET, Paper, PaperLookup
from tests.health.making import book, judged
from tests.store.making import NOW, a_backup, a_night, a_set, days_ago, overwrite, verified

HOSTILE = "<script>alert('it')</script>\"><img src=x onerror=alert(1)>"
HOUR = timedelta(hours=1)


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    made = on_paper.pipeline(Paper())
    monkeypatch.setattr(pages, "opened", lambda: made)
    return made


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A browser of somebody who may look, with the pages mounted as Airflow mounts them."""
    monkeypatch.setitem(pages.app.dependency_overrides, pages.may_look, lambda: None)
    airflow = FastAPI()
    airflow.mount("/mainstay", Pages())
    with TestClient(airflow, base_url="http://airflow/", raise_server_exceptions=True) as found:
        yield found


def a_drill(
    pipeline: Pipeline,
    verdict: Verdict = Verdict.PASS,
    *,
    set_id: str | None = None,
    target: Target | None = None,
    name: str = "20261123T040000Z",
    detail: str = "all rows came back",
    rpo: float | None = 1.5,
) -> DrillReport:
    report = DrillReport(
        id=name,
        started=NOW,
        finished=NOW,
        set_id=set_id,
        target=target,
        backup=None,
        stages=(Stage(name="fetch", seconds=3.2, bytes=4096), Stage(name="checks", seconds=2, counts=False)),
        checks=(Check(name="rows", verdict=verdict, detail=detail),),
        verdict=verdict,
        rto_seconds=3.2,
        rpo_seconds=rpo,
        rto_objective=600,
        rpo_objective=120,
    )
    pipeline.catalog.record_drill(report)
    return report


def a_restore(pipeline: Pipeline, *, reason: str, by: str = "ada") -> None:
    plan = RestorePlan(
        target=TARGET,
        backup="20261123T020000Z",
        chain=("20261123T020000Z",),
        point=RecoveryPoint(),
        destination=Destination(kind=DestinationKind.DIRECTORY, path="/srv/restored"),
        bytes_to_fetch=1,
        bytes_needed=1,
        steps=(),
    )
    pipeline.catalog.record_restore(
        RestoreRecord(
            id="1", plan=plan, reason=reason, by=by, started=NOW, finished=NOW, verdict=Verdict.FAIL, error="no space"
        )
    )


def badges(page: Response) -> set[tuple[str, str]]:
    """Every badge's colour and text."""
    return set(re.findall(r'class="badge (\w+)">([^<]*)<', page.text))


def shown(client: TestClient, path: str = "", status: int = 200) -> Response:
    page: Response = client.get(f"/mainstay/{path}")
    assert page.status_code == status, page.text
    assert page.headers["content-type"].startswith("text/html")
    return page


# who may look --------------------------------------------------------------------------------------------------------


def test_every_route_asks_who_is_looking() -> None:
    routes = pages.app.routes
    assert {route.path for route in routes if isinstance(route, APIRoute)} == {
        "/",
        "/sets/{set_id}",
        "/drills/{drill_id}",
        "/runbooks/",
        "/runbooks/{slug}",
        "/findings",
        "/checklists/",
        "/checklists/{kind}/{report}",
        "/metrics",
    }
    for route in routes:
        assert isinstance(route, APIRoute), f"{route} is public"
        assert pages.may_look in [dependency.call for dependency in route.dependant.dependencies], route.path
        assert route.methods == {"GET"}


@pytest.mark.parametrize(
    "path",
    [
        "",
        "sets/20261123T020000Z",
        "drills/20261123T020000Z",
        "runbooks/",
        "runbooks/wal-gap",
        "findings",
        "checklists/",
        "metrics",
    ],
)
def test_nobody_sees_anything_without_a_login(pipeline: Pipeline, path: str) -> None:
    with TestClient(pages.app) as stranger:
        assert stranger.get(f"/{path}").status_code == 401


def test_there_is_no_description_of_the_pages_for_strangers() -> None:
    with TestClient(pages.app) as stranger:
        assert [stranger.get(path).status_code for path in ("/docs", "/redoc", "/openapi.json")] == [404] * 3


# the overview --------------------------------------------------------------------------------------------------------


def test_an_empty_bucket_is_shown_as_nothing_proved(client: TestClient, pipeline: Pipeline) -> None:
    page = shown(client)
    assert "it has no backup at all" in page.text
    assert "Nothing proves yet that a restore works" in page.text
    assert badges(page) == {("bad", "FAIL"), ("open", "never")}


def test_what_was_proved_is_shown(client: TestClient, pipeline: Pipeline) -> None:
    found = a_night(pipeline.catalog, days=1)
    verified(pipeline.catalog, pipeline.catalog.backup(TARGET, found.id))
    a_drill(pipeline, set_id=found.id)
    a_restore(pipeline, reason="the standby was lost")
    pipeline.catalog.keep(found.id, Keep(by="ada", reason="before the migration", at=NOW))
    page = shown(client)
    for text in (found.id, "20261123T040000Z", "the standby was lost", "kept by ada", "the newest", "postgres/main"):
        assert text in page.text
    assert ("good", "PASS") in badges(page)
    assert "not known" not in page.text


def test_the_page_of_a_set_says_how_long_its_freeze_took(client: TestClient, pipeline: Pipeline) -> None:
    unmeasured = a_night(pipeline.catalog, days=2)
    fits = Consistency(checks=(), freeze_seconds=3.4, skew_seconds=2.1, replay_records=57)
    other = msgspec.structs.replace(unmeasured, id=backup_id(days_ago(1)), consistency=fits)
    measured = pipeline.catalog.commit_set(other)
    told = "frozen in 3.4 s, cuts 2.1 s apart, 57 records to replay"
    assert told in shown(client, f"sets/{measured.id}").text
    assert "frozen in" not in shown(client, f"sets/{unmeasured.id}").text


def test_the_newest_sets_come_first_and_the_rest_is_counted(
    client: TestClient, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "MOST_ROWS", 2)
    nights = [a_night(pipeline.catalog, days=days).id for days in (4, 3, 2, 1)]
    page = shown(client)
    assert re.findall(r'<td class="name"><a href="./sets/(\w+)"', page.text) == [nights[3], nights[2]]
    assert "and 2 older" in page.text


def test_the_overview_reads_the_newest_manifests_of_a_target_and_says_how_many_it_left(
    client: TestClient, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    nights = [a_night(pipeline.catalog, days=days) for days in range(30, 0, -1)]
    read, asked = Bucket.read, list[str]()

    def reading(bucket: Bucket, key: str) -> bytes:
        asked.append(key)
        return read(bucket, key)

    monkeypatch.setattr(Bucket, "read", reading)
    page = shown(client)
    assert len([key for key in asked if key.startswith(f"{TARGET}/backups/")]) == views.MOST_READ
    assert len([key for key in asked if re.fullmatch("sets/[^/]+/manifest.json", key)]) == 30
    assert "22 older backups were not read for this page" in page.text

    # And the reasons are those of a plan that has read everything.
    rows = views.overview(pipeline, NOW).sets
    plan = retention.plan(pipeline, clock=lambda: NOW)
    assert {row.manifest.id: row.stays for row in rows} == {one.id: plan.sets.get(one.id, ()) for one in nights}


@pytest.mark.parametrize("newest", [1, 20])
def test_a_damaged_manifest_of_a_backup_is_told_and_nothing_is_said_to_expire(
    client: TestClient, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, newest: int
) -> None:
    monkeypatch.setattr(views, "MOST_READ", 2)
    nights = [a_night(pipeline.catalog, days=days) for days in (5, 4, 3, 2, 1)]
    for night in nights[1:][-newest:]:
        overwrite(pipeline.catalog.bucket, pipeline.catalog.manifest_key(TARGET, night.id), b"{")
    page = shown(client)
    assert f"{nights[-1].id}/manifest.json is not a valid Manifest" in page.text
    assert "it has no backup at all" not in page.text
    assert ("open", "not known") in badges(page)


@pytest.mark.parametrize("verdict", list(Verdict))
def test_only_what_was_proved_is_green(client: TestClient, pipeline: Pipeline, verdict: Verdict) -> None:
    found = a_night(pipeline.catalog, days=1)
    verified(pipeline.catalog, pipeline.catalog.backup(TARGET, found.id), verdict)
    report = a_drill(pipeline, verdict, set_id=found.id)
    seen = set[tuple[str, str]]()
    for path in ("", f"sets/{found.id}", f"drills/{report.id}"):
        page = shown(client, path)
        seen |= badges(page)
        assert not re.search(r'class="[^"]*good[^"]*"[^>]*>\s*(UNVERIFIED|FAIL|never)', page.text)
    colours = {text: colour for colour, text in seen}
    assert colours[str(verdict)] == {"PASS": "good", "FAIL": "bad", "UNVERIFIED": "open"}[verdict]


@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_set_whose_parts_do_not_fit_together_is_not_green(
    client: TestClient, pipeline: Pipeline, verdict: Verdict
) -> None:
    found = a_night(pipeline.catalog, days=1)
    judged = msgspec.structs.replace(found, checks=(Check(name="read up to", verdict=verdict, detail="sums"),))
    overwrite(pipeline.catalog.bucket, f"sets/{found.id}/manifest.json", encode(judged))
    verified(pipeline.catalog, pipeline.catalog.backup(TARGET, found.id))
    colour = {"PASS": "good", "FAIL": "bad", "UNVERIFIED": "open"}[verdict]
    title = shown(client, f"sets/{found.id}").text.partition("</h1>")[0]
    assert f'class="badge {colour}">{verdict}<' in title.rpartition("<h1>")[2]
    row = re.search(rf"sets/{found.id}.*?</tr>", shown(client).text.partition("<h2>Sets</h2>")[2], re.DOTALL)
    assert row is not None
    assert re.findall(r"badge (\w+)\">(PASS|FAIL|UNVERIFIED)<", row[0]) == [(colour, str(verdict)), ("good", "PASS")]


def test_a_set_that_nobody_judged_is_not_green(client: TestClient, pipeline: Pipeline) -> None:
    found = a_night(pipeline.catalog, days=1)  # it has no checks, as one of an older Mainstay
    assert "Nobody has looked" in shown(client, f"sets/{found.id}").text
    assert ("open", "UNVERIFIED") in badges(shown(client))


def test_an_age_that_was_not_measured_is_not_green(client: TestClient, pipeline: Pipeline) -> None:
    report = a_drill(pipeline, Verdict.UNVERIFIED, rpo=None)
    page = shown(client, f"drills/{report.id}")
    assert re.search(r'card open">\s*<div class="head"><span>RPO', page.text)
    assert re.search(r'card good">\s*<div class="head"><span>RTO', page.text)
    assert "runbooks/drill-unverified" in page.text


def test_what_people_wrote_stays_text(client: TestClient, pipeline: Pipeline) -> None:
    found = a_night(pipeline.catalog, days=1)
    pipeline.catalog.keep(found.id, Keep(by=HOSTILE, reason=HOSTILE, at=NOW))
    a_restore(pipeline, reason=HOSTILE, by=HOSTILE)
    report = a_drill(pipeline, Verdict.FAIL, set_id=found.id, detail=HOSTILE)
    for path in ("", f"sets/{found.id}", f"drills/{report.id}"):
        page = shown(client, path)
        assert "&lt;script&gt;" in page.text
        assert not re.search("<script|<img", page.text)
    absent = shown(client, "sets/%3Cscript%3Ealert(1)", 404)
    assert "<script" not in absent.text


def test_a_page_loads_nothing_and_runs_nothing(client: TestClient, pipeline: Pipeline) -> None:
    a_night(pipeline.catalog, days=1)
    for path in ("", "runbooks/", "runbooks/backup-failed"):
        page = shown(client, path)
        assert not re.search(r"\bsrc=|<link|@import|url\(|<script|\sstyle=|\son\w+=", page.text)
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert page.headers["cache-control"] == "no-store"


def test_every_link_leads_to_a_page(client: TestClient, pipeline: Pipeline) -> None:
    found = a_night(pipeline.catalog, days=1)
    a_drill(pipeline, set_id=found.id)
    todo, done = ["http://airflow/mainstay/"], set[str]()
    while todo:
        at = todo.pop()
        done.add(at)
        page = client.get(at)
        assert page.status_code == 200, at
        new = {str(page.url.join(link)) for link in re.findall(r'href="([^"]+)"', page.text)} - done - set(todo)
        assert all(link.startswith("http://airflow/mainstay/") for link in new), at
        todo += new
    assert len(done) == 6 + len(runbooks.slugs())


# damage and absence --------------------------------------------------------------------------------------------------


def test_a_damaged_document_is_told_and_hides_nothing_else(client: TestClient, pipeline: Pipeline) -> None:
    old, new = a_night(pipeline.catalog, days=2), a_night(pipeline.catalog, days=1)
    overwrite(pipeline.catalog.bucket, f"sets/{new.id}/manifest.json", b"{")
    page = shown(client)
    assert f"sets/{new.id}/manifest.json is not a valid SetManifest" in page.text
    assert f"sets/{old.id}" in page.text
    # Retention does not decide over a catalog that it cannot read.
    assert ("open", "not known") in badges(page)


def test_a_set_whose_part_is_gone_says_so(client: TestClient, pipeline: Pipeline) -> None:
    found = a_night(pipeline.catalog, days=1)
    pipeline.catalog.bucket.delete([pipeline.catalog.manifest_key(TARGET, found.id)])
    assert ("bad", "its manifest is missing") in badges(shown(client, f"sets/{found.id}"))


def test_a_set_that_is_not_sealed_does_not_count(client: TestClient, pipeline: Pipeline) -> None:
    manifest = a_backup(pipeline.catalog, days=1)
    frozen = Freeze(id=manifest.id, started=NOW, frozen=NOW, cuts={str(TARGET): manifest.cut}, left_out=("kafka/main",))
    pipeline.catalog.commit_freeze(frozen)
    page = shown(client, f"sets/{manifest.id}")
    assert "so it does not count" in page.text
    assert "without kafka/main" in page.text


@pytest.mark.parametrize(
    "path", ["sets/20200101T000000Z", "drills/20200101T000000Z", "sets/..%2Fdrills", "runbooks/none", "runbooks/..%2Fx"]
)
def test_what_is_not_there_is_a_page_too(client: TestClient, pipeline: Pipeline, path: str) -> None:
    answer = client.get(f"/mainstay/{path}")
    assert answer.status_code == 404
    if "%2F" not in path:
        assert "Not here" in answer.text


def test_a_dead_store_says_so_within_seconds(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text((airflow_env.PROJECT / "include" / "config" / "inventory.yaml").read_text())
    monkeypatch.setenv("MAINSTAY_INVENTORY", str(inventory))
    endpoint = f"http%3A%2F%2F127.0.0.1%3A{free_port()}"
    monkeypatch.setenv("AIRFLOW_CONN_MAINSTAY_STORE", f"aws://key:very-secret@/?endpoint_url={endpoint}")
    monkeypatch.setenv("AIRFLOW_CONN_POSTGRES_MAIN", "postgres://u:very-secret@127.0.0.1/postgres")
    began = datetime.now(UTC)
    page = shown(client, status=503)
    assert datetime.now(UTC) - began < timedelta(seconds=30)
    assert "The state of the backups is not known" in page.text
    assert re.search(r'role="alert">\s*<p><strong>.+</strong></p>\s*<p>.+</p>', page.text)
    assert "very-secret" not in page.text
    assert badges(page) == set()


def test_a_connection_that_is_missing_is_named(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_MAINSTAY_STORE", raising=False)
    page = shown(client, status=503)
    assert "Airflow has no connection mainstay_store" in page.text
    assert "AIRFLOW_CONN_MAINSTAY_STORE" in page.text


def test_a_store_that_refuses_shows_no_half_a_page(
    client: TestClient, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Sequence[str]:
        raise Unauthorized("the store refused the key", hint="look at mainstay_store")

    monkeypatch.setattr(pipeline.catalog.bucket, "folders", refuse)
    assert "look at mainstay_store" in shown(client, status=503).text


# runbooks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slug", runbooks.slugs())
def test_a_runbook_is_a_page(client: TestClient, slug: str) -> None:
    page = shown(client, f"runbooks/{slug}")
    assert "<h1>" in page.text
    assert "**" not in re.sub(r"<(pre|code)>.*?</\1>", "", page.text, flags=re.DOTALL)


def test_a_runbook_cannot_hold_markup_or_load_anything() -> None:
    page = runbooks.rendered(
        "<script>x</script> ![see](http://evil/x.png) [run](javascript:alert(1)) [there](wal-gap.md#do) [out](../x.py)"
        " [web](https://www.postgresql.org/)"
    )
    assert not re.search(r"<script|<img|href=\"javascript|x\.py", page)
    assert '<a href="wal-gap#do">there</a>' in page
    assert 'rel="noopener noreferrer">web' in page


# decisions -----------------------------------------------------------------------------------------------------------


def walked(verdict: Verdict, *ends: datetime, newest: datetime | None = NOW) -> ArchiveReach:
    """A walk along an archive, as it could have ended."""
    windows = [
        RecoverableWindow(
            backup="20261122T020000Z",
            line="timeline 1",
            from_time=end - HOUR,
            to_time=end,
            from_position="0/3000100",
            to_position="0/5000060",
        )
        for end in ends
    ]
    return ArchiveReach(verdict=verdict, windows=tuple(windows), newest=newest)


def a_manifest(age: timedelta) -> Manifest:
    return a_backup(on_paper.pipeline(Paper()).catalog, days=age / timedelta(days=1))


@pytest.mark.parametrize(
    ("age", "archive", "verdict", "reaches"),
    [
        (HOUR / 2, None, Verdict.PASS, HOUR / 2),
        (HOUR * 2, None, Verdict.FAIL, HOUR * 2),
        (HOUR * 9, walked(Verdict.PASS, NOW - HOUR / 2), Verdict.PASS, HOUR / 2),
        (HOUR * 9, walked(Verdict.PASS, NOW - HOUR * 3), Verdict.FAIL, HOUR * 3),
        # A gap is bad also while the newest backup is young: the archive is what recovery to a point needs.
        (HOUR / 2, walked(Verdict.FAIL, NOW), Verdict.FAIL, HOUR / 2),
        (HOUR * 9, walked(Verdict.UNVERIFIED, NOW), Verdict.UNVERIFIED, HOUR * 9),
        (HOUR * 9, "a history file is damaged", Verdict.UNVERIFIED, HOUR * 9),
        # An archive that nothing was ever written to is none.
        (HOUR * 9, walked(Verdict.FAIL, newest=None), Verdict.FAIL, HOUR * 9),
    ],
)
def test_how_much_would_be_lost(
    age: timedelta, archive: ArchiveReach | str | None, verdict: Verdict, reaches: timedelta
) -> None:
    seen = exposure(TARGET, a_manifest(age), archive=archive, objective=HOUR, now=NOW)
    assert seen.verdict is verdict
    assert seen.reaches is not None
    assert abs(NOW - seen.reaches - reaches) < timedelta(seconds=1)


def test_a_backup_that_reaches_into_the_future_proves_nothing() -> None:
    seen = exposure(TARGET, a_manifest(-HOUR), archive=None, objective=HOUR, now=NOW)
    assert seen.verdict is Verdict.UNVERIFIED
    assert "a clock is wrong" in seen.detail
    assert exposure(TARGET, a_manifest(-HOUR / 12), archive=None, objective=HOUR, now=NOW).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("ahead", "verdict"), [(timedelta(minutes=-5), Verdict.PASS), (timedelta(days=1), Verdict.UNVERIFIED)]
)
def test_a_sweep_that_is_to_come_is_not_green(tmp_path: Path, ahead: timedelta, verdict: Verdict) -> None:
    history = History.in_file(tmp_path / "history.sqlite")
    history.conclude(
        [],
        lambda _: advance({}, judged(), now=NOW, settle=HOUR, team="ops"),
        lambda _: Verdict.PASS,
        now=NOW + ahead,
        seconds=0.1,
    )
    watch: Any = SimpleNamespace(remembered=lambda: history, book=book(), limits=lambda *_: None)
    assert health.findings(watch, NOW).verdict is verdict


def test_the_real_log_archive_is_asked_how_far_it_reaches(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dated:
        def reach(self, kept: Sequence[Manifest]) -> ArchiveReach:
            return walked(Verdict.PASS, kept[0].finished + HOUR)

    def archive(_self: PaperLookup, _target: Target) -> Archive:
        return Dated()  # type: ignore[return-value]

    monkeypatch.setattr(PaperLookup, "archive", archive)
    pipeline = on_paper.pipeline(Paper())
    a_night(pipeline.catalog, days=1)
    [seen] = views.overview(pipeline, NOW).exposures
    assert seen.reaches == days_ago(1) + HOUR
    assert [window.to_position for window in seen.windows] == ["0/5000060"]


def test_a_part_that_came_back_proves_nothing_about_the_set() -> None:
    pipeline = on_paper.pipeline(Paper())
    both: SetManifest = a_set(
        pipeline.catalog,
        a_backup(pipeline.catalog, days=1),
        a_backup(pipeline.catalog, Target.parse("kafka/main"), days=1),
        days=1,
    )
    part = a_drill(pipeline, Verdict.PASS, set_id=both.id, target=TARGET, name="20261123T050000Z")
    assert views.drilled(both, [part]) is None
    failed = a_drill(pipeline, Verdict.FAIL, set_id=both.id, target=TARGET, name="20261123T060000Z")
    assert views.drilled(both, [failed, part]) is Verdict.FAIL
    whole = a_drill(pipeline, Verdict.PASS, set_id=both.id, name="20261123T070000Z")
    assert views.drilled(both, [whole, failed, part]) is Verdict.PASS
    assert encode(whole)

"""The pages' routes.  All are read-only, and for those only who may see Airflow.

They run in threads, because they wait for the object store.  Nothing is loaded from elsewhere: the one style sheet is in the
page, and the page's own policy forbids scripts.
"""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
from airflow.api_fastapi.core_api.security import requires_access_view
from fastapi import Depends, FastAPI, Request
from fastapi.responses import HTMLResponse, PlainTextResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from include.engine import wiring
from include.engine.cli import figures
from include.engine.contracts import Connection, Connections
from include.engine.errors import MainstayError, NotFound
from include.engine.health.trends import soon
from include.engine.model import Verdict
from mainstay.hooks.mainstay import AirflowConnections, MainstayHook
from mainstay.ui import health, runbooks, views

if TYPE_CHECKING:
    from include.engine.verbs.pipeline import Pipeline

_HERE = Path(__file__).parent
_NAME = re.compile(r"\d{8}T\d{6}Z(_\d+)?")
# A person waits for the page: a store that is gone is told within seconds, not after the patience of a backup.
_IMPATIENT = {"max_retries": "1", "retry_seconds": "5", "timeout_seconds": "10"}
_TONES = {Verdict.PASS: "good", Verdict.FAIL: "bad"}

_STYLE = (_HERE / "templates" / "style.css").read_text(encoding="utf-8")
_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}

may_look = requires_access_view(AccessView.WEBSITE)
app = FastAPI(title="Mainstay", docs_url=None, redoc_url=None, openapi_url=None, dependencies=[Depends(may_look)])


def tone(verdict: Verdict | None) -> str:
    """Give the colour of a verdict: only PASS is good, only FAIL is bad, and all else is open, also what was never looked at."""
    return _TONES.get(verdict, "open") if verdict is not None else "open"


def _environment() -> Environment:
    found = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals |= {
        "figures": figures,
        "style": Markup(_STYLE),  # noqa: S704 - our own file
        "tone": tone,
        "within": views.within,
        "soon": soon,
        "seconds": lambda duration: duration.total_seconds(),
    }
    return found


_TEMPLATES = _environment()


class _Impatient:
    """Airflow's connections, with little patience for an S3 store unless its connection says how much it wants."""

    def __init__(self, connections: Connections, store: str | None) -> None:
        self._connections = connections
        self._store = store

    def get(self, name: str) -> Connection:
        found = self._connections.get(name)
        if name != self._store:
            return found
        return Connection(
            host=found.host,
            port=found.port,
            login=found.login,
            password=found.password,
            schema=found.schema,
            extra=_IMPATIENT | found.extra,
        )


def opened() -> Pipeline:
    """Give the pipeline that the pages are about.

    :raises Misconfigured: when the inventory or a connection is wrong
    """
    inventory = MainstayHook().inventory
    # Other stores take their client's options as extras, and would refuse these.
    impatient = inventory.store.connection if inventory.store.url.startswith("s3://") else None
    return wiring.open_pipeline(inventory, _Impatient(AirflowConnections(), impatient))


@app.exception_handler(MainstayError)
def problem(_request: Request, error: Exception) -> HTMLResponse:
    """Say what is wrong and what to do: 404 for what is not there, 503 when the store or the settings are in the way."""
    assert isinstance(error, MainstayError)
    absent = isinstance(error, NotFound)
    status = HTTPStatus.NOT_FOUND if absent else HTTPStatus.SERVICE_UNAVAILABLE
    title = "Not here" if absent else "The state of the backups is not known"
    return _page("problem.html", status, title=title, error=error, absent=absent, root=_root(_request))


@app.get("/", response_class=HTMLResponse)
def index(request: Request) -> HTMLResponse:
    """Show what would be lost, what was proved, and what there is."""
    seen = views.overview(opened(), datetime.now(UTC))
    return _page("overview.html", title="Mainstay", seen=seen, now=seen.now, root=_root(request))


@app.get("/sets/{set_id}", response_class=HTMLResponse)
def one_set(request: Request, set_id: str) -> HTMLResponse:
    """Show one set."""
    seen = views.one_set(opened(), _named(set_id), datetime.now(UTC))
    return _page("set.html", title=f"Set {set_id}", seen=seen, now=seen.now, root=_root(request))


@app.get("/drills/{drill_id}", response_class=HTMLResponse)
def one_drill(request: Request, drill_id: str) -> HTMLResponse:
    """Show one drill with its checks and stages."""
    report = views.one_drill(opened(), _named(drill_id))
    return _page("drill.html", title=f"Drill {drill_id}", report=report, root=_root(request))


@app.get("/findings", response_class=HTMLResponse)
def findings(request: Request) -> HTMLResponse:
    """Show what the last sweeps have found, and what will be too small."""
    now = datetime.now(UTC)
    seen = health.findings(MainstayHook().watch(), now)
    return _page("findings.html", title="Findings", seen=seen, now=now, root=_root(request))


@app.get("/checklists/", response_class=HTMLResponse)
def checklists(request: Request) -> HTMLResponse:
    """List the reports of checklists."""
    reports, problems = health.checklists(opened())
    return _page("checklists.html", title="Checklists", reports=reports, problems=problems, root=_root(request))


@app.get("/checklists/{kind}/{report}", response_class=HTMLResponse)
def one_checklist(kind: str, report: str) -> HTMLResponse:
    """Show the report of a checklist, a page of its own."""
    page = health.checklist(opened(), kind, _named(report))
    return HTMLResponse(page, headers=_HEADERS | {"Content-Security-Policy": health.POLICY})


@app.get("/metrics", response_class=PlainTextResponse)
def metrics() -> PlainTextResponse:
    """Give readings and findings in the text format of Prometheus, to who is logged in; ``/scrape`` takes a token."""
    text, kind = health.metrics(MainstayHook().watch(), datetime.now(UTC))
    return PlainTextResponse(text, media_type=kind)


@app.get("/runbooks/", response_class=HTMLResponse)
def all_runbooks(request: Request) -> HTMLResponse:
    """List the runbooks."""
    return _page("runbooks.html", title="Runbooks", slugs=runbooks.slugs(), root=_root(request))


@app.get("/runbooks/{slug}", response_class=HTMLResponse)
def one_runbook(request: Request, slug: str) -> HTMLResponse:
    """Show one runbook."""
    body = runbooks.rendered(runbooks.text(slug))
    return _page("runbook.html", title=f"Runbook {slug}", body=body, root=_root(request))


def _named(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise NotFound(f"{text!r} is not the name of a set or a drill", hint="they are named like 20261123T020000Z")
    return text


def _root(request: Request) -> str:
    """Give the way from the page to the overview.  Relative: Airflow need not be at the root of its host."""
    inner = request.url.path.removeprefix(request.scope.get("root_path", "")).removeprefix("/")
    return "../" * inner.count("/") or "./"


def _page(template: str, status: HTTPStatus = HTTPStatus.OK, **values: Any) -> HTMLResponse:
    return HTMLResponse(_TEMPLATES.get_template(template).render(**values), status_code=status, headers=_HEADERS)

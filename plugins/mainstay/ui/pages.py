"""The routes.  Every one asks who is there; a test walks them all."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
from airflow.api_fastapi.core_api.security import requires_access_dag, requires_access_view
from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import FileResponse, HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from include.engine.cli import figures
from include.engine.errors import MainstayError, NotFound, TransientError
from include.engine.verbs.pipeline import Pipeline
from include.engine.wiring import PROJECT
from mainstay.hooks.mainstay import MainstayHook
from mainstay.ui import overview

_HERE = Path(__file__).parent
_RUNBOOKS = PROJECT / "include" / "runbooks"
_SLUG = re.compile(r"[a-z0-9-]{1,64}")
_ID = re.compile(r"[0-9TZ]{1,32}")
_FRESH = timedelta(seconds=15)  # for so long the overview is not read from the bucket again

# Nothing is loaded from anywhere else, and no text that slipped through the escaping could run.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; frame-ancestors 'self'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}

# Who may see the DAGs of Mainstay may see what they did.
_MAY_READ = [
    Depends(requires_access_view(AccessView.WEBSITE)),
    Depends(requires_access_dag("GET", param_dag_id="backup")),
]

pages = FastAPI(title="Mainstay", docs_url=None, redoc_url=None, openapi_url=None)

_templates = Environment(
    loader=FileSystemLoader(_HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters.update(
    size=figures.size,
    duration=lambda value: figures.duration(value.total_seconds() if isinstance(value, timedelta) else value),
    moment=figures.moment,
    ratio=lambda manifest: figures.ratio(manifest.original_bytes, manifest.bytes),
)
_markdown = MarkdownIt("commonmark", {"html": False}).enable("table")


@pages.get("/", dependencies=_MAY_READ)
def show_overview() -> Response:
    """Targets, sets, drills."""
    return _page("overview.html", "", seen=_overview())


@pages.get("/sets/{set_id}", dependencies=_MAY_READ)
def show_set(set_id: str) -> Response:
    """One set with its parts."""
    pipeline = _pipeline()
    catalog = pipeline.catalog
    _require(_ID, set_id, "set")
    found = catalog.find_set(set_id)
    if found is None and catalog.find_freeze(set_id) is None:
        raise NotFound(
            f"there is no set {set_id}", hint="it may have expired: the overview lists the sets that are there"
        )
    manifests = {part.target: catalog.find(part.target, part.backup) for part in found.parts} if found else {}
    verifications = (
        {part.target: catalog.last_verification(part.target, part.backup) for part in found.parts} if found else {}
    )
    drills = [one for one in reversed(catalog.drills()) if one.set_id == set_id]
    return _page(
        "set.html",
        "../",
        set_id=set_id,
        found=found,
        freeze=catalog.find_freeze(set_id),
        manifests=manifests,
        verifications=verifications,
        drills=drills,
        by_hand=_rendered(found.by_hand) if found else "",
    )


@pages.get("/drills/{drill_id}", dependencies=_MAY_READ)
def show_drill(drill_id: str) -> Response:
    """One drill with its checks and stages."""
    _require(_ID, drill_id, "drill")
    for report in _pipeline().catalog.drills():
        if report.id == drill_id:
            longest = max((stage.seconds for stage in report.stages), default=0.0)
            return _page("drill.html", "../", report=report, longest=longest)
    raise NotFound(f"there is no drill {drill_id}", hint="the overview lists the drills")


@pages.get("/runbooks/{slug}", dependencies=_MAY_READ)
def show_runbook(slug: str) -> Response:
    """One runbook."""
    _require(_SLUG, slug, "runbook")
    try:
        text = (_RUNBOOKS / f"{slug}.md").read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFound(f"there is no runbook {slug}", hint="they are in include/runbooks/") from None
    return _page("runbook.html", "../", slug=slug, body=_rendered(text))


@pages.get("/style.css", dependencies=_MAY_READ)
def style() -> Response:
    """How the pages look."""
    return FileResponse(_HERE / "templates" / "style.css", media_type="text/css")


@pages.get("/theme.js", dependencies=_MAY_READ)
def theme() -> Response:
    """Follow Airflow's light or dark."""
    return FileResponse(_HERE / "templates" / "theme.js", media_type="text/javascript")


@pages.exception_handler(MainstayError)
def show_error(request: Request, error: MainstayError) -> Response:
    """What is wrong and what to do: an overview that cannot be read is unverified, not empty."""
    status = 404 if isinstance(error, NotFound) else 503 if isinstance(error, TransientError) else 500
    # The path below the mount: "/" is one level up from "/sets/…".
    depth = request.scope["path"].removeprefix(request.scope.get("root_path", "")).strip("/").count("/")
    return _page("error.html", "../" * depth, status=status, error=error)


def _page(template: str, root: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    html = _templates.get_template(template).render(root=root, **values)
    return HTMLResponse(html, status_code=status, headers=_HEADERS)


def _rendered(markdown: str) -> Markup:
    return Markup(_markdown.render(markdown))  # noqa: S704 - the renderer escapes: HTML is off


def _require(form: re.Pattern[str], text: str, what: str) -> None:
    if not form.fullmatch(text):
        raise NotFound(f"that is not the name of a {what}", hint="go back to the overview")


def _pipeline() -> Pipeline:
    return MainstayHook().pipeline()


class _Remembered:
    """Reads the overview at most once in a while, however many people look at it."""

    def __init__(self, read: Callable[[datetime], overview.Overview]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._seen: overview.Overview | None = None

    def __call__(self) -> overview.Overview:
        with self._lock:
            now = datetime.now(UTC)
            if self._seen is None or now - self._seen.now > _FRESH:
                self._seen = self._read(now)
            return self._seen


_overview = _Remembered(lambda now: overview.read(_pipeline(), now))

"""Metrics for a Prometheus that cannot log in: an endpoint of its own, behind a token that a connection holds.

Airflow's own bearer tokens end after a day.  Without ``sweep.metrics_token`` in the inventory there is no such endpoint.
"""

from __future__ import annotations

import hmac
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import FastAPI, Header
from fastapi.responses import PlainTextResponse

from include.engine.errors import MainstayError
from mainstay.hooks.mainstay import AirflowConnections, MainstayHook
from mainstay.ui import health

scrape = FastAPI(title="Mainstay", docs_url=None, redoc_url=None, openapi_url=None)


@scrape.get("/scrape", response_class=PlainTextResponse)
def scraped(authorization: Annotated[str, Header()] = "") -> PlainTextResponse:
    """Give readings and findings to whoever has the token; to others the endpoint is not there."""
    hook = MainstayHook()
    name = hook.inventory.sweep.metrics_token
    if name is None:
        return PlainTextResponse("not found\n", status_code=HTTPStatus.NOT_FOUND)
    try:
        token = AirflowConnections().get(name).password
        given = authorization.removeprefix("Bearer ")
        if not token or not hmac.compare_digest(given.encode(), token.encode()):
            return PlainTextResponse("the token is wrong\n", status_code=HTTPStatus.UNAUTHORIZED)
        text, kind = health.metrics(hook.watch(), datetime.now(UTC))
    except MainstayError as error:
        return PlainTextResponse(f"{error.message}\n", status_code=HTTPStatus.SERVICE_UNAVAILABLE)
    return PlainTextResponse(text, media_type=kind)

"""Mainstay's pages in Airflow: read-only, rendered on the server, from the bucket at every look."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send


class Pages:
    """The pages as an ASGI application that is loaded when somebody asks for the first of them.

    Every component of Airflow loads the plugins, and only the API server shows pages: a worker's task must not wait for FastAPI
    and the object store's client.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        from mainstay.ui.app import app
        from mainstay.ui.scrape import scrape

        inner = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        await (scrape if inner == "/scrape" else app)(scope, receive, send)

"""What Mainstay shows in Airflow: registers it, implements nothing."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from mainstay.links import PREFIX, ReportLink, RunbookLink
from mainstay.ui import Pages

_PAGES = [{"app": Pages(), "url_prefix": f"/{PREFIX}", "name": "Mainstay"}]
# The address is relative, so that it also holds where Airflow is not at the root of its host.
_ENTRIES = [{"name": "Mainstay", "href": f"{PREFIX}/", "destination": "nav", "url_route": PREFIX, "category": "browse"}]
_LINKS = [ReportLink(), RunbookLink()]


class MainstayPlugin(AirflowPlugin):
    """The pages, their entry in the navigation, and the links from tasks to them."""

    name = "mainstay"
    fastapi_apps = _PAGES
    external_views = _ENTRIES
    operator_extra_links = _LINKS

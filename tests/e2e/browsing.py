"""A browser in which a person has logged in to the live Airflow, and the pictures that it takes for the documentation."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page, expect, sync_playwright

from include.engine.wiring import PROJECT
from tests.e2e.live import Live

CHROMIUM = "/usr/bin/chromium"
PATIENCE = 45_000  # milliseconds
MOST_BYTES = 300_000


@contextmanager
def browser(live: Live) -> Iterator[Page]:
    """A page of a browser in which the admin has logged in."""
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 900}, device_scale_factor=1)
        page.set_default_timeout(PATIENCE)
        page.goto(live.demo.airflow.url)
        page.fill("input[name=username]", "admin")
        page.fill("input[name=password]", live.demo.airflow.password("admin"))
        page.click("button[type=submit]")
        page.get_by_role("link", name="Dags").first.wait_for()
        yield page
        browser.close()


def picture(page: Page, name: str) -> None:
    """Keep what is seen now for the documentation, when ``MAINSTAY_SCREENSHOTS`` is 1."""
    if os.environ.get("MAINSTAY_SCREENSHOTS") == "1":
        page.wait_for_timeout(1500)  # until nothing moves any more
        file = PROJECT / "docs" / "images" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=file)
        assert file.stat().st_size < MOST_BYTES

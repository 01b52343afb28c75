"""What a person sees in a browser.  With ``MAINSTAY_SCREENSHOTS=1`` the pictures of the documentation are taken, too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from include.engine.systems.airflow.client import Approval
from include.engine.wiring import PROJECT
from tests.e2e.live import REASON, Live

pytestmark = pytest.mark.e2e

CHROMIUM = "/usr/bin/chromium"
PATIENCE = 45_000  # milliseconds
MOST_BYTES = 300_000


@pytest.fixture(scope="module")
def page(live: Live) -> Iterator[Page]:
    """A browser in which the admin has logged in."""
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
    """Keep what is seen now for the documentation, when that is wanted."""
    if os.environ.get("MAINSTAY_SCREENSHOTS") == "1":
        page.wait_for_timeout(1500)  # until nothing moves any more
        file = PROJECT / "docs" / "images" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=file)
        assert file.stat().st_size < MOST_BYTES


def test_the_form_of_a_restore_explains_its_fields(page: Page, live: Live, asked: Approval) -> None:
    page.goto(f"{live.demo.airflow.url}/dags/restore")
    page.get_by_role("button", name="Trigger").first.click()
    for text in (
        "What to restore: one target, as the inventory names it",
        "Where the data goes. Never the server that it came from",
        "Why this is done, in at least",
        "Say what would be done, and stop before anything is changed.",
    ):
        expect(page.get_by_text(text)).to_be_visible()
    page.locator("[name=element_reason]").fill(REASON)
    page.keyboard.press("Tab")
    page.get_by_text("Single Run").first.scroll_into_view_if_needed()
    picture(page, "trigger-form")


def test_who_approves_sees_the_plan(page: Page, live: Live, asked: Approval) -> None:
    where = f"{live.demo.airflow.url}/dags/restore/runs/{quote(asked.run)}/tasks/approve/required_actions"
    page.goto(where)
    expect(page.get_by_text("Would overwrite")).to_be_visible()
    expect(page.get_by_text(REASON).first).to_be_visible()
    expect(page.get_by_text("verify every file with pg_verifybackup")).to_be_visible()
    page.get_by_role("button", name="Approve").scroll_into_view_if_needed()
    expect(page.get_by_role("button", name="Reject")).to_be_visible()
    picture(page, "approval")


def test_the_overview_shows_what_is_backed_up_and_what_is_proved(page: Page, live: Live, asked: Approval) -> None:
    page.goto(f"{live.demo.airflow.url}/plugin/mainstay")
    overview = page.frame_locator("iframe")
    expect(overview.get_by_role("heading", name="Sets", exact=True)).to_be_visible()
    expect(overview.get_by_text("postgres/main").first).to_be_visible()
    expect(overview.get_by_text("PASS").first).to_be_visible()
    newest = live.pipeline.catalog.sets()[-1].id
    expect(overview.get_by_role("link", name=newest).first).to_be_visible()
    picture(page, "page")

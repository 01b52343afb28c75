"""What a person sees in a browser.  With ``MAINSTAY_SCREENSHOTS=1`` the pictures of the documentation are taken, too."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from include.engine.systems.airflow.client import Approval
from tests.e2e.browsing import picture
from tests.e2e.live import REASON, Live

pytestmark = pytest.mark.e2e


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

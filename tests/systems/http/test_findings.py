"""The default rules of HTTP endpoints through a sweep of a real server: make a condition true, undo it, see it close."""

from __future__ import annotations

from pathlib import Path

import pytest

from include.engine import lookout
from tests.integration.sweeping import Sweeping
from tests.systems.http.serving import Serving, certificate, serving


@pytest.fixture(autouse=True)
def remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(lookout.HISTORY_VARIABLE, str(tmp_path / "history.sqlite"))


def sweeping_of(folder: Path, server: Serving, **more: str) -> Sweeping:
    scheme = "https" if "ca" in more else "http"
    settings: dict[str, object] = {
        "postgres": {"main": {"connection": "nobody"}},
        "sweep": {
            "endpoints": {"shop": {"url": f"{scheme}://127.0.0.1:{server.port}/health", **more}},
            "timeout": "30s",
        },
    }
    return Sweeping(folder, {}, settings)


def test_an_endpoint_that_answers_wrongly_is_found_until_it_does_not(tmp_path: Path) -> None:
    with serving() as server:
        sweeping = sweeping_of(tmp_path, server, body="OK")
        assert sweeping.rules("http") == set()
        for status, body in ((500, b"OK"), (200, b"login, please")):
            server.status, server.body = status, body
            assert sweeping.rules("http") == {"http-up"}
            server.status, server.body = 200, b"OK"
            assert sweeping.rules("http") == set()


def test_an_endpoint_that_answers_slowly_is_found_until_it_is_quick(tmp_path: Path) -> None:
    with serving() as server:
        sweeping = sweeping_of(tmp_path, server)
        assert sweeping.rules("http") == set()
        server.delay = 2.2
        (finding,) = sweeping.awaited("http-latency", "http")
        assert (finding.limit, str(finding.severity)) == (2, "this-week")
        server.delay = 0.0
        sweeping.until(lambda rules: not rules, "http")


def test_a_certificate_that_ends_soon_is_found_until_it_is_renewed(tmp_path: Path) -> None:
    shown = certificate(tmp_path / "shown.pem", days=2)
    with serving(shown) as server:
        sweeping = sweeping_of(tmp_path, server, ca=str(shown))
        (finding,) = sweeping.awaited("http-certificate", "http")
        assert (finding.limit, str(finding.severity)) == (3, "page")
        server.renew(certificate(shown, days=90))
        sweeping.until(lambda rules: not rules, "http")


def test_a_certificate_that_nobody_known_has_signed_is_found_until_another_is_shown(tmp_path: Path) -> None:
    known = certificate(tmp_path / "known.pem", days=90)
    with serving(certificate(tmp_path / "strange.pem", days=90)) as server:
        sweeping = sweeping_of(tmp_path, server, ca=str(known))
        sweeping.until(lambda rules: rules == {"http-certificate-trusted"}, "http")
        server.renew(known)
        sweeping.until(lambda rules: not rules, "http")

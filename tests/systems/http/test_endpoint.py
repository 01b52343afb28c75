"""An endpoint that answers, does not, answers nonsense, or has a certificate that ended."""

from __future__ import annotations

import socket
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from include.engine import lookout
from include.engine.contracts import Connection
from include.engine.errors import Corrupt, MainstayError, Misconfigured, Unreachable
from include.engine.health.rules import CustomProbe, load
from include.engine.systems.http import asking
from include.engine.systems.http.declared import open_declared
from include.engine.systems.http.probes import open_probes
from include.engine.watching import EndpointWatch
from tests.estate import eventually
from tests.health.making import judged, look
from tests.systems.http.serving import certificate, serving


class Known:
    def get(self, name: str) -> Connection:
        return Connection(login="mainstay", password="s3cr3t")


def clock() -> datetime:
    return datetime.now(UTC)


def read(url: str, *, timeout: float = 5, **watch: object) -> dict[str, float]:
    (probe,) = open_probes(EndpointWatch.model_validate({"url": url, **watch}), Known())
    readings = probe.read(clock, timeout=timeout)
    assert set(probe.metrics) <= {one.metric for one in readings}
    return {one.metric: one.value for one in readings}


def found(readings: dict[str, float]) -> set[str]:
    """Judge readings by the rules that ship."""
    from tests.health.making import reading

    rules = load([lookout.RULES], runbooks=lookout.RUNBOOKS)
    seen = look(*(reading(value, metric) for metric, value in readings.items()), subject="http/page", metrics=())
    return {one.rule for one in judged(seen, rules=rules).bad.values() if one.rule.startswith("http-")}


@pytest.mark.parametrize("text", [None, "no certificate"])
def test_a_file_of_authorities_that_cannot_be_read_says_nothing_about_the_endpoint(
    tmp_path: Path, text: str | None
) -> None:
    ca = tmp_path / "ca.pem"
    if text is not None:
        ca.write_text(text)
    with pytest.raises(Misconfigured, match=r"ca\.pem cannot be read"):
        read("https://127.0.0.1:1/health", ca=str(ca))


def test_superset_and_its_like_are_up_when_status_and_body_are_as_declared() -> None:
    with serving() as server:
        url = f"http://127.0.0.1:{server.port}/health"
        assert found(read(url, body="OK")) == set()
        assert found(read(url, body="READY")) == {"http-up"}
        server.status = 500
        assert found(read(url)) == {"http-up"}
        assert found(read(url, status=500)) == set()
        server.status = 200
        assert found(read(url)) == set()


def test_an_endpoint_that_answers_slowly_is_found_until_it_is_quick_again() -> None:
    with serving() as server:
        url = f"http://127.0.0.1:{server.port}/health"
        server.delay = 2.1
        assert found(read(url)) == {"http-latency"}
        server.delay = 0.0
        eventually(lambda: found(read(url)) == set(), what="it is quick again")


def test_a_certificate_that_ends_soon_or_has_ended_is_found_and_a_good_one_is_not(tmp_path: Path) -> None:
    for days, rules in (
        (300, set()),
        (10, {"http-certificate"}),
        (-1, {"http-certificate", "http-certificate-trusted"}),
    ):
        file = certificate(tmp_path / f"{days}.pem", days=days)
        with serving(file) as server:
            seen = read(f"https://127.0.0.1:{server.port}/", ca=str(file))
            assert found(seen) == rules
            assert abs(seen["http.certificate.days"] - days) < 1


def test_a_login_is_sent_to_nobody_who_is_not_trusted(tmp_path: Path) -> None:
    file = certificate(tmp_path / "own.pem", days=30)
    with serving(file) as server:
        url = f"https://127.0.0.1:{server.port}/"
        assert read(url, connection="page")["http.certificate.trusted"] == 0
        assert "Authorization" not in server.seen[-1][1]
        assert read(url, connection="page", ca=str(file))["http.certificate.trusted"] == 1
        assert server.seen[-1][1]["Authorization"].startswith("Basic ")


def test_a_server_that_accepts_and_never_answers_costs_the_time_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        began = time.monotonic()
        with pytest.raises(Unreachable, match="did not answer"):
            read(f"http://127.0.0.1:{listener.getsockname()[1]}/", timeout=0.3)
        assert time.monotonic() - began < 5


def test_a_server_that_sends_a_byte_now_and_then_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def dribble() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                for _ in range(100):
                    try:
                        peer.sendall(b".")
                    except OSError:
                        return
                    time.sleep(0.05)

        threading.Thread(target=dribble, daemon=True).start()
        began = time.monotonic()
        with pytest.raises(Unreachable):
            read(f"http://127.0.0.1:{listener.getsockname()[1]}/", timeout=0.4)
        assert time.monotonic() - began < 4


def test_nonsense_instead_of_http_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(1000)
                peer.sendall(b"\x00\x01\x02 what do you want?\r\n\r\n")

        threading.Thread(target=talk, daemon=True).start()
        with pytest.raises(Unreachable, match="did not answer"):
            read(f"http://127.0.0.1:{listener.getsockname()[1]}/")


def test_a_host_that_dns_does_not_know_is_named() -> None:
    with pytest.raises(Unreachable, match=r"there is no host nowhere\.invalid"):
        read("http://nowhere.invalid/")


def test_a_url_in_a_rule_file_gives_the_number_that_its_pattern_finds() -> None:
    declared = CustomProbe.model_validate(
        {"name": "depth", "url": "http://x", "metric": "shop.queue.depth", "pattern": r'"depth": (\d+)'}
    )
    with serving() as server:
        server.body = b'{"depth": 42}'
        ours = declared.model_copy(update={"url": f"http://127.0.0.1:{server.port}/"})
        (reading,) = open_declared(ours).read(clock, timeout=5)
        assert (reading.metric, reading.value) == ("shop.queue.depth", 42)
        server.body = b"<html>welcome</html>"
        with pytest.raises(Corrupt, match="finds no number"):
            open_declared(ours).read(clock, timeout=5)
        server.status = 404
        with pytest.raises(MainstayError, match="404"):
            open_declared(ours).read(clock, timeout=5)


def test_the_time_of_an_answer_is_without_the_look_at_its_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That takes two connections more: on a long way, an endpoint would be told to be slow because we look twice."""
    honest = asking._certificate

    def slow(*arguments: Any) -> tuple[datetime, bool]:
        time.sleep(3)
        return honest(*arguments)

    monkeypatch.setattr(asking, "_certificate", slow)
    path = certificate(tmp_path / "server.pem", days=30)
    with serving(path) as server:
        readings = read(f"https://127.0.0.1:{server.port}/", timeout=30)
    assert 0 < readings["http.latency"] < 3

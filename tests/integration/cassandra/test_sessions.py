"""Sessions that are shared: one login for all who ask at once, and one failure, which nobody keeps."""

from __future__ import annotations

import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from include.engine.contracts import Connection
from include.engine.errors import MainstayError, Unauthorized, Unreachable
from include.engine.sandbox.ports import free_port
from include.engine.systems.cassandra import ahead, sessions
from include.engine.systems.cassandra.client import Cql
from include.engine.systems.cassandra.sessions import session
from tests.integration.cassandra.estate import Estate

pytestmark = pytest.mark.integration

AT_ONCE = 8  # the probes of a cluster


@pytest.fixture
def logins(monkeypatch: pytest.MonkeyPatch) -> list[Connection]:
    """Every login that is tried from now on."""
    seen: list[Connection] = []

    class Counted(Cql):
        def __init__(self, connection: Connection) -> None:
            seen.append(connection)
            super().__init__(connection)

    monkeypatch.setattr(sessions, "Cql", Counted)
    return seen


def asked(connection: Connection) -> list[str]:
    """Ask with many threads at once, and say what each got."""

    def one(_: int) -> str:
        try:
            with session(connection) as cql:
                return str(cql.rows("SELECT cluster_name FROM system.local")[0]["cluster_name"])
        except MainstayError as error:
            return type(error).__name__

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(one, range(AT_ONCE)))


def own(estate: Estate, **changed: object) -> Connection:
    """The node's connection, as nobody else's session has it."""
    known = estate.connections.get("cassandra_main")
    return msgspec.structs.replace(known, extra={**known.extra, "of": uuid.uuid4().hex}, **changed)


def test_who_asks_while_another_logs_in_shares_that_login(estate: Estate, logins: list[Connection]) -> None:
    found = asked(own(estate))
    assert len(found) == AT_ONCE
    assert len(set(found)) == 1
    assert len(logins) == 1


def test_who_waits_for_a_login_that_fails_fails_with_it_and_the_next_tries_again(
    estate: Estate, logins: list[Connection]
) -> None:
    dead = own(estate, port=free_port())
    assert set(asked(dead)) == {"Unreachable"}
    tried = len(logins)
    assert tried < AT_ONCE
    with pytest.raises(Unreachable), session(dead):
        pass
    assert len(logins) == tried + 1


def test_a_login_that_was_begun_ahead_is_the_one_that_the_first_step_gets(
    estate: Estate, logins: list[Connection]
) -> None:
    usual = sys.getswitchinterval()
    known = own(estate)
    ahead.log_in(known)
    assert sys.getswitchinterval() < usual  # its answers do not wait for what is loaded meanwhile
    with session(known) as cql:
        assert cql.rows("SELECT cluster_name FROM system.local")
    assert logins == [known]
    for _ in range(100):
        if sys.getswitchinterval() == usual:
            break
        time.sleep(0.05)
    assert sys.getswitchinterval() == usual


def test_a_login_ahead_that_is_refused_is_told_by_whoever_needs_it(estate: Estate) -> None:
    wrong = own(estate, password="wrong")
    ahead.log_in(wrong)
    with pytest.raises(Unauthorized, match="did not accept the login"), session(wrong):
        pass

"""Sessions that are shared: one login for all who ask at once, and one failure, which nobody keeps."""

from __future__ import annotations

import os
import sys
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from include.engine.contracts import Connection
from include.engine.errors import MainstayError, Unauthorized, Unreachable
from include.engine.sandbox.ports import free_port
from include.engine.systems.cassandra import ahead, sessions
from include.engine.systems.cassandra.client import Cql
from include.engine.systems.cassandra.sessions import session
from tests.estate import eventually
from tests.integration.cassandra.estate import Estate

pytestmark = pytest.mark.integration

AT_ONCE = 8  # the probes of a cluster


class Logins(list[Connection]):
    """Every login that is tried.

    :ivar meanwhile: what each of them waits for before it begins
    """

    meanwhile: Callable[[Connection], None] = staticmethod(lambda _: None)


@pytest.fixture
def logins(monkeypatch: pytest.MonkeyPatch) -> Logins:
    """Every login that is tried from now on."""
    seen = Logins()

    class Counted(Cql):
        def __init__(self, connection: Connection) -> None:
            seen.append(connection)
            seen.meanwhile(connection)
            super().__init__(connection)

    monkeypatch.setattr(sessions, "Cql", Counted)
    return seen


def all_wait(connection: Connection) -> None:
    """Wait until everybody who asks is there: however slowly a busy machine starts their threads."""
    kept = sessions._kept[os.getpid(), msgspec.json.encode(connection)]
    eventually(lambda: kept.users == AT_ONCE, what="all of them wait for this login")


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


def test_who_asks_while_another_logs_in_shares_that_login(estate: Estate, logins: Logins) -> None:
    logins.meanwhile = all_wait
    found = asked(own(estate))
    assert len(found) == AT_ONCE
    assert len(set(found)) == 1
    assert len(logins) == 1


def test_who_waits_for_a_login_that_fails_fails_with_it_and_the_next_tries_again(
    estate: Estate, logins: Logins
) -> None:
    dead = own(estate, port=free_port())
    logins.meanwhile = all_wait
    assert set(asked(dead)) == {"Unreachable"}
    assert len(logins) == 1
    logins.meanwhile = lambda _: None
    with pytest.raises(Unreachable), session(dead):
        pass
    assert len(logins) == 2


def test_a_login_that_was_begun_ahead_is_the_one_that_the_first_step_gets(estate: Estate, logins: Logins) -> None:
    usual = sys.getswitchinterval()
    known, looked = own(estate), threading.Event()
    logins.meanwhile = lambda _: eventually(looked.is_set)  # or it might be over before anybody has looked
    ahead.log_in(known)
    during = sys.getswitchinterval()
    looked.set()
    assert during < usual  # its answers do not wait for what is loaded meanwhile
    with session(known) as cql:
        assert cql.rows("SELECT cluster_name FROM system.local")
    assert logins == [known]
    eventually(lambda: sys.getswitchinterval() == usual, what="its thread has ended")


def test_a_login_ahead_that_is_refused_is_told_by_whoever_needs_it(estate: Estate) -> None:
    wrong = own(estate, password="wrong")
    ahead.log_in(wrong)
    with pytest.raises(Unauthorized, match="did not accept the login"), session(wrong):
        pass

"""Sandboxes lie where the servers' account can enter and where nobody can have planted anything."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from include.engine.errors import Misconfigured, Refused
from include.engine.sandbox import home as home_module
from include.engine.sandbox.accounts import Account, ourselves, server_account
from include.engine.sandbox.home import Home, Sandbox
from include.engine.sandbox.process import ServerSpec
from tests.estate import eventually

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root hands servers to another account")


@pytest.fixture(autouse=True)
def public(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for /var/tmp."""
    public = tmp_path_factory.mktemp("public")
    public.chmod(0o1777)
    monkeypatch.setattr(home_module, "_PUBLIC", public)
    monkeypatch.delenv("MAINSTAY_HOME", raising=False)
    return public


@pytest.fixture
def closed_project(tmp_path: Path) -> Path:
    """A project in a place that nobody but its owner can enter, as in /root or in ``mktemp -d``."""
    tmp_path.chmod(0o700)
    project = tmp_path / "project"
    project.mkdir()
    return project


def test_an_open_project_is_its_own_home(open_place: Path, public: Path) -> None:
    home = Home.of(open_place)
    assert home.root == open_place / ".mainstay"
    assert home.root.stat().st_mode & 0o777 == 0o711
    assert list(public.iterdir()) == []


@as_root
def test_a_project_that_servers_cannot_enter_has_its_home_elsewhere(closed_project: Path, public: Path) -> None:
    home = Home.of(closed_project)
    assert home.root.parent == public
    assert home.root == Home.of(closed_project).root
    assert not (closed_project / ".mainstay").exists()


@as_root
def test_a_home_that_somebody_else_planted_is_refused(closed_project: Path) -> None:
    planted = Home.of(closed_project).root
    os.chown(planted, server_account().uid, server_account().gid)
    with pytest.raises(Refused, match="not a directory of root"):
        Home.of(closed_project)


def test_a_home_that_is_a_link_to_somewhere_is_refused(
    open_place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = open_place / "home"
    link.symlink_to(tmp_path)
    monkeypatch.setenv("MAINSTAY_HOME", str(link))
    with pytest.raises(Refused):
        Home.of(open_place)


@as_root
def test_a_chosen_home_that_servers_cannot_enter_is_reported(
    closed_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAINSTAY_HOME", str(closed_project / "home"))
    with pytest.raises(Misconfigured, match="cannot enter MAINSTAY_HOME"):
        Home.of(closed_project)


def test_whoever_is_not_root_runs_servers_as_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    assert server_account() == ourselves()
    assert server_account().popen == {}


def test_what_an_account_reaches_is_judged_by_every_step_of_the_way(open_place: Path) -> None:
    stranger = Account(name="stranger", uid=54321, gid=54321, groups=(54321,))
    program = open_place / "bin" / "program"
    program.parent.mkdir(mode=0o755)
    program.touch(mode=0o755)
    assert stranger.reaches(program)
    program.parent.chmod(0o700)
    assert not stranger.reaches(program)
    assert not stranger.reaches(open_place / "nothing")


@pytest.mark.parametrize("name", ["", "Demo", "../demo", ".hidden", "a/b", "a" * 64])
def test_a_name_that_is_no_plain_word_names_no_sandbox(home: Home, name: str) -> None:
    with pytest.raises(Misconfigured, match="cannot name a sandbox"):
        home.sandbox(name)


def test_a_secret_is_made_once_and_only_its_owner_can_read_it(sandbox: Sandbox) -> None:
    secret = sandbox.secret("kafka")
    assert len(secret) == 32
    assert sandbox.secret("kafka") == secret
    assert sandbox.secret("superset") != secret
    assert (sandbox.root / "secrets" / "kafka").stat().st_mode & 0o777 == 0o600


def test_whoever_is_killed_while_a_port_is_written_down_leaves_no_half_of_it(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path, _: str) -> None:
        path.touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as once:
        once.setattr(Path, "write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            sandbox.port("kafka")
    assert sandbox.port("kafka") == sandbox.port("kafka") > 0
    assert sandbox.port("cassandra") != sandbox.port("kafka")


def test_a_socket_has_a_short_path_however_deep_the_project_lies(open_place: Path, public: Path) -> None:
    deep = open_place / ("deep" * 20)
    deep.mkdir()
    with Home.of(deep).sandbox("test") as sandbox:
        directory = sandbox.socket_directory("postgres-main")
        assert directory.parent == public
        assert directory.stat().st_mode & 0o777 == 0o700
        assert directory.stat().st_uid == sandbox.account.uid
    assert not directory.exists()


def test_a_destroyed_sandbox_leaves_no_process_and_no_file(home: Home, sandbox: Sandbox) -> None:
    other = home.sandbox(f"{sandbox.name}-destroyed")
    server = other.server("sleeper")
    server.start(ServerSpec(command=["sleep", "1000"], directory=other.directory("sleeper")))
    other.destroy()
    assert not server.running
    assert not other.root.exists()


def test_a_server_whose_data_is_deleted_with_it_is_not_asked_to_stop_in_good_order(
    home: Home, sandbox: Sandbox, open_place: Path
) -> None:
    said = open_place / "said"
    said.mkdir(mode=0o777)
    said.chmod(0o777)
    patient = f"trap 'touch {said}/good-bye; sleep 1000' TERM; touch {said}/up; while :; do sleep 0.05; done"
    spoken = f"trap 'touch {said}/quit; exit 0' USR1; touch {said}/up-too; while :; do sleep 0.05; done"
    other = home.sandbox(f"{sandbox.name}-discarded")
    other.server("patient").start(
        ServerSpec(command=["sh", "-c", patient], directory=other.directory("patient"), grace=1000)
    )
    other.server("spoken").start(
        ServerSpec(
            command=["sh", "-c", spoken], directory=other.directory("spoken"), discard_signal=signal.SIGUSR1, grace=10
        )
    )
    eventually(lambda: {"up", "up-too"} <= {one.name for one in said.iterdir()}, what="both have set their traps")
    other.destroy()
    assert {one.name for one in said.iterdir()} == {"up", "up-too", "quit"}


def test_what_a_killed_run_left_is_swept_and_what_lives_is_not(open_place: Path) -> None:
    code = "import sys, pathlib; from include.engine.sandbox.home import Home"
    claim = f"{code}; Home.of(pathlib.Path(sys.argv[1])).sandbox('killed').claim()"
    project = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", claim, open_place], check=True, cwd=project, timeout=60)
    home = Home.of(open_place)
    home.sandbox("mine").claim()
    home.sandbox("demo")
    elsewhere = home.sandbox("elsewhere")  # of a process in another container, whose life nobody sees from here
    owner = json.loads((home.sandbox("killed").root / "owner.json").read_text())
    (elsewhere.root / "owner.json").write_text(json.dumps({**owner, "namespace": "pid:[1]"}))
    assert home.sweep() == ["killed"]
    assert [sandbox.name for sandbox in home.sandboxes()] == ["demo", "elsewhere", "mine"]

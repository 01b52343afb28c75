"""sstableloader gets its password by way of no file; whether it can run at all is asked before it is needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from include.engine.contracts import Connection
from include.engine.errors import PermanentError, Unsupported
from include.engine.sandbox.accounts import ourselves
from include.engine.sandbox.home import Home
from include.engine.systems.cassandra.client import Node
from include.engine.systems.cassandra.sstableloader import Loader, require_loadable

SECRET = 'p4ss"word\\ with a space'
CONNECTION = Connection(host="127.0.0.1", login="admin", password=SECRET)
NODE = Node(host_id="h", address="127.0.0.1", datacenter="dc1", rack="r", version="5.0.9", tokens=("1",))


@pytest.fixture
def java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for Java that notes what it is told, and which files know the password while it runs."""
    script = tmp_path / "bin" / "java"
    script.parent.mkdir()
    script.write_text(
        "#!/bin/sh\n"
        f'cat "${{1#@}}" > {tmp_path}/told\n'
        f"grep -rl 'p4ss' {tmp_path}/home > {tmp_path}/known\n"
        f"tr '\\0' ' ' < /proc/$$/cmdline >> {tmp_path}/known\n"
        f"[ ! -e {tmp_path}/broken ] || {{ echo 'no such class' >&2; exit 1; }}\n"
    )
    script.chmod(0o755)
    (tmp_path / "cassandra" / "lib").mkdir(parents=True)
    (tmp_path / "cassandra" / "lib" / "apache-cassandra-5.0.9.jar").touch()
    monkeypatch.setenv("PATH", f"{script.parent}:/usr/bin:/bin")
    monkeypatch.setenv("CASSANDRA_HOME", str(tmp_path / "cassandra"))
    return script


@pytest.fixture
def loader(java: Path, tmp_path: Path) -> Loader:
    home = Home(root=tmp_path / "home", account=ourselves())
    return Loader(CONNECTION, home, home.root / "restores" / "one" / ".loader")


def test_the_password_is_told_and_is_in_no_file_and_no_list_of_processes(loader: Loader, tmp_path: Path) -> None:
    loader.load(tmp_path / "ks" / "t", "copy", nodes=[NODE], storage_port=7000)
    told = (tmp_path / "told").read_text().splitlines()
    assert told[told.index('"-pw"') + 1] == '"p4ss\\"word\\\\ with a space"'
    assert told[told.index('"-k"') + 1] == '"copy"'
    assert "p4ss" not in (tmp_path / "known").read_text()
    assert str(tmp_path / "home") not in (tmp_path / "known").read_text()


def test_a_loader_that_does_not_start_is_told(loader: Loader, tmp_path: Path) -> None:
    loader.require_usable()
    assert (tmp_path / "told").read_text().splitlines()[-1] == '"--help"'
    (tmp_path / "broken").touch()
    with pytest.raises(PermanentError) as told:
        loader.require_usable()
    assert "no such class" in told.value.hint


def test_tls_is_refused(java: Path, tmp_path: Path) -> None:
    secured = Connection(host="127.0.0.1", extra={"tls_ca_file": "ca.pem"})
    with pytest.raises(Unsupported, match="TLS"):
        require_loadable(secured)
    with pytest.raises(Unsupported, match="TLS"):
        Loader(secured, Home(root=tmp_path, account=ourselves()), tmp_path).require_usable()

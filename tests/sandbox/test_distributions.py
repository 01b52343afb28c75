"""A program is installed once, whole, and where those who run it can execute it."""

from __future__ import annotations

import hashlib
import os
import tarfile
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import pytest

from include.engine.errors import Corrupt, Unreachable
from include.engine.sandbox.accounts import Account
from include.engine.sandbox.distributions import Shelf, Wheel
from include.engine.sandbox.home import Home


def write_program(into: Path) -> None:
    (into / "program").write_text("#!/bin/sh\n")


@dataclass
class Counted:
    """A distribution that counts how often it was installed."""

    fill: Callable[[Path], None] = write_program
    name: str = "serverd"
    version: str = "1.0"
    slow: str = "at once"
    installed: list[Path] = field(default_factory=list)

    def install(self, into: Path) -> None:
        self.installed.append(into)
        self.fill(into)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def shelf(tmp_path: Path, said: list[str]) -> Shelf:
    account = Account(name="root", uid=0, gid=0, groups=(0,))
    return Shelf(cache=tmp_path / "cache", home=Home(root=tmp_path / "home", account=account), say=said.append)


def test_a_program_is_installed_once(shelf: Shelf, said: list[str]) -> None:
    program = Counted()
    assert not shelf.holds(program)
    assert shelf.obtain(program) == shelf.obtain(program)
    assert shelf.holds(program)
    assert len(program.installed) == 1
    assert said[0] == "Getting serverd 1.0 (at once)"


def test_a_private_umask_hides_no_program_from_the_account_of_the_servers(shelf: Shelf) -> None:
    """A server that fetches for itself runs with umask 077."""
    before = os.umask(0o077)
    try:
        installed = shelf.obtain(Counted())
    finally:
        os.umask(before)
    for place in (installed, installed.parent):
        assert place.stat().st_mode & 0o777 == 0o755


def test_those_who_ask_at_the_same_time_share_one_installation(shelf: Shelf) -> None:
    program = Counted()
    with ThreadPoolExecutor(4) as pool:
        places = set(pool.map(lambda _: shelf.obtain(program), range(8)))
    assert len(places) == 1
    assert len(program.installed) == 1


def test_a_failed_installation_leaves_nothing_and_the_next_one_starts_anew(shelf: Shelf) -> None:
    def break_off(into: Path) -> None:
        (into / "half").touch()
        raise Unreachable("the registry went away", hint="Try again")

    with pytest.raises(Unreachable, match="went away"):
        shelf.obtain(Counted(fill=break_off))
    assert not shelf.holds(Counted())
    assert [path.name for path in shelf.obtain(Counted()).iterdir()] == ["program"]


def test_an_account_that_cannot_enter_the_cache_gets_a_copy(shelf: Shelf, open_place: Path) -> None:
    stranger = Account(name="stranger", uid=54321, gid=54321, groups=(54321,))
    shelf.cache.mkdir(mode=0o700)
    theirs = replace(shelf, home=Home(root=open_place, account=stranger))
    place = theirs.obtain(Counted())
    assert place == open_place / "dist" / "serverd-1.0"
    assert place.stat().st_mode & 0o777 == 0o755
    assert (place / "program").stat().st_mode & 0o777 == 0o644


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that pip takes for the only registry."""
    index = tmp_path / "index"
    index.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return index


def make_wheel(index: Path, name: str, files: dict[str, bytes]) -> str:
    wheel = index / f"{name}-1.0-py3-none-any.whl"
    metadata = {f"{name}-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode()}
    tags = {f"{name}-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in (files | metadata | tags | {f"{name}-1.0.dist-info/RECORD": b""}).items():
            entry = zipfile.ZipInfo(path)
            entry.external_attr = (0o755 if path.endswith("serverd") else 0o644) << 16
            archive.writestr(entry, content)
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


def test_a_wheel_with_the_pinned_hash_is_unpacked_and_its_programs_can_be_executed(shelf: Shelf, index: Path) -> None:
    digest = make_wheel(index, "dist_a", {"dist_a/bin/serverd": b"#!/bin/sh\n", "dist_a/LICENSE": b"free"})
    place = shelf.obtain(Wheel("dist-a", "1.0", sha256=[digest], part="dist_a"))
    assert (place / "bin" / "serverd").stat().st_mode & 0o777 == 0o755
    assert (place / "LICENSE").stat().st_mode & 0o777 == 0o644


def test_a_wheel_that_is_not_what_was_pinned_is_refused(shelf: Shelf, index: Path) -> None:
    make_wheel(index, "dist_b", {"dist_b/bin/serverd": b"evil"})
    wheel = Wheel("dist-b", "1.0", sha256=["0" * 64], part="dist_b")
    with pytest.raises(Corrupt, match=r"dist-b 1\.0 is not what was pinned"):
        shelf.obtain(wheel)
    assert not shelf.holds(wheel)


def test_a_wheel_that_is_not_in_the_registry_is_unreachable(shelf: Shelf, index: Path) -> None:
    with pytest.raises(Unreachable, match=r"dist-c 1\.0 could not be had"):
        shelf.obtain(Wheel("dist-c", "1.0", sha256=["0" * 64], part="dist_c"))


def test_an_archive_inside_a_wheel_is_unpacked_without_its_top_directory(
    shelf: Shelf, index: Path, tmp_path: Path
) -> None:
    (tmp_path / "serverd").write_text("#!/bin/sh\n")
    with tarfile.open(tmp_path / "server.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "serverd", "server-1.0/bin/serverd")
    digest = make_wheel(index, "dist_d", {"dist_d/server.tar.gz": (tmp_path / "server.tar.gz").read_bytes()})
    place = shelf.obtain(Wheel("dist-d", "1.0", sha256=[digest], part="dist_d/*.tar.gz"))
    assert (place / "bin" / "serverd").read_text() == "#!/bin/sh\n"


def test_what_this_python_has_installed_is_copied_instead_of_fetched(shelf: Shelf, index: Path) -> None:
    place = shelf.obtain(Wheel("pytest", version("pytest"), sha256=["0" * 64], part="pytest"))
    assert (place / "__init__.py").is_file()

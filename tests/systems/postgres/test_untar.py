"""An archive of a base backup becomes files, however its bytes arrive; what no such archive holds is refused."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from include.engine.errors import Corrupt, Refused
from include.engine.sandbox.accounts import Account, ourselves, own, server_account
from include.engine.systems.postgres.linux import acting_as, begin_writeback
from include.engine.systems.postgres.unpack import inflate
from include.engine.systems.postgres.untar import untar

KEY = "postgres/main/backups/b/a/base.tar.zst"
FILES = {
    "backup_label": b"START WAL LOCATION",
    "global/pg_control": os.urandom(8192),
    "base/5/1259": os.urandom(100_003),
    "base/5/1259_fsm": b"",
    "base/5/2600": b"x" * 512,
}


def archive(*entries: tuple[str, bytes | None], mode: int = 0o600, kind: bytes = b"") -> bytes:
    """A tar as the server makes it; None is a directory."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in entries:
            header = tarfile.TarInfo(name)
            header.type = kind or (tarfile.DIRTYPE if content is None else tarfile.REGTYPE)
            header.linkname = "elsewhere" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            header.mode, header.size = (0o700 if content is None else mode), len(content or b"")
            tar.addfile(header, io.BytesIO(content or b""))
    return made.getvalue()


WHOLE = archive(("global", None), ("base", None), ("./base/5", None), *FILES.items())


def pieces(content: bytes, sizes: list[int]) -> Iterator[bytes]:
    for at in sizes:
        yield content[:at]
        content = content[at:]
    yield content


def read(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@given(st.lists(st.integers(0, 3000), max_size=60))
@settings(max_examples=60, deadline=None)
def test_the_files_are_the_same_however_the_stream_is_cut(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    untar(pieces(WHOLE, sizes), folder, account=ourselves(), what=KEY, write_back=True)
    assert read(folder) == FILES


@pytest.fixture
def place(tmp_path: Path) -> tuple[Path, Account]:
    """A directory of the account that runs servers, where that account can get at it."""
    account = server_account()
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == os.geteuid() and not account.reaches(parent):
            parent.chmod(parent.stat().st_mode | 0o011)
    folder = tmp_path / "data"
    folder.mkdir()
    own(folder, account, mode=0o700)
    return folder, account


def test_what_is_written_is_the_accounts_own_with_the_modes_of_the_source(place: tuple[Path, Account]) -> None:
    folder, account = place
    content = archive(("base", None), ("base/1", b"1"), mode=0o640)
    untar([content], folder, account=account, what=KEY)
    found = [(folder / name).stat() for name in ("base", "base/1")]
    assert {(one.st_uid, one.st_gid) for one in found} == {(account.uid, account.gid)}
    assert [stat.S_IMODE(one.st_mode) for one in found] == [0o700, 0o640]


@pytest.mark.parametrize("name", ["/etc/passwd", "../outside", "base/../../outside", "base/.."])
def test_an_entry_that_leads_out_of_the_directory_is_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    with pytest.raises(Corrupt, match="an entry named") as refused:
        untar([archive(("base", None), (name, b"evil"))], folder, account=ourselves(), what=KEY)
    assert KEY in refused.value.message
    assert read(tmp_path) == {}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_what_is_neither_file_nor_directory_is_refused(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(Corrupt, match="of type"):
        untar([archive(("pg_tblspc", b""), kind=kind)], tmp_path, account=ourselves(), what=KEY)
    assert list(tmp_path.iterdir()) == []


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "base").symlink_to(outside)
    with pytest.raises(Corrupt, match="cannot be unpacked"):
        untar([archive(("base/1", b"1"))], folder, account=ourselves(), what=KEY)
    (folder / "target").symlink_to(outside / "file")
    untar([archive(("target", b"1"))], folder, account=ourselves(), what=KEY)
    assert not (folder / "target").is_symlink()
    assert list(outside.iterdir()) == []


def test_a_file_that_was_sent_twice_is_the_later_one(tmp_path: Path) -> None:
    untar([archive(("f", b"first, and longer"), ("f", b"second"))], tmp_path, account=ourselves(), what=KEY)
    assert read(tmp_path) == {"f": b"second"}


@pytest.mark.parametrize("left", [0, 100, 512, 700, len(WHOLE) // 2])
def test_an_archive_that_ends_too_early_is_corrupt(tmp_path: Path, left: int) -> None:
    with pytest.raises(Corrupt, match="ends too early"):
        untar([WHOLE[:left]], tmp_path, account=ourselves(), what=KEY)


def test_a_damaged_header_is_corrupt(tmp_path: Path) -> None:
    at = WHOLE.index(b"global/pg_control")
    damaged = WHOLE[:at] + b"glubal" + WHOLE[at + 6 :]
    with pytest.raises(Corrupt, match="bad checksum"):
        untar([damaged], tmp_path, account=ourselves(), what=KEY)


@pytest.mark.skipif(os.geteuid() != 0, reason="anybody else is refused by nobody")
def test_a_place_that_the_account_cannot_enter_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    folder = tmp_path / "data"
    folder.mkdir()
    with pytest.raises(Refused, match="cannot write to"):
        untar([WHOLE], folder, account=server_account(), what=KEY)
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may act as somebody else")
def test_acting_as_an_account_is_this_threads_own_affair(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of root")
    secret.chmod(0o600)
    said: list[str] = []
    with acting_as(server_account()), pytest.raises(PermissionError):
        secret.read_text()
    # Afterwards we are ourselves again, and so is every thread that we start.
    other = threading.Thread(target=lambda: said.append(secret.read_text()))
    other.start()
    other.join()
    assert said == [secret.read_text()] == ["of root"]


def test_a_hint_to_the_disk_never_fails() -> None:
    begin_writeback(-1, 0, 1 << 40)


def test_well_compressed_bytes_come_a_mebibyte_at_a_time() -> None:
    packed = zstandard.compress(bytes(64 << 20), 1)
    assert len(packed) < 32 << 10
    sizes = [len(piece) for piece in inflate([packed], "zstd", KEY)]
    assert sum(sizes) == 64 << 20
    assert max(sizes) <= 1 << 20


def test_several_frames_are_one_stream_and_a_damaged_one_is_named() -> None:
    one, two = zstandard.compress(b"one"), zstandard.compress(b"two")
    assert b"".join(bytes(piece) for piece in inflate([one[:3], one[3:] + two], "zstd", KEY)) == b"onetwo"
    with pytest.raises(Corrupt, match=KEY):
        list(inflate([one, b"nonsense that is no frame"], "zstd", KEY))

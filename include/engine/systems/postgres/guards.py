"""What a restore must not do to the place that it goes to: overwrite a live server, the source, or anything unasked."""

from __future__ import annotations

import os
import shutil
import struct
import threading
from datetime import datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from include.engine.contracts import PlanRequest
from include.engine.errors import Contended, Misconfigured, Refused, Unsupported
from include.engine.sandbox import procfs
from include.engine.sandbox.accounts import Account, own
from include.engine.sandbox.process import exclusive

MARKER = ".mainstay-restore.json"
_CONTROL = "global/pg_control"


class Marker(Struct, frozen=True, kw_only=True):
    """Says that what lies in a directory is an unfinished restore of ours: it may be thrown away.

    :param sandbox: where its server was started
    :param pid: of the restoring process, with its start time and boot: a pid alone may be another's by now
    """

    plan: str
    backup: str
    started: datetime
    sandbox: str
    pid: int
    ticks: int
    boot: str

    @classmethod
    def ours(cls, *, plan: str, backup: str, started: datetime, sandbox: str) -> Marker:
        """Give the marker of this process."""
        here = procfs.identity(os.getpid())
        assert here is not None
        return cls(
            plan=plan,
            backup=backup,
            started=started,
            sandbox=sandbox,
            pid=here.pid,
            ticks=here.started,
            boot=here.boot,
        )

    @property
    def working(self) -> bool:
        """Whether another process is at it now."""
        return self.pid != os.getpid() and procfs.Identity(self.pid, self.ticks, self.boot).alive


class Occupation(Struct, frozen=True, kw_only=True):
    """What a destination holds.

    :param kind: ``absent``, ``empty``, ``unfinished`` (an earlier restore that died), ``foreign`` or ``cluster``
    :param system_identifier: of the cluster that is there
    """

    kind: str
    system_identifier: str = ""
    entries: int = 0
    marker: Marker | None = None

    def left_by(self, plan: str) -> bool:
        """Whether an attempt of the restore that *plan* names has left it: the next one does it all again."""
        return self.marker is not None and self.marker.plan == plan


NOTHING = Occupation(kind="absent")


def require_whole(request: PlanRequest) -> None:
    """Refuse to restore a part: the files of a cluster belong together.

    :raises Unsupported: when a part, another name or appending was asked for
    """
    if request.only or request.rename or request.append:
        raise Unsupported(
            "a PostgreSQL cluster is restored whole: --only, --rename and --append do not go with it",
            hint="restore it beside the source, to a directory, and take the tables from there with pg_dump",
        )


def look(path: Path) -> Occupation:
    """Say what *path* holds.

    :raises Misconfigured: when it is no absolute path
    :raises Refused: when it is no directory
    """
    if not path.is_absolute():
        raise Misconfigured(f"{str(path)!r} is not an absolute path", hint="write the whole path, beginning with /")
    if not path.exists():
        return NOTHING
    if not path.is_dir():
        raise Refused(f"{path} is not a directory", hint="choose an empty directory, or one that does not exist yet")
    # A file system's own folder on a fresh disk is nobody's data.
    entries = [entry for entry in path.iterdir() if entry.name != "lost+found"]
    if not entries:
        return Occupation(kind="empty")
    if (path / MARKER).exists():
        return Occupation(kind="unfinished", entries=len(entries), marker=_marker(path))
    if (path / "PG_VERSION").exists():
        return Occupation(kind="cluster", system_identifier=system_identifier(path), entries=len(entries))
    return Occupation(kind="foreign", entries=len(entries))


def _marker(path: Path) -> Marker:
    try:
        return msgspec.json.decode((path / MARKER).read_bytes(), type=Marker)
    except (OSError, msgspec.MsgspecError) as error:
        raise Refused(
            f"{path / MARKER} is not a marker of this Mainstay", hint=f"look at {path}, and empty it by hand"
        ) from error


def require_idle(path: Path, found: Occupation) -> None:
    """Check that no server and no other restore works on *path*.

    The server of a restore that died is none: it is stopped when the directory is taken.

    :raises Refused: a server does; nothing that a person types allows it
    :raises Contended: another restore does
    """
    if found.marker is not None:
        if found.marker.working:
            raise Contended(
                f"another restore (process {found.marker.pid}) works on {path}", hint="wait for it, or stop it"
            )
        return
    try:
        pid = int((path / "postmaster.pid").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return
    if procfs.identity(pid) is None:
        return
    where = procfs.directory(pid)
    if where is not None and Path(where) != path.resolve():
        return  # the file is left from a crash, and the number is another process's now
    raise Refused(
        f"a PostgreSQL server (process {pid}) runs on {path}",
        hint="stop it first (pg_ctl stop -m fast), or restore to another directory",
    )


def require_allowed(path: Path, found: Occupation, *, identity: str, confirm: str, names: tuple[str, ...]) -> None:
    """Check that what is there may be replaced.

    :param identity: the system identifier of the backup's source
    :param confirm: what a person typed
    :param names: what allows it: the directory's path, the server's name
    :raises Refused: it may not; the hint says what to type
    """
    if found.kind in ("absent", "empty", "unfinished") or (confirm and confirm in names):
        return
    what = f"holds {found.entries} files or folders"
    if found.kind == "cluster":
        own_source = found.system_identifier == identity
        what = "is the source itself, or a copy of it" if own_source else "holds another PostgreSQL cluster"
        what += f" (system identifier {found.system_identifier or 'unknown'})"
    raise Refused(
        f"{path} {what}",
        hint=f"choose an empty directory, or confirm with {names[0]!r}: it is moved aside, nothing is deleted",
    )


def overwritten(path: Path, found: Occupation, plan: str) -> tuple[str, ...]:
    """Say what a person has to know of before the restore that *plan* names takes *path*.

    What an attempt of the same restore has left is none of it: whoever agreed to the restore agreed to that.
    """
    if found.kind == "unfinished":
        return () if found.left_by(plan) else (f"{path}: an unfinished restore, which is thrown away",)
    return (f"{path}: moved aside",) if found.kind in ("cluster", "foreign") else ()


def system_identifier(data: Path) -> str:
    """Give the system identifier of the cluster in *data*, empty when its control file cannot be read."""
    try:
        raw = (data / _CONTROL).read_bytes()[:8]  # the first field, in the machine's own byte order
        return str(struct.unpack("=Q", raw)[0])
    except (OSError, struct.error):
        return ""


def occupy(path: Path, found: Occupation, marker: Marker, account: Account) -> Path | None:
    """Take the destination: what a person allowed to replace is moved aside, an unfinished restore is removed.

    :returns: where the earlier content is now
    :raises Refused: when it cannot be moved, as the directory is a mount point
    :raises Contended: when another restore took it since it was looked at
    """
    # One at a time, of all on this machine, looks at a place and takes it.
    with exclusive(next(parent for parent in path.parents if parent.exists())):
        now = look(path)
        if (now.kind, now.system_identifier, now.marker) != (found.kind, found.system_identifier, found.marker):
            raise _taken(path)  # what is there now is not what was allowed to be moved
        aside = _moved_aside(path, marker) if found.kind in ("cluster", "foreign") else None
        _make(path)
        own(path, account, mode=0o700)
        _mark(path, marker, instead_of=found.marker)
    if found.kind == "unfinished":
        empty(path, keep=MARKER)
    return aside


def _moved_aside(path: Path, marker: Marker) -> Path:
    aside = path.with_name(f"{path.name}.before-{marker.started:%Y%m%dT%H%M%SZ}")
    try:
        path.rename(aside)
    except OSError as error:
        raise Refused(
            f"what {path} holds cannot be moved to {aside}: {error.strerror}",
            hint="move it away by hand (it may be a mount point) and run the restore again",
        ) from error
    return aside


def _taken(path: Path) -> Contended:
    return Contended(f"another restore has just taken {path}", hint="wait for it, or restore elsewhere")


def _mark(path: Path, marker: Marker, *, instead_of: Marker | None) -> None:
    """Put our marker into the directory, which one of several can do."""
    ours = f"{MARKER}.{os.getpid()}-{threading.get_ident()}"
    draft, old = path / f"{ours}.draft", path / f"{ours}.old"
    draft.write_bytes(msgspec.json.encode(marker))
    try:
        if instead_of is not None:
            (path / MARKER).rename(old)
            if msgspec.json.decode(old.read_bytes(), type=Marker) != instead_of:
                old.replace(path / MARKER)  # that of somebody who was quicker
                raise FileExistsError
        (path / MARKER).hardlink_to(draft)  # unlike a rename, it replaces nothing
    except (FileExistsError, FileNotFoundError) as error:
        raise _taken(path) from error
    finally:
        draft.unlink(missing_ok=True)
        old.unlink(missing_ok=True)


def _make(path: Path) -> None:
    """Make a directory and those above it, which the server's account must be able to pass whatever our umask is."""
    missing = [one for one in (path, *path.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir()
        one.chmod(0o755)


def empty(path: Path, *, keep: str = "") -> None:
    """Remove everything in *path* but *keep*; links are removed, not followed."""
    for entry in list(path.iterdir()):
        if entry.name in (keep, "lost+found"):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def release(path: Path) -> None:
    """Say that the restore is finished: the directory is no longer ours."""
    (path / MARKER).unlink(missing_ok=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Which Unix account runs a server, and what that account can reach.

PostgreSQL and others refuse to run as root, so root hands servers to an account without privileges; everybody else
runs them as themselves.
"""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from include.engine.errors import Misconfigured, Refused

_CANDIDATES = ("postgres", "nobody")


class PopenIdentity(TypedDict, total=False):
    """The arguments that make :class:`subprocess.Popen` start a program as an account."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True)
class Account:
    """A Unix account that runs servers.

    :param groups: all its group ids, the primary one too
    """

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]

    @property
    def popen(self) -> PopenIdentity:
        """Arguments for :class:`subprocess.Popen`: empty when the account is ourselves, as only root may change."""
        if self.uid == os.geteuid():
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": list(self.groups)}

    def reaches(self, path: Path) -> bool:
        """Whether the account may pass every directory on the way to *path*, and enter or execute *path* itself.

        Judged from the mode bits: access lists beyond them are not read.
        """
        path = path.resolve()
        try:
            return all(self._passes(step.stat()) for step in (path, *path.parents))
        except OSError:
            return False

    def _passes(self, found: os.stat_result) -> bool:
        if self.uid == 0:
            return True
        if found.st_uid == self.uid:
            return bool(found.st_mode & stat.S_IXUSR)
        if found.st_gid in self.groups:
            return bool(found.st_mode & stat.S_IXGRP)
        return bool(found.st_mode & stat.S_IXOTH)


def ourselves() -> Account:
    """The account of this process."""
    uid = os.geteuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:  # a container that runs with a bare number
        name = str(uid)
    return Account(name=name, uid=uid, gid=os.getegid(), groups=tuple(os.getgroups()))


def server_account() -> Account:
    """The account that servers run as: ourselves, or for root ``postgres`` when it exists, else ``nobody``.

    :raises Misconfigured: we are root and neither account exists
    """
    if os.geteuid() != 0:
        return ourselves()
    for name in _CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        groups = tuple(os.getgrouplist(name, entry.pw_gid))
        return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid, groups=groups)
    raise Misconfigured(
        f"Servers do not run as root, and none of the accounts {', '.join(_CANDIDATES)} exists",
        hint="Create one: useradd --system --no-create-home postgres",
    )


def own(path: Path, account: Account, *, mode: int | None = None) -> None:
    """Make *path* the account's, and give it *mode*; symbolic links are not followed."""
    found = path.lstat()
    if (found.st_uid, found.st_gid) != (account.uid, account.gid) and os.geteuid() == 0:
        os.chown(path, account.uid, account.gid, follow_symlinks=False)
    if mode is not None and stat.S_IMODE(found.st_mode) != mode:
        path.chmod(mode)


def own_tree(top: Path, account: Account) -> None:
    """Make *top* and everything below it the account's: what root restored, its server must be able to open.

    Symbolic links are handed over themselves, what they point to is left alone.
    """
    own(top, account)
    for parent, directories, files in os.walk(top):
        for name in (*directories, *files):
            own(Path(parent, name), account)


def private_directory(path: Path, *, owner: Account, mode: int) -> Path:
    """Create *path* in a place where anybody may create things, or take the one that is there if nobody planted it.

    :raises Refused: something is there that is no real directory of *owner*
    """
    try:
        path.mkdir(mode=0o700)
        own(path, owner)
    except FileExistsError:
        pass
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (owner.uid, os.geteuid()):
        raise Refused(
            f"{path} is not a directory of {owner.name}: somebody else put it there",
            hint="Look at it and remove it, or set MAINSTAY_HOME to a directory of your own",
        )
    own(path, owner, mode=mode)
    return path

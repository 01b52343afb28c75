"""What a person asks of a restore, in the words that the command line and the form of the DAG share.  Pure.

For one target a word is meant for it.  For a set, ``TARGET:`` before a word says which part it is meant for:
``kafka/main:users_created``, ``postgres/main:spare``; and ``TARGET`` alone among the parts to restore is all of that target.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from include.engine.errors import Misconfigured
from include.engine.model import DestinationKind, Target

_FOR = re.compile(r"([a-z]+/[a-z0-9][a-z0-9_-]*)(?::(.*))?", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is asked of one target, ready for its plan."""

    destination: DestinationKind
    path: str = ""
    server: str = ""
    confirm: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    rename: dict[str, str]
    append: bool = False


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What was typed.

    :param servers: names of servers or connections
    :param confirm: names of what may be overwritten
    :param rename: ``A=B`` each
    """

    destination: DestinationKind
    path: str = ""
    servers: Sequence[str] = ()
    confirm: Sequence[str] = ()
    only: Sequence[str] = ()
    rename: Sequence[str] = ()
    append: bool = False

    def of_one(self) -> Wish:
        """Give what is asked of the one target that is restored.

        :raises Misconfigured: when a name is not written as it should be
        """
        if len(self.servers) > 1:
            raise Misconfigured(f"one target goes to one server, not to {', '.join(self.servers)}", hint="name one")
        return Wish(
            destination=self.destination,
            path=self.path,
            server=next(iter(self.servers), ""),
            confirm=tuple(self.confirm),
            only=tuple(self.only),
            rename=_pairs(self.rename),
            append=self.append,
        )

    def of_parts(self, parts: Sequence[Target]) -> dict[Target, Wish]:
        """Give what is asked of each part of a set; parts that were not asked for are not in it.

        A part goes to the server that was named for it, else to a folder of its own in the directory, else to a sandbox.

        :raises Misconfigured: when a word says no part, or a part that the set has not, or a part has no place to go to
        """
        only, servers = self._by_part(self.only, parts), self._by_part(self.servers, parts)
        rename = self._by_part(self.rename, parts)
        confirm = self._by_part(self.confirm, parts, for_all=True)
        asked = {}
        for part in parts:
            if self.only and part not in only:
                continue
            kind, path, server = self._place(part, servers.get(part, []), alone=len(parts) == 1)
            asked[part] = Wish(
                destination=kind,
                path=path,
                server=server,
                confirm=tuple(confirm.get(part, ())),
                only=tuple(word for word in only.get(part, ()) if word),
                rename=_pairs(rename.get(part, ())),
                append=self.append,
            )
        return asked

    def _place(self, part: Target, servers: Sequence[str], *, alone: bool) -> tuple[DestinationKind, str, str]:
        if len(servers) > 1:
            raise Misconfigured(f"{part} goes to one server, not to {', '.join(servers)}", hint="name one")
        if servers:
            return DestinationKind.SERVER, "", servers[0]
        if self.path:
            folder = PurePosixPath(self.path) / f"{part.system}-{part.name}"
            return DestinationKind.DIRECTORY, self.path if alone else str(folder), ""
        if self.destination is DestinationKind.SANDBOX:
            return DestinationKind.SANDBOX, "", ""
        raise Misconfigured(
            f"nothing says where {part} of the set goes to",
            hint=f"name its server ({part}:NAME), or a directory, in which every part gets a folder",
        )

    @staticmethod
    def _by_part(words: Sequence[str], parts: Sequence[Target], *, for_all: bool = False) -> dict[Target, list[str]]:
        known = {str(part): part for part in parts}
        found: dict[Target, list[str]] = {}
        for word in words:
            match = _FOR.fullmatch(word)
            if match and match[1] in known:
                # A target's own name may be what has to be typed to allow that it is overwritten.
                found.setdefault(known[match[1]], []).append(match[2] or (word if for_all else ""))
            elif for_all or len(parts) == 1:
                for part in parts:
                    found.setdefault(part, []).append(word)
            else:
                raise Misconfigured(
                    f"{word!r} does not say which part of the set it is for",
                    hint=f"write TARGET:{word}; the set has {', '.join(known)}",
                )
        return found


def _pairs(words: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words:
        before, equals, after = word.partition("=")
        if not (before and equals and after):
            raise Misconfigured(f"{word!r} is not a new name", hint="write OLD=NEW")
        if before in found:
            raise Misconfigured(f"{before} is given two names", hint="give it one")
        found[before] = after
    return found

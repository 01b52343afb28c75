"""The runbooks as pages.  Their Markdown may hold no HTML and load nothing."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from include.engine import wiring
from include.engine.errors import NotFound

_FOLDER = wiring.PROJECT / "include" / "runbooks"
_PAGE = re.compile(r"([a-z][a-z-]*)\.md(#[\w-]+)?")
_ELSEWHERE = re.compile(r"https?://")


def slugs(folder: Path = _FOLDER) -> list[str]:
    """Name all runbooks, sorted."""
    return sorted(file.stem for file in folder.glob("*.md"))


def text(slug: str, folder: Path = _FOLDER) -> str:
    """Give a runbook's Markdown.

    :raises NotFound: when there is none of that name; the hint names those that there are
    """
    known = slugs(folder)
    if slug not in known:  # also whatever would lead out of the folder
        raise NotFound(f"there is no runbook {slug!r}", hint=f"there are: {', '.join(known)}")
    return (folder / f"{slug}.md").read_text(encoding="utf-8")


def rendered(markdown: str) -> Markup:
    """Turn Markdown into HTML.  HTML in it is shown as text, an image as its description."""
    parser = _parser()
    environment: dict[str, object] = {}
    tokens = parser.parse(markdown, environment)
    for token in tokens:
        _lead_somewhere(token.children or [])
    return Markup(parser.renderer.render(tokens, parser.options, environment))  # noqa: S704 - the parser escapes


@cache
def _parser() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")


def _lead_somewhere(tokens: list[Token]) -> None:
    """Let links between runbooks lead to their pages, and those to other files of the repository nowhere."""
    for token in tokens:
        if token.type == "link_open":
            target = str(token.attrGet("href") or "")
            if page := _PAGE.fullmatch(target):
                token.attrSet("href", page[1] + (page[2] or ""))
            elif _ELSEWHERE.match(target):
                token.attrSet("rel", "noopener noreferrer")
            else:
                token.attrs.pop("href", None)

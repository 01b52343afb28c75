"""Evidence as a page for people, made of nothing but the signed document, which it carries inside.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

from include.engine.model import Check, encode
from include.engine.model.evidence import SignedEvidence

_OPEN, _CLOSE = '<script type="application/json" id="evidence">\n', "</script>"
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%;margin:1rem 0}"
    "td,th{border-bottom:1px solid #ddd;padding:.3rem .6rem;text-align:left;vertical-align:top}"
    "code{overflow-wrap:anywhere}.PASS{color:#166534}.FAIL{color:#b91c1c;font-weight:bold}.UNVERIFIED{color:#92400e}"
)


def page(signed: SignedEvidence) -> str:
    """Write the page.  The same document gives the same page, to the byte."""
    found = signed.evidence
    drill = found.drill
    facts = [
        ("Verdict", f'<strong class="{drill.verdict}">{drill.verdict}</strong>'),
        ("Pipeline", escape(found.pipeline)),
        ("Set", escape(drill.set_id or "none")),
        ("Drilled", f"{drill.started.isoformat()} to {drill.finished.isoformat()}"),
        ("Time to be back (RTO)", _seconds(drill.rto_seconds, drill.rto_objective)),
        ("Newest data lost (RPO)", _seconds(drill.rpo_seconds, drill.rpo_objective)),
        ("Bytes restored", str(drill.bytes)),
        ("Made", found.made.isoformat()),
        ("Signed with", f"<code>{escape(signed.key)}</code>"),
        ("Signature", f"<code>{escape(signed.signature)}</code>"),
    ]
    parts = [(escape(str(one.target)), escape(one.backup), f"<code>{escape(one.sha256)}</code>") for one in found.parts]
    stages = [
        (escape(stage.name), f"{stage.seconds:.1f}", "yes" if stage.counts else "no", str(stage.bytes or ""))
        for stage in drill.stages
    ]
    consistency = list(_rows(found.consistency.checks)) if found.consistency else []
    body = [
        f"<h1>Drill {escape(drill.id)}</h1>",
        "<p>This page is evidence only as far as <code>./mainstay evidence verify</code> says so of this file.</p>",
        _table((), ((f"<b>{name}</b>", value) for name, value in facts)),
        "<h2>What was restored</h2>",
        _table(("part", "backup", "SHA-256 of its manifest"), parts),
        "<h2>What was checked</h2>",
        _table(("check", "verdict", "seen"), _rows(drill.checks)),
        "<h2>How long it took</h2>",
        "<p>Parts that do not need each other were restored side by side: of these the slowest counts for the RTO.</p>",
        _table(("stage", "seconds", "part of the RTO", "bytes"), stages),
    ]
    if consistency:
        body += ["<h2>Why the parts fit together</h2>", _table(("check", "verdict", "seen"), consistency)]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Drill {escape(drill.id)}</title>'
        f"<style>{_STYLE}</style></head><body>\n"
        + "\n".join(body)
        + f"\n{_OPEN}{_inert(signed)}{_CLOSE}\n</body></html>\n"
    )


def embedded(text: bytes) -> bytes | None:
    """Give the document that a page carries, or nothing."""
    found = re.search(re.escape(_OPEN.encode()) + b"(.*?)" + re.escape(_CLOSE.encode()), text, re.DOTALL)
    return found[1] if found else None


def _inert(signed: SignedEvidence) -> str:
    # Nothing in the document can end the element that carries it; to JSON it is the same text.
    return encode(signed).decode().replace("<", "\\u003c")


def _rows(checks: Sequence[Check]) -> Iterable[tuple[str, str, str]]:
    for check in checks:
        yield escape(check.name), f'<span class="{check.verdict}">{check.verdict}</span>', escape(check.detail)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = f"<tr>{''.join(f'<th>{cell}</th>' for cell in head)}</tr>\n" if head else ""
    lines = "\n".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table>\n{top}{lines}\n</table>"


def _seconds(achieved: float | None, objective: float | None) -> str:
    promised = f"{objective:.0f} s promised" if objective is not None else "nothing promised"
    return f"{achieved:.1f} s, {promised}" if achieved is not None else f"could not be measured, {promised}"

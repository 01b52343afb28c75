"""A checklist's report as Markdown and as one HTML file that loads nothing: tables, and plots as SVG.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from html import escape

from include.engine.model import Chapter, ChecklistReport, Item, Plot, Table, Verdict, worst

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 420, 130, 56, 18
_SIGNS = {Verdict.PASS: "PASS", Verdict.FAIL: "**FAIL**", Verdict.UNVERIFIED: "**UNVERIFIED**"}
STYLE = """
:root { color-scheme: light dark; --page:#f6f7f9; --card:#fff; --line:#e3e6eb; --text:#1b2230; --quiet:#5d6778; --ink:#2557d6;
 --good:#0f6b3a; --good-back:#dcf5e6; --bad:#a51c1c; --bad-back:#fde4e3; --open:#7a4b00; --open-back:#fdefcf; }
@media (prefers-color-scheme: dark) { :root { --page:#10141b; --card:#181e28; --line:#2a3341; --text:#e6eaf1; --quiet:#97a3b6;
 --ink:#8db2ff; --good:#7fe0a8; --good-back:#12351f; --bad:#ff9d97; --bad-back:#451a1b; --open:#ffcf70; --open-back:#3f2e0b; } }
* { box-sizing:border-box } body { margin:0 auto; padding:28px; max-width:1080px; background:var(--page); color:var(--text);
 font:14px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif; font-variant-numeric:tabular-nums }
h1 { font-size:23px; margin:0 } h2 { font-size:16px; margin:30px 0 8px } h3 { font-size:13px; margin:16px 0 6px }
.quiet { color:var(--quiet) } .sheet { background:var(--card); border:1px solid var(--line); border-radius:10px; overflow-x:auto }
nav { display:grid; grid-template-columns:repeat(auto-fit,minmax(132px,1fr)); gap:10px; margin:18px 0 0 }
nav a { padding:10px 14px; color:inherit; text-decoration:none } nav .quiet { display:block; font-size:12px; margin-top:3px }
nav a:hover { border-color:var(--ink) }
nav b { display:block; font-size:12.5px; margin-bottom:4px }
table { border-collapse:collapse; width:100% } th,td { text-align:left; padding:8px 14px; border-bottom:1px solid var(--line);
 vertical-align:top; overflow-wrap:break-word } th { font-size:12px; color:var(--quiet) } tr:last-child td { border-bottom:0 }
td:first-child { white-space:nowrap } .lines { table-layout:fixed } .lines td:nth-child(1) { width:136px }
.lines td:nth-child(2) { width:260px; overflow-wrap:anywhere }
ul { margin:4px 0 0; padding-left:18px; color:var(--quiet); font-size:12.5px }
.badge { display:inline-block; padding:1px 9px; border-radius:999px; font-size:12px; font-weight:650 }
.PASS { color:var(--good); background:var(--good-back) } .FAIL { color:var(--bad); background:var(--bad-back) }
.UNVERIFIED { color:var(--open); background:var(--open-back) }
.sheet + .sheet { margin-top:10px } nav .sheet + .sheet, .plots .sheet + .sheet { margin-top:0 }
.plots { display:grid; grid-template-columns:repeat(auto-fill,minmax(430px,1fr)); gap:14px } figure { margin:0; padding:12px }
figcaption { font-size:12.5px; font-weight:600; overflow-wrap:anywhere } svg { width:100%; height:auto }
svg .line { fill:none; stroke:var(--ink); stroke-width:1.6 } svg .limit { stroke:var(--bad); stroke-dasharray:4 3 }
svg .axis { stroke:var(--line) } svg text { fill:var(--quiet); font-size:10px }
"""


def markdown(report: ChecklistReport) -> str:
    """Write the report for terminals, mails and repositories."""
    lines = [f"# {title(report)}: {report.verdict}", "", f"{report.pipeline}, {_moment(report.finished)}", ""]
    if report.signed is not None:
        lines += [_signature(report), ""]
    for chapter in report.chapters:
        lines += [f"## {chapter.title}", "", *_markdown_items(chapter.items)]
        for table in chapter.tables:
            lines += [f"### {table.title}", "", *_markdown_rows(table.columns, table.rows), ""]
    return "\n".join(lines).rstrip() + "\n"


def html(report: ChecklistReport) -> str:
    """Write the report as one page."""
    parts = [
        f"<h1>{escape(title(report))} {_badge(report.verdict)}</h1>",
        f"<div class=quiet>{escape(report.pipeline)} · {escape(report.id)} · {_moment(report.finished)}</div>",
    ]
    if report.signed is not None:
        parts.append(f"<p>{escape(_signature(report))}</p>")
    parts.append(f"<nav>{''.join(_overview(number, chapter) for number, chapter in enumerate(report.chapters))}</nav>")
    for number, chapter in enumerate(report.chapters):
        parts += _chapter(number, chapter)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title(report))}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body>\n{chr(10).join(parts)}\n</body></html>\n"
    )


def title(report: ChecklistReport) -> str:
    """Name the checklist for people."""
    known = {"morning": "Morning checklist", "evening": "Evening checklist", "predeployment": "Before a deployment"}
    return known.get(report.kind, report.kind)


def svg(plot: Plot) -> str:
    """Draw a plot: its line, its limit, its ends."""
    if not plot.points:
        return ""
    times, values = [at for at, _ in plot.points], [value for _, value in plot.points]
    low, high = min([*values, 0.0]), max([*values, *([plot.limit] if plot.limit is not None else [])])
    high = high if high > low else low + 1
    span = (max(times) - min(times)) or 1.0

    def x(at: float) -> float:
        return _LEFT + (at - min(times)) / span * (_WIDTH - _LEFT - 6)

    def y(value: float) -> float:
        return 8 + (high - value) / (high - low) * (_HEIGHT - _BOTTOM - 8)

    line = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in plot.points)
    base = _HEIGHT - _BOTTOM
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"><title>{escape(plot.title)}</title>',
        f'<line class="axis" x1="{_LEFT}" y1="{base}" x2="{_WIDTH}" y2="{base}"/>',
        f'<line class="axis" x1="{_LEFT}" y1="8" x2="{_LEFT}" y2="{base}"/>',
        f'<text x="4" y="14">{_short(high)}</text><text x="4" y="{base}">{_short(low)}</text>',
        f'<text x="{_LEFT}" y="{_HEIGHT - 4}">{_clock(min(times))}</text>',
        f'<text x="{_WIDTH}" y="{_HEIGHT - 4}" text-anchor="end">{_clock(max(times))}</text>',
    ]
    if plot.limit is not None:
        at = y(plot.limit)
        parts.append(f'<line class="limit" x1="{_LEFT}" y1="{at:.1f}" x2="{_WIDTH}" y2="{at:.1f}"/>')
    return "".join([*parts, f'<polyline class="line" points="{line}"/></svg>'])


def _overview(number: int, chapter: Chapter) -> str:
    """A chapter at a glance: its worst verdict, and of how many lines that is the sum."""
    verdict = worst([item.verdict for item in chapter.items])
    proved = sum(item.verdict is Verdict.PASS for item in chapter.items)
    return (
        f'<a class="sheet" href="#c{number}"><b>{escape(chapter.title)}</b>{_badge(verdict)} '
        f'<span class="quiet">{proved} of {len(chapter.items)} proved</span></a>'
    )


def _chapter(number: int, chapter: Chapter) -> Iterator[str]:
    yield f'<h2 id="c{number}">{escape(chapter.title)}</h2>'
    if chapter.items:
        rows = "".join(
            f"<tr><td>{_badge(item.verdict)}</td><td><b>{escape(item.name)}</b></td><td>{escape(item.detail)}"
            f"{_evidence(item)}</td></tr>"
            for item in chapter.items
        )
        yield f'<div class="sheet"><table class="lines">{rows}</table></div>'
    for table in chapter.tables:
        heading = "" if table.title == chapter.title else f"<h3>{escape(table.title)}</h3>"
        yield heading + _table(table)
    if chapter.plots:
        shown = "".join(
            f'<figure class="sheet"><figcaption>{escape(plot.title)} <span class="quiet">{escape(plot.unit)}</span></figcaption>'
            f"{svg(plot)}</figure>"
            for plot in chapter.plots
        )
        yield f'<h3>Over time</h3><div class="plots">{shown}</div>'


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in table.rows)
    return f'<div class="sheet"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _evidence(item: Item) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in item.evidence)}</ul>" if item.evidence else ""


def _badge(verdict: Verdict) -> str:
    return f'<span class="badge {verdict}">{verdict}</span>'


def _markdown_items(items: Sequence[Item]) -> Iterator[str]:
    for item in items:
        yield f"- {_SIGNS[item.verdict]} **{_plain(item.name)}**: {_plain(item.detail)}"
        yield from (f"  - {_plain(line)}" for line in item.evidence)
    yield ""


def _markdown_rows(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{' --- |' * len(columns)}"
    yield from (f"| {' | '.join(_plain(cell) for cell in row)} |" for row in rows)


def _signature(report: ChecklistReport) -> str:
    signed = report.signed
    assert signed is not None
    note = f": {signed.note}" if signed.note else ""
    return f"{'Accepted' if signed.accepted else 'Refused'} by {signed.by} at {_moment(signed.at)}{note}"


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%d. %H:%M")


def _short(value: float) -> str:
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"

"""The page about one load test: one file, without scripts, that a person can mail."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape

import msgspec

from include.engine.loading import plots
from include.engine.loading.comparison import Comparison
from include.engine.loading.distribution import buckets, decoded
from include.engine.loading.page_style import STYLE
from include.engine.loading.plots import Line
from include.engine.model import CrossCheck, LoadResult, LoadStep, Spread, Verdict

_BADGES = {Verdict.PASS: "good", Verdict.FAIL: "bad", Verdict.UNVERIFIED: "open"}
_PERCENTILES = (("p50", "p50"), ("p90", "p90"), ("p99", "p99"), ("p999", "p99.9"), ("max", "longest"))


def page(result: LoadResult, *, earlier: Sequence[LoadResult] = (), comparisons: Sequence[Comparison] = ()) -> str:
    """Write the page.

    :param earlier: the last tests of the same profile and target, newest first
    """
    step = result.step
    parts = [_head(result), _cards(result)]
    parts += [
        f'<div class="notice open">{escape(note)}</div>'
        for note in (*((result.stopped,) if result.stopped else ()), *result.notes)
    ]
    parts.append(_section("What was asked for, and whether it held", _checks(result)))
    if step is not None:
        parts += _measured(result, step)
    if result.cross_check is not None:
        parts.append(_section("A second opinion", _cross_check(result, result.cross_check)))
    if len(result.steps) > 1 or (result.steps and step is None):
        parts.append(_section("The search", _search(result)))
    if earlier and step is not None:
        parts.append(_section("Against the last tests of this profile", _history(result, earlier)))
    parts += [_section(f"Compared with {one.before}", _compared(one)) for one in comparisons]
    parts.append(_section("With what, and what was declared", _declared(result)))
    title = escape(f"Load test {result.id}: {result.profile} on {result.target}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>'
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def bare(result: LoadResult) -> str:
    """Write a page that only says what the result says: for when nothing can be drawn of it."""
    said = escape(json.dumps(msgspec.to_builtins(result), indent=2, default=str))
    return f'<!doctype html><html lang="en"><head><meta charset="utf-8"></head><body><pre>{said}</pre></body></html>\n'


def _head(result: LoadResult) -> str:
    took = (result.finished - result.started).total_seconds()
    reason = f" · {escape(result.reason)}" if result.reason else ""
    return (
        f"<h1>{escape(result.profile)} on {escape(result.target)} {_badge(result.verdict)}</h1>"
        f'<p class="quiet">Load test {escape(result.id)} · {result.started:%Y-%m-%d %H:%M:%S} UTC · '
        f"{took:,.0f} s in all{reason}</p>"
    )


def _cards(result: LoadResult) -> str:
    step = result.step
    if step is None:
        return ""
    found = [
        ("Rate", f"{step.achieved_rate:,.0f}/s", f"of {step.target_rate:,.0f}/s asked for"),
        ("p50", _ms(step.from_intended.p50), f"{_ms(step.from_sent.p50)} from the time of sending"),
        ("p99", _ms(step.from_intended.p99), f"{_ms(step.from_sent.p99)} from the time of sending"),
        ("p99.9", _ms(step.from_intended.p999), f"{_ms(step.from_sent.p999)} from the time of sending"),
        ("Errors", f"{step.error_count:,}", f"of {step.from_intended.count:,} operations"),
    ]
    if result.limit is not None:
        most = result.limit.rate * result.limit.processes
        found.append(("Generator's own limit", f"{most:,.0f}/s", f"{result.limit.processes} x {result.limit.how}"))
    cards = "".join(
        f'<div class="card"><div class="quiet small">{escape(name)}</div><div class="figure">{escape(value)}</div>'
        f'<p class="quiet small">{escape(more)}</p></div>'
        for name, value, more in found
    )
    return f'<div class="cards">{cards}</div>'


def _measured(result: LoadResult, step: LoadStep) -> Iterable[str]:
    series = [one for one in step.series if one.from_intended.count]
    warm = step.warm_up_seconds

    def over_time(name: str, kind: str) -> list[tuple[float, float]]:
        return [(one.second + one.seconds / 2, float(getattr(getattr(one, kind), name))) for one in series]

    latencies = [
        Line(label="p50", style="a", points=over_time("p50", "from_intended")),
        Line(label="p99", style="b", points=over_time("p99", "from_intended")),
        Line(label="longest", style="c", points=over_time("max", "from_intended")),
        Line(
            label="p99 from sending: what a test that waits would show", style="d", points=over_time("p99", "from_sent")
        ),
    ]
    yield _section(
        "Latency from the intended time",
        plots.lines(latencies, unit="ms", label="latency percentiles over time", log=True, shaded=warm),
    )
    width = [(one.second + one.seconds / 2, one) for one in step.series if one.seconds > 0]
    rates = [
        Line(label="asked for", style="d", points=[(at, one.intended / one.seconds) for at, one in width]),
        Line(label="answered", style="a", points=[(at, one.completed / one.seconds) for at, one in width]),
        Line(label="errors", style="b", points=[(at, one.errors / one.seconds) for at, one in width]),
    ]
    yield _section("Throughput", plots.lines(rates, unit="per second", label="throughput over time", shaded=warm))
    if result.histograms:
        drawn = [
            ("from the intended time", "hb", buckets(decoded(result.histograms["from_intended"]))),
            ("from the time of sending", "ha", buckets(decoded(result.histograms["from_sent"]))),
        ]
        yield _section("All latencies after the warm-up", plots.histogram(drawn, label="histogram of latencies"))
    spreads = [("from the intended time", step.from_intended), ("from the time of sending", step.from_sent)]
    spreads += [(f"{kind}, from the intended time", one) for kind, one in step.kinds.items()]
    yield _section("In numbers", _spreads(spreads))
    if step.phases:
        shares = plots.shares([(name, one.mean) for name, one in step.phases.items()], label="where the time went")
        yield _section("Where the time went", shares + _spreads(step.phases.items()))
    if step.figures:
        rows = [[escape(name.replace("_", " ")), f"{value:,.6g}"] for name, value in sorted(step.figures.items())]
        yield _section("What else was measured", _table(["figure", ">value"], rows))


def _spreads(spreads: Iterable[tuple[str, Spread]]) -> str:
    rows = [
        [escape(name), f"{one.count:,}", _ms(one.mean), *(_ms(float(getattr(one, key))) for key, _ in _PERCENTILES)]
        for name, one in spreads
    ]
    return _table(["", ">operations", ">mean", *(f">{name}" for _, name in _PERCENTILES)], rows)


def _checks(result: LoadResult) -> str:
    rows = [[escape(check.name), _badge(check.verdict), escape(check.detail)] for check in result.checks]
    return _table(["gate", "verdict", "seen"], rows)


def _cross_check(result: LoadResult, other: CrossCheck) -> str:
    if other.failed:
        return f'<p class="quiet">{escape(other.by)} could not be asked: {escape(other.failed)}</p>'
    achieved = result.step.achieved_rate if result.step is not None else 0.0
    columns = (("mean", "mean"), ("p50", "p50"), ("p95", "p95"), ("p99", "p99"), ("p999", "p99.9"), ("max", "longest"))
    rows = [
        [escape(who), f"{rate:,.1f}", *(_ms(found.get(key, 0.0)) for key, _ in columns)]
        for who, rate, found in (("this test", achieved, other.ours), (other.by, other.rate, other.latencies))
    ]
    apart = "; ".join(other.differs) or "they are not apart by more than noise"
    said = f'<p class="quiet small">{escape(other.by)}: {escape(other.how)}. {escape(apart)}.</p>'
    return (
        _table(["latency from the time of sending", ">operations a second", *(f">{n}" for _, n in columns)], rows)
        + said
    )


def _search(result: LoadResult) -> str:
    rows = [
        [
            f"{step.target_rate:,.0f}",
            f"{step.achieved_rate:,.0f}",
            _ms(step.from_intended.p50),
            _ms(step.from_intended.p99),
            f"{step.error_count:,}",
            _badge(step.verdict) + (" the result" if index == result.judged else ""),
        ]
        for index, step in enumerate(result.steps)
    ]
    return _table([">asked for, 1/s", ">achieved, 1/s", ">p50", ">p99", ">errors", "gates"], rows)


def _history(result: LoadResult, earlier: Sequence[LoadResult]) -> str:
    runs = [*reversed([one for one in earlier if one.step is not None]), result]
    values = [
        (
            f"{one.started:%m-%d %H:%M}" + (" ←" if one is result else ""),
            one.step.from_intended.p99,
            _style(one, result),
        )
        for one in runs
        if one.step is not None
    ]
    return plots.bars(values, unit="p99, ms", label="p99 of the last tests")


def _style(one: LoadResult, result: LoadResult) -> str:
    return "now" if one is result else "then"


def _compared(found: Comparison) -> str:
    rows = [
        [
            escape(change.metric),
            f"{change.before:,.4g} {change.unit}",
            f"{change.after:,.4g} {change.unit}",
            "" if change.p is None else f"{change.p:.2g}",
            escape(change.says),
        ]
        for change in found.changes
    ]
    notes = "".join(f'<p class="quiet small">{escape(note)}</p>' for note in found.notes)
    method = (
        "Medians of the intervals after the warm-up; Mann and Whitney's test, two-sided: a change counts when p is below 0.01, "
        "it is larger than 5 %, and larger than what earlier tests differ by among themselves."
    )
    return _table(["", ">before", ">after", ">p", ""], rows) + f'<p class="quiet small">{method}</p>{notes}'


def _declared(result: LoadResult) -> str:
    rows = [[escape(key), escape(value)] for key, value in sorted(result.environment.items())]
    declared = escape(json.dumps(result.declared, indent=2, sort_keys=True))
    return (
        _table(["", ""], rows)
        + f"<details><summary>The profile as it was applied</summary><pre>{declared}</pre></details>"
    )


def _section(title: str, body: str) -> str:
    return f'<h2>{escape(title)}</h2><div class="sheet">{body}</div>'


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    right = [column.startswith(">") for column in columns]
    head = "".join(
        f"<th{' class=number' if r else ''}>{escape(c.removeprefix('>'))}</th>"
        for c, r in zip(columns, right, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(f"<td{' class=number' if r else ''}>{cell}</td>" for cell, r in zip(row, right, strict=True))
        + "</tr>"
        for row in rows
    )
    above = f"<thead><tr>{head}</tr></thead>" if any(columns) else ""
    return f"<table>{above}<tbody>{body}</tbody></table>"


def _badge(verdict: Verdict) -> str:
    return f'<span class="badge {_BADGES[verdict]}">{verdict}</span>'


def _ms(value: float) -> str:
    return f"{value / 1000:,.2f} s" if value >= 10_000 else f"{value:,.1f} ms" if value >= 1 else f"{value:,.2f} ms"

"""Plots as SVG, drawn by hand: the report is one file that opens anywhere, for ever, without a script."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from msgspec import Struct

_WIDTH, _HEIGHT = 760, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 26, 12, 34


class Line(Struct, frozen=True, kw_only=True):
    """One line of a plot; *style* is a class of the page's style sheet."""

    label: str
    style: str
    points: Sequence[tuple[float, float]]


def lines(series: Sequence[Line], *, unit: str, label: str, log: bool = False, shaded: float = 0.0) -> str:
    """Draw values over seconds.

    :param shaded: seconds at the beginning that do not count
    :param log: on a logarithmic axis; values of 0 lie on its lower end
    """
    points = [point for line in series for point in line.points]
    if not points:
        return '<p class="empty">Nothing was measured.</p>'
    right = max(x for x, _ in points) or 1.0
    ticks = _log_ticks([y for _, y in points]) if log else _ticks(max(y for _, y in points))
    across, up = _across(0.0, right), _up(ticks[0], ticks[-1], log=log)
    parts = [_frame(ticks, up, unit)]
    if shaded:
        parts.append(
            f'<rect class="warm" x="{_LEFT}" y="{_TOP}" width="{across(min(shaded, right)) - _LEFT:.1f}"'
            f' height="{_HEIGHT - _TOP - _BOTTOM}"/>'
        )
    parts += [_below(across(tick), f"{tick:g} s") for tick in _ticks(right)[:-1]]
    for line in series:
        path = " ".join(f"{across(x):.1f},{up(max(y, ticks[0])):.1f}" for x, y in line.points)
        parts.append(f'<polyline class="{line.style}" points="{path}"/>')
    legend = "".join(f'<span><i class="{line.style}"></i>{escape(line.label)}</span>' for line in series)
    return f'<div class="legend">{legend}</div>{_svg(parts, label)}'


def histogram(series: Sequence[tuple[str, str, Sequence[tuple[float, float, int]]]], *, label: str) -> str:
    """Draw distributions over a logarithmic axis of milliseconds, as (label, style, buckets of from, to, count)."""
    found = [bucket for _, _, buckets in series for bucket in buckets if bucket[2]]
    if not found:
        return '<p class="empty">Nothing was measured.</p>'
    decades = _log_ticks([value for low, high, _ in found for value in (low, high)])
    ticks = _log_ticks([1.0, float(max(count for _, _, count in found))])
    low, high = math.log10(decades[0]), math.log10(decades[-1])

    def across(value: float) -> float:
        share = (math.log10(max(value, decades[0])) - low) / (high - low)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    up = _up(ticks[0], ticks[-1], log=True)
    parts = [_frame(ticks, up, "operations")]
    parts += [_below(across(decade), _duration(decade)) for decade in decades]
    for _, style, buckets in series:
        for begin, end, count in buckets:
            if count:
                x, y = across(begin), up(max(count, ticks[0] * 1.05))
                wide = max(1.0, across(end) - x - 0.6)
                parts.append(
                    f'<rect class="{style}" x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{_HEIGHT - _BOTTOM - y:.1f}"/>'
                )
    legend = "".join(f'<span><i class="{style}"></i>{escape(name)}</span>' for name, style, _ in series)
    return f'<div class="legend">{legend}</div>{_svg(parts, label)}'


def bars(values: Sequence[tuple[str, float, str]], *, unit: str, label: str) -> str:
    """Draw one bar for each of (name, value, style)."""
    if not values:
        return '<p class="empty">There is nothing to compare with.</p>'
    ticks = _ticks(max(value for _, value, _ in values))
    up = _up(ticks[0], ticks[-1], log=False)
    parts = [_frame(ticks, up, unit)]
    room = (_WIDTH - _LEFT - _RIGHT) / len(values)
    for index, (name, value, style) in enumerate(values):
        x, y = _LEFT + index * room + room * 0.2, up(value)
        parts.append(
            f'<rect class="{style}" x="{x:.1f}" y="{y:.1f}" width="{room * 0.6:.1f}" height="{_HEIGHT - _BOTTOM - y:.1f}"/>'
        )
        parts.append(f'<text x="{x + room * 0.3:.1f}" y="{y - 4:.1f}" text-anchor="middle">{value:,.4g}</text>')
        parts.append(_below(x + room * 0.3, name))
    return _svg(parts, label)


def shares(parts: Sequence[tuple[str, float]], *, label: str) -> str:
    """Draw what a whole consists of, as (name, value): one bar."""
    whole = sum(value for _, value in parts)
    if whole <= 0:
        return '<p class="empty">Nothing was measured.</p>'
    drawn, x = [], 0.0
    for index, (_, value) in enumerate(parts):
        wide = value / whole * _WIDTH
        drawn.append(f'<rect class="s{index % 4}" x="{x:.1f}" y="0" width="{max(0.0, wide - 1):.1f}" height="26"/>')
        x += wide
    legend = "".join(
        f'<span><i class="s{index % 4}"></i>{escape(name)}: {value / whole:.0%}</span>'
        for index, (name, value) in enumerate(parts)
    )
    name = escape(label, quote=True)
    return (
        f'<div class="legend">{legend}</div>'
        f'<svg viewBox="0 0 {_WIDTH} 26" role="img" aria-label="{name}">{"".join(drawn)}</svg>'
    )


def _svg(parts: Sequence[str], label: str) -> str:
    name = escape(label, quote=True)
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{name}">{"".join(parts)}</svg>'


def _frame(ticks: Sequence[float], up: Callable[[float], float], unit: str) -> str:
    parts = []
    for tick in ticks:
        y = up(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_short(tick)}</text>')
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    parts.append(
        f'<text class="axis" transform="rotate(-90 12 {middle:.0f})" x="12" y="{middle:.0f}" text-anchor="middle">'
        f"{escape(unit)}</text>"
    )
    return "".join(parts)


def _below(x: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{escape(text)}</text>'


def _across(low: float, high: float) -> Callable[[float], float]:
    return lambda value: _LEFT + (value - low) / ((high - low) or 1.0) * (_WIDTH - _LEFT - _RIGHT)


def _up(low: float, high: float, *, log: bool) -> Callable[[float], float]:
    room = _HEIGHT - _TOP - _BOTTOM
    if log:
        bottom, top = math.log10(low), math.log10(high)
        return lambda value: _HEIGHT - _BOTTOM - (math.log10(max(value, low)) - bottom) / ((top - bottom) or 1.0) * room
    return lambda value: _HEIGHT - _BOTTOM - (value - low) / ((high - low) or 1.0) * room


def _ticks(most: float) -> list[float]:
    """Give round numbers from 0 to at least *most*: 1, 2 or 5 times a power of ten apart."""
    if most <= 0:
        return [0.0, 1.0]
    rough = most / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    return [round(step * index, 9) for index in range(math.ceil(most / step - 1e-9) + 1)]


def _log_ticks(values: Sequence[float]) -> list[float]:
    """Give the powers of ten around the positive ones of *values*."""
    positive = [value for value in values if value > 0] or [1.0]
    low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)) + 1e-9)
    return [10.0**power for power in range(max(low, high - 7), max(high, low + 1) + 1)]


def _short(value: float) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _duration(milliseconds: float) -> str:
    if milliseconds < 1:
        return f"{milliseconds * 1000:g} µs"
    return f"{milliseconds:g} ms" if milliseconds < 1000 else f"{milliseconds / 1000:g} s"

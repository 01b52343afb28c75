"""The style sheet of the report, inside of the page: light and dark as the reader's system is."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --line: #e3e6eb; --text: #1b2230; --quiet: #5d6778;
 --good: #0f6b3a; --good-back: #dcf5e6; --bad: #a51c1c; --bad-back: #fde4e3; --open: #7a4b00; --open-back: #fdefcf;
 --a: #2557d6; --b: #c2410c; --c: #a3a9b5; --d: #0f8a6d; }
@media (prefers-color-scheme: dark) { :root { --page: #10141b; --card: #181e28; --line: #2a3341; --text: #e6eaf1;
 --quiet: #97a3b6; --good: #7fe0a8; --good-back: #12351f; --bad: #ff9d97; --bad-back: #451a1b; --open: #ffcf70;
 --open-back: #3f2e0b; --a: #8db2ff; --b: #ff9b66; --c: #5f6b7e; --d: #5fd3b4; } }
* { box-sizing: border-box }
body { margin: 0; padding: 24px; background: var(--page); color: var(--text); font: 14px/1.5 system-ui, sans-serif;
 font-variant-numeric: tabular-nums }
main { max-width: 900px; margin: 0 auto } h1 { font-size: 22px; margin: 0 } h2 { font-size: 15px; margin: 26px 0 8px }
.quiet { color: var(--quiet) } .small { font-size: 12.5px } p { margin: 4px 0 }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(250px, 1fr)); gap: 12px; margin-top: 14px }
.card, .sheet { background: var(--card); border: 1px solid var(--line); border-radius: 10px }
.card { padding: 12px 16px } .figure { font-size: 24px; font-weight: 650 } .sheet { padding: 10px 14px; overflow-x: auto }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: 6px 10px; vertical-align: top;
 border-bottom: 1px solid var(--line) } th { font-size: 12px; color: var(--quiet) } tbody tr:last-child td { border: 0 }
.number { text-align: right; white-space: nowrap }
.badge { display: inline-block; padding: 1px 9px; border-radius: 999px; font-size: 12px; font-weight: 650 }
.good { color: var(--good); background: var(--good-back) } .bad { color: var(--bad); background: var(--bad-back) }
.open { color: var(--open); background: var(--open-back) }
.notice { border-radius: 10px; padding: 8px 14px; margin: 12px 0 0; overflow-wrap: anywhere }
svg { width: 100%; height: auto; display: block } svg text { font: 11px system-ui, sans-serif; fill: var(--quiet) }
.grid { stroke: var(--line); stroke-width: 1 } .warm { fill: var(--quiet); opacity: .12 }
polyline { fill: none; stroke-width: 1.8; stroke-linejoin: round }
polyline.a { stroke: var(--a) } polyline.b { stroke: var(--b) } polyline.c { stroke: var(--c); stroke-dasharray: 2 3 }
polyline.d { stroke: var(--d); stroke-dasharray: 6 4 }
rect.ha { fill: var(--d); opacity: .55 } rect.hb { fill: var(--b); opacity: .6 }
rect.now { fill: var(--a) } rect.then { fill: var(--c) }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 12.5px; color: var(--quiet); margin-bottom: 6px }
.legend i { display: inline-block; width: 14px; height: 3px; border-radius: 2px; margin-right: 6px; vertical-align: middle }
i.a { background: var(--a) } i.b { background: var(--b) } i.c { background: var(--c) } i.d { background: var(--d) }
i.ha { background: var(--d) } i.hb { background: var(--b) }
rect.s0 { fill: var(--a) } rect.s1 { fill: var(--c) } rect.s2 { fill: var(--d) } rect.s3 { fill: var(--b) }
i.s0 { background: var(--a) } i.s1 { background: var(--c) } i.s2 { background: var(--d) } i.s3 { background: var(--b) }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 12px } summary { cursor: pointer; margin-top: 8px }
.empty { color: var(--quiet) }
"""

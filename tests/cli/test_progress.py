"""Progress is a line that rewrites itself on a terminal, and plain lines elsewhere."""

from __future__ import annotations

import io

import pytest

from include.engine.cli.progress import ShellProgress


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_log_gets_plain_lines_and_few_of_them(clock: Clock) -> None:
    log = io.StringIO()
    with ShellProgress(log, now=clock) as progress:
        progress.stage("copy", 80 << 20)
        for _ in range(80):
            clock.seconds += 0.125
            progress.advance(1 << 20)
        progress.say("one thing happened")
    assert log.getvalue().splitlines() == [
        "copy (80.0 MiB)",
        "  copy  40.0 MiB of 80.0 MiB (50 %)  8.00 MiB/s  5.0 s left",
        "  copy  80.0 MiB of 80.0 MiB (100 %)  8.00 MiB/s",
        "one thing happened",
        "copy: 80.0 MiB, 8.00 MiB/s in 10 s",
    ]


def test_a_terminal_gets_one_line_that_is_rewritten(clock: Clock) -> None:
    terminal = Terminal()
    with ShellProgress(terminal, now=clock) as progress:
        progress.stage("copy", 10 << 20)
        clock.seconds += 1
        progress.advance(5 << 20)
    assert "\r\x1b[2Kcopy  5.00 MiB of 10.0 MiB (50 %)  5.00 MiB/s  1.0 s left" in terminal.getvalue()
    assert terminal.getvalue().count("\n") == 1


def test_more_than_was_expected_shows_no_time_left(clock: Clock) -> None:
    log = io.StringIO()
    progress = ShellProgress(log, now=clock)
    progress.stage("copy", 10)
    clock.seconds += 10
    progress.advance(20)
    assert "left" not in log.getvalue()
    assert "100 %" in log.getvalue()


def test_quiet_says_nothing() -> None:
    log = io.StringIO()
    with ShellProgress(log, quiet=True) as progress:
        progress.stage("copy")
        progress.say("x")
    assert log.getvalue() == ""

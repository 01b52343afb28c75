"""How the program that receives the log is ended."""

from __future__ import annotations

import signal
import subprocess
import sys

from include.engine.systems.postgres.receiver import end

_DEAF = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
print("deaf", flush=True)
"""
_LATE = f"""{_DEAF}
time.sleep(0.5)
signal.signal(signal.SIGINT, lambda *_: os._exit(7))  # at once: a program that ends slowly is interrupted once more
time.sleep(60)
"""


def born_deaf(program: str) -> subprocess.Popen[str]:
    """Start *program*, and wait until it ignores SIGINT."""
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "deaf\n"
    return child


def test_a_program_that_does_not_listen_yet_is_interrupted_again() -> None:
    with born_deaf(_LATE) as child:
        end(child, grace=30)
        assert child.wait(10) == 7


def test_a_program_that_never_listens_is_killed() -> None:
    with born_deaf(f"{_DEAF}\ntime.sleep(60)") as child:
        end(child, grace=0.3)
        assert child.wait(10) == -signal.SIGKILL

"""Runs a stock tool that makes load: it ends when it is asked to, when its time is up, and when this process dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from include.engine.children import kept_in_memory
from include.engine.contracts import Stop

_LEASH = Path(__file__).with_name("leash.py")
SECRET = "{secret}"  # noqa: S105 - what stands for one
_ENDS_WITHIN = 5.0  # seconds, once it was let go


def run_tool(
    command: Sequence[str],
    *,
    directory: Path,
    environment: Mapping[str, str],
    stop: Stop,
    timeout: float | None,
    output: IO[str] | None = None,
    errors: IO[str] | None = None,
    moment: float = 0.0,
    secret: str = "",
) -> int | None:
    """Run *command* to its end and give its exit code; nothing when it was ended after *timeout*.

    :param environment: all of it; secrets go here or into *secret*, never on the command line
    :param moment: seconds that it has after a stop, to end by itself
    :param secret: the content of the file :data:`SECRET` that *command* may name, which is in memory only
    :raises Interrupted: when it was asked to stop
    """
    with kept_in_memory(secret) as file:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_LEASH), *(part.replace(SECRET, f"/dev/fd/{file}") for part in command)],
            cwd=directory,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=output or subprocess.DEVNULL,
            stderr=errors or subprocess.DEVNULL,
            pass_fds=(file,),
            start_new_session=True,  # a Ctrl-C is for us, who end it in good order
        )
    stop.on_stop(lambda: threading.Thread(target=_end, args=(process, moment), daemon=True).start())
    code: int | None = None
    try:
        with suppress(subprocess.TimeoutExpired):
            code = process.wait(timeout=timeout)
    finally:
        _end(process, 0.0)
        stop.check()
    return code


def _end(process: subprocess.Popen[bytes], moment: float) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=moment)
    if process.stdin is not None:
        process.stdin.close()  # the leash kills what it holds
    try:
        process.wait(timeout=_ENDS_WITHIN)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

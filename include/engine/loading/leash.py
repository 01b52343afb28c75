"""Holds a stock tool that makes load, so that it ends with whoever has started it.  A file to be run; it knows nothing of Mainstay.

The tool itself would go on when its parent is killed, with nobody to look at the guards.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading


def main() -> None:
    """Run the command that is given, until it ends or our standard input does."""
    tool = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, close_fds=False)  # what we were given is for it

    def hold() -> None:
        while os.read(0, 1):  # nothing at the end: our parent let go, or is gone
            pass
        tool.kill()

    threading.Thread(target=hold, daemon=True).start()
    code = tool.wait()
    os._exit(code if code >= 0 else 128 - code)  # the thread may hang in its read


if __name__ == "__main__":
    main()

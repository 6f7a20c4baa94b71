"""`ros2 run vla_recorder record`. What it does is in `console`; here only what must come before the imports."""

from __future__ import annotations

import signal
import sys


def main() -> int:
    # The imports take seconds. A KeyboardInterrupt inside one would end in a traceback, or be lost in a callback of the
    # interpreter's own; there is nothing to tidy up yet, so Ctrl-C may simply end the process.
    at_start = signal.getsignal(signal.SIGINT)
    if at_start is signal.default_int_handler:  # else it is ignored, as in the background
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from vla_recorder.console import run

    try:
        signal.signal(signal.SIGINT, at_start)
        return run(sys.argv)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())

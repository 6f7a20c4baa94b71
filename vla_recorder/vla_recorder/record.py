"""`ros2 run vla_recorder record`. What it does is in `console`; here only what must come before the imports."""

from __future__ import annotations

import sys


def main() -> int:
    try:
        from vla_recorder.console import run  # takes a second, in which Ctrl-C is no reason for a traceback

        return run(sys.argv)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())

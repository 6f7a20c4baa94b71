"""One progress bar for all tools: on stderr, gone when done, silent where nobody looks."""

from __future__ import annotations

import sys

from tqdm import tqdm

from vla_recorder.tools.interrupt import grant


class _Bar(tqdm):
    def update(self, n: float = 1) -> bool | None:
        """One step further; where a deferred Ctrl-C takes effect."""
        grant()
        return super().update(n)


def bar(total: int, what: str, unit: str = "rows", **more) -> tqdm:
    """A bar to use as a context manager; `update(n)` moves it."""
    return _Bar(
        total=total,
        desc=what,
        unit=f" {unit}",
        leave=False,
        disable=not sys.stderr.isatty(),
        file=sys.stderr,
        **more,
    )

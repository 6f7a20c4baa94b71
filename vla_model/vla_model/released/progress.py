"""A progress bar for files that a library writes in one call."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tqdm import tqdm


@contextmanager
def follow(directory: Path, total_bytes: int) -> Iterator[None]:
    """Shows how much of `total_bytes` has reached the files in `directory`, the hidden ones too."""
    done = threading.Event()
    with tqdm(total=total_bytes, unit="B", unit_scale=True, desc="writing") as bar:

        def watch() -> None:
            while not done.wait(0.2):
                bar.update(min(_written(directory), total_bytes) - bar.n)

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
            done.set()
            thread.join()
            bar.update(total_bytes - bar.n)
        finally:
            done.set()
            thread.join()


def _written(directory: Path) -> int:
    """Bytes on the disk: a file may have its full size long before."""
    total = 0
    for path in directory.iterdir():
        with suppress(FileNotFoundError):  # renamed meanwhile
            total += 512 * path.stat().st_blocks
    return total

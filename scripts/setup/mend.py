"""Mends the CMake files that the ROS wheels export.

They name the Python and NumPy include folders of the machine that built the wheels, and CMake refuses an include
path that does not exist. Run by the virtual environment's own Python: `python mend.py <prefix>/share`.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from pathlib import Path

PYTHON_INCLUDE = re.compile(r"/opt/python/cp3\d+-cp3\d+/include/python3\.\d+")
NUMPY_INCLUDE = re.compile(r'/[^\s;"]*/site-packages/numpy/_?core/include')


def mend(text: str, python_include: str, numpy_include: str) -> str:
    """A CMake file's text with both include folders replaced; a mended text stays as it is."""
    text = PYTHON_INCLUDE.sub(lambda _: python_include, text)
    return NUMPY_INCLUDE.sub(lambda _: numpy_include, text)


def mend_files(share: Path, python_include: str, numpy_include: str) -> int:
    """Mend every exported CMake file under a share folder; the number of files changed."""
    changed = 0
    for file in sorted(share.rglob("*.cmake")):
        text = file.read_text()
        mended = mend(text, python_include, numpy_include)
        if mended != text:
            file.write_text(mended)
            changed += 1
    return changed


if __name__ == "__main__":
    import numpy

    count = mend_files(Path(sys.argv[1]), sysconfig.get_path("include"), numpy.get_include())
    print(f"mended {count} files")

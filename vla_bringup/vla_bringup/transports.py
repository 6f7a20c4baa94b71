"""How Fast DDS carries camera images between the processes of one machine.

Measured on two cores, four 640x480 raw cameras (Fast DDS 2.14):
- its default transports lose most raw frames: their 512 kB shared-memory segment does not hold one;
- LARGE_DATA loses none and is the quickest (1.4 ms at the median), but 2 of 100 starts of two nodes left them
  unable to find each other, and 2 nodes hung at their end (its TCP channels); on kernels with the stock
  net.core.rmem_max of 212992 no message arrives at all;
- shared memory with a segment that holds a few frames loses none, connected in 50 of 50 starts, and takes
  3.4 ms. It is the default here. LARGE_DATA remains for rigs whose cameras hang on another machine.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from ament_index_python.packages import get_package_share_directory

from vla_bringup.shm import remove_leftovers

CHOICES = ("shared_memory", "shared_memory_1080p", "large_data")
PROFILE = "FASTRTPS_DEFAULT_PROFILES_FILE"
_CHOSEN_BY = ("FASTDDS_BUILTIN_TRANSPORTS", "FASTDDS_DEFAULT_PROFILES_FILE")


def transport_environment(choice: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment variables for one of CHOICES, on top of the environment that the processes inherit.

    Empty where the user has chosen transports already; what env.bash has set is not the user's word.
    """
    folder = Path(get_package_share_directory("vla_bringup")) / "dds"
    ours = {str(folder / f"{name}.xml") for name in CHOICES}
    if any(environ.get(name) for name in _CHOSEN_BY) or environ.get(PROFILE, "") not in {"", *ours}:
        return {}
    return {PROFILE: str(folder / f"{choice}.xml")}


def main() -> int:
    """Print the shell lines by which env.bash gives every process of a shell the same transports."""
    remove_leftovers()
    for name, value in transport_environment("shared_memory", os.environ).items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

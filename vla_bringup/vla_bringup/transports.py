"""How Fast DDS carries camera images between the processes of one machine.

Its default transports lose most raw frames. LARGE_DATA loses none and is the quickest, but asks for sockets that stock
kernels before 6.18 refuse (net.core.rmem_max 212992), and then *no* message arrives at all. Shared memory with a large
segment works everywhere, also for frames above LARGE_DATA's message size, at a few milliseconds more.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from ament_index_python.packages import get_package_share_directory

MESSAGE_BYTES = 2_000_000
LARGE_DATA = {"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA?max_msg_size=2MB&sockets_size=2MB"}
CHOICES = ("auto", "large_data", "shared_memory")
SOCKET_LIMITS = (Path("/proc/sys/net/core/rmem_max"), Path("/proc/sys/net/core/wmem_max"))
_CHOSEN_BY = ("FASTDDS_BUILTIN_TRANSPORTS", "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")


def transport_environment(choice: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment variables for one of CHOICES, on top of the environment that the processes inherit.

    Empty where the user has chosen transports already; what env.bash has set is not the user's word.
    """
    inherited = {name: environ[name] for name in _CHOSEN_BY if environ.get(name)}
    if inherited and inherited not in (LARGE_DATA, shared_memory()):
        return {}
    if choice == "shared_memory" or (choice == "auto" and socket_limit_bytes() < MESSAGE_BYTES):
        return shared_memory()  # a profile goes before FASTDDS_BUILTIN_TRANSPORTS, should that be set too
    return LARGE_DATA


def shared_memory() -> dict[str, str]:
    """The environment for the shared-memory profile."""
    profile = Path(get_package_share_directory("vla_bringup")) / "dds" / "shared_memory.xml"
    return {"FASTRTPS_DEFAULT_PROFILES_FILE": str(profile)}


def socket_limit_bytes() -> int:
    """The largest socket buffer that the kernel grants, bytes."""
    return min((int(file.read_text()) for file in SOCKET_LIMITS if file.is_file()), default=0)


def main() -> int:
    """Print the shell lines by which env.bash gives every process of a shell the same transports."""
    for name, value in transport_environment("auto", os.environ).items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

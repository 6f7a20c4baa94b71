"""The package's commands. MuJoCo is tried first: without an OpenGL library its import ends in a riddle."""

import os
import sys


def _mujoco_loads() -> bool:
    try:
        import mujoco  # noqa: F401
    except (ImportError, AttributeError, RuntimeError) as error:
        print(
            f"{os.path.basename(sys.argv[0])}: MuJoCo cannot be loaded "
            f"with MUJOCO_GL={os.environ['MUJOCO_GL']} ({error}). "
            "It needs the mujoco wheel and that OpenGL library: Debian's libegl1 for egl, libosmesa6 for osmesa",
            file=sys.stderr,
        )
        return False
    return True


def sim_rig() -> int:
    if not _mujoco_loads():
        return 2
    from vla_sim.rig_node import main

    return main()


def demonstrator() -> int:
    if not _mujoco_loads():
        return 2
    from vla_sim.demonstrator_node import main

    return main()

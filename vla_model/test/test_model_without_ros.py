"""vla_model runs where no ROS package can be imported."""

import subprocess
import sys
import textwrap

SCRIPT = textwrap.dedent(
    """
    import sys
    import numpy as np

    ROS = ("rclpy", "rosidl", "ament", "launch", "std_msgs", "sensor_msgs",
           "vla_rig", "vla_msgs", "vla_policy_node", "vla_recorder", "vla_training", "vla_sim", "vla_bringup")

    class Refuse:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0].startswith(ROS):
                raise ImportError(f"{name} must not be imported here")

    sys.meta_path.insert(0, Refuse())
    try:
        import rclpy
    except ImportError:
        pass
    else:
        sys.exit("rclpy was importable: this test proves nothing")

    sys.path.insert(0, sys.argv[1])
    from tiny_model import observation, statistics, tiny_config
    from vla_model.policy import Policy, build_policy

    build_policy(tiny_config(), statistics(), "name: tiny").save(sys.argv[2])
    print(Policy.from_checkpoint(sys.argv[2], device="cpu").predict(observation()).shape)
    """
)


def test_it_builds_saves_loads_and_predicts(tmp_path):
    from pathlib import Path

    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, here, str(tmp_path / "tiny")],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(8, 6)"

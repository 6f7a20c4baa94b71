"""Training imports and runs where no ROS package can be imported."""

import subprocess
import sys
import textwrap
from pathlib import Path

SCRIPT = textwrap.dedent(
    """
    import sys
    ROS = ("rclpy", "rosidl", "ament", "launch", "std_msgs", "sensor_msgs", "vla_msgs",
           "vla_policy_node", "vla_sim", "vla_bringup")

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
    from pathlib import Path
    from training_episodes import write
    from training_model import COMMON
    from vla_training import evaluate, finetune

    folder = Path(sys.argv[2])
    write(folder)
    out = str(folder / "checkpoint")
    code = finetune.main([str(folder), "--output", out, *COMMON, "--steps", "2"])
    sys.exit(code or evaluate.main([out, str(folder)]))
    """
)


def test_it_trains_and_evaluates(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), str(tmp_path)],
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "arm_y" in done.stdout

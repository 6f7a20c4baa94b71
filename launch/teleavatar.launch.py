"""Teleavatar: `ros2 launch vla_policy_node teleavatar.launch.py --show-args` lists the arguments."""

from vla_bringup.launching import rig_launch_description


def generate_launch_description():
    """The processes of `vla up teleavatar`, with the same arguments."""
    return rig_launch_description("teleavatar")

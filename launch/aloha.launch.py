"""ALOHA, real or simulated: `ros2 launch vla_policy_node aloha.launch.py --show-args` lists the arguments."""

from vla_bringup.launching import rig_launch_description


def generate_launch_description():
    """The processes of `vla up aloha`, with the same arguments."""
    return rig_launch_description("aloha")

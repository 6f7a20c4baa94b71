"""The same processes as launch_ros nodes. Only imported by launch files: `launch` comes with a ROS installation."""

from __future__ import annotations

from launch.actions import DeclareLaunchArgument, OpaqueFunction, Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchContext, LaunchDescription
from vla_bringup.options import check_options, rig_options
from vla_bringup.processes import Process, rig_processes


def rig_launch_description(rig: str) -> LaunchDescription:
    """Launch arguments with the names, defaults and choices of `vla up`, and the nodes that follow from them."""
    options = rig_options(rig)
    arguments = [
        DeclareLaunchArgument(
            option.name,
            default_value=option.default,
            description=option.help,
            # launch checks the default too: an empty one stands for "leave it to the node"
            choices=list(dict.fromkeys((*option.choices, option.default))) if option.choices else None,
        )
        for option in options
    ]

    def start(context: LaunchContext) -> list[Node]:
        values = {option.name: LaunchConfiguration(option.name).perform(context) for option in options}
        return [as_node(process) for process in rig_processes(check_options(rig, values))]

    return LaunchDescription([*arguments, OpaqueFunction(function=start)])


def as_node(process: Process) -> Node:
    """A launch_ros node for a process; when it ends, the launch ends, as with `vla up`."""
    parameters = {
        # Otherwise launch reads text as YAML, and an instruction "yes" becomes a bool.
        name: ParameterValue(value, value_type=str) if isinstance(value, str) else value
        for name, value in process.parameters.items()
    }
    return Node(
        package=process.package,
        executable=process.executable,
        name=process.name,
        namespace=process.namespace,
        parameters=[*process.parameter_files, parameters],
        remappings=list(process.remappings),
        additional_env=dict(process.environment),
        ros_arguments=["--log-level", process.log_level],
        output="screen",
        emulate_tty=True,
        on_exit=Shutdown(reason=f"{process.name} has ended"),
    )

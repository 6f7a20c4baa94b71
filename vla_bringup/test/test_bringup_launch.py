"""The launch files start exactly the processes of `vla up`, under the same argument names.

`launch` comes with a ROS installation only. Where it is missing, its few names that we use are recorded by plain
stand-ins, so that our own side is still tried; the test below it runs against the real one.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from ament_index_python.packages import get_package_share_directory

from vla_bringup.options import parse_options, rig_options
from vla_bringup.processes import rig_processes

LAUNCH = Path(get_package_share_directory("vla_policy_node")) / "launch"
WORDS = ["sim:=true", "teleop:=true", "namespace:=cell", "seed:=3", "recorder:=true", "instruction:=yes"]


def recorder_of(kind):
    return lambda *args, **kwargs: SimpleNamespace(kind=kind, args=args, **kwargs)


@pytest.fixture
def recorded_launch(monkeypatch):
    """The names that vla_bringup.launching takes from launch and launch_ros, recording how they are called."""

    class LaunchConfiguration:
        def __init__(self, name):
            self.name = name

        def perform(self, context):
            return context[self.name]

    names = {
        "launch": {"LaunchContext": dict, "LaunchDescription": list},
        "launch.actions": {
            n: recorder_of(n) for n in ("DeclareLaunchArgument", "OpaqueFunction", "Shutdown")
        },
        "launch.substitutions": {"LaunchConfiguration": LaunchConfiguration},
        "launch_ros": {},
        "launch_ros.actions": {"Node": recorder_of("Node")},
        "launch_ros.parameter_descriptions": {"ParameterValue": lambda value, value_type: value_type(value)},
    }
    for name, content in names.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "vla_bringup.launching", raising=False)
    yield
    sys.modules.pop("vla_bringup.launching", None)


def load(rig):
    path = LAUNCH / f"{rig}.launch.py"
    spec = importlib.util.spec_from_file_location(f"{rig}_launch", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.generate_launch_description()


@pytest.mark.parametrize("rig", ["aloha", "teleavatar"])
def test_arguments_are_the_options(recorded_launch, rig):
    *arguments, _ = load(rig)
    for argument, option in zip(arguments, rig_options(rig), strict=True):
        assert argument.args == (option.name,)
        assert argument.default_value == option.default
        assert argument.description == option.help
        assert set(option.choices) <= set(argument.choices or ())
        assert not argument.choices or option.default in argument.choices


def test_nodes_are_the_processes(recorded_launch):
    *arguments, opaque = load("aloha")
    values = {argument.args[0]: argument.default_value for argument in arguments}
    values |= dict(word.split(":=") for word in WORDS)
    nodes = opaque.function(values)
    processes = rig_processes(parse_options("aloha", WORDS))
    assert [node.name for node in nodes] == ["sim_rig", "teleop", "recorder"]
    for node, process in zip(nodes, processes, strict=True):
        assert (node.package, node.executable, node.namespace) == (
            process.package,
            process.executable,
            "cell",
        )
        assert node.parameters == [process.parameters]
        assert node.additional_env == process.environment
        assert node.on_exit.kind == "Shutdown"


def test_the_real_launch_starts_and_stops_the_nodes():
    """Runs where ROS itself is installed: the launch file, launch and launch_ros as they are."""
    pytest.importorskip("launch_pytest", reason="comes with a ROS 2 installation, not as a wheel")
    from launch.actions import IncludeLaunchDescription, Shutdown, TimerAction
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    from launch import LaunchDescription, LaunchService

    source = PythonLaunchDescriptionSource(str(LAUNCH / "aloha.launch.py"))
    included = IncludeLaunchDescription(source, launch_arguments=[("teleop", "true")])
    service = LaunchService()
    stop = TimerAction(period=5.0, actions=[Shutdown(reason="the test is over")])
    service.include_launch_description(LaunchDescription([included, stop]))
    assert service.run() == 0

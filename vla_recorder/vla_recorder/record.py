"""`ros2 run vla_recorder record`: options, keys, and the node."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from rclpy.parameter import Parameter
from rclpy.utilities import remove_ros_args

from vla_recorder.episode.layout import EpisodeError
from vla_recorder.keyboard import Keyboard
from vla_recorder.node import Recorder
from vla_recorder.take import Ending
from vla_rig.nodes import run_node

KEYS = "keys: space or Enter start / stop and save | s success | f failure | d discard | q save and quit"
EPILOG = f"""
Start and stop episodes with the keyboard or, from anywhere, with services:
  {KEYS}
  ros2 service call /recorder/start vla_msgs/srv/StartEpisode "{{instruction: 'hand over the cube'}}"
  ros2 service call /recorder/stop vla_msgs/srv/StopEpisode "{{save: true, label: 1}}"
  ros2 topic echo /recorder/status

Each episode is one file, FOLDER/episode_{{i}}.hdf5, with i the first free number; discarded ones go to
FOLDER/trash. Ctrl-C during an episode saves it. Look at one with: ros2 run vla_recorder episode inspect FILE

Every option is a parameter of the node; further ones, remappings and simulated time come after --ros-args:
  ros2 run vla_recorder record --rig aloha_sim --ros-args -p use_sim_time:=true -p sim:=true -p max_rows:=400
"""


def parse_options(argv: list[str]) -> list[Parameter]:
    """The command line (without ROS's own part) as parameter overrides."""
    parser = argparse.ArgumentParser(
        prog="record",
        description="Record demonstrations and rollouts of a rig as HDF5 episodes.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rig", help="rig file: a path, or the name of an installed rig (default: aloha)")
    parser.add_argument("--folder", help="where episodes go (default: ./episodes)")
    parser.add_argument("--instruction", help="task text of episodes that are started without one")
    parser.add_argument("--action-from", help="what /action holds: command (default) or leader")
    parser.add_argument(
        "--sim", action="store_true", default=None, help="the rig is simulated (attribute 'sim')"
    )
    options = parser.parse_args(remove_ros_args(argv)[1:])
    return [Parameter(name, value=value) for name, value in vars(options).items() if value is not None]


def key_actions(recorder: Recorder) -> dict[str, Callable[[], None]]:
    """What each key does. A key that does not fit the moment says so and does nothing."""

    def guarded(action: Callable[[], None]) -> Callable[[], None]:
        def act() -> None:
            try:
                action()
            except EpisodeError as error:
                recorder.get_logger().error(str(error))

        return act

    def stop(**ending) -> Callable[[], None]:
        return guarded(lambda: recorder.stop(Ending("operator", **ending)))

    def toggle() -> None:
        if recorder.recording:
            recorder.stop(Ending("operator"))
        else:
            recorder.start()

    def quit_() -> None:
        if recorder.recording:
            recorder.stop(Ending("operator"))
        recorder.context.try_shutdown()

    keys = dict.fromkeys((" ", "\n", "\r"), guarded(toggle))
    return keys | {
        "s": stop(label="success"),
        "f": stop(label="failure"),
        "d": stop(save=False),
        "q": guarded(quit_),
    }


def main() -> int:
    overrides = parse_options(sys.argv)
    keyboard = None

    def make() -> Recorder:
        nonlocal keyboard
        recorder = Recorder(overrides)
        if Keyboard.available():
            keyboard = Keyboard(key_actions(recorder))
            print(KEYS, flush=True)
        return recorder

    try:
        return run_node(make, sys.argv)
    finally:
        if keyboard is not None:
            keyboard.close()


if __name__ == "__main__":
    sys.exit(main())

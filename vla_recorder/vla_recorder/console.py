"""The recorder as a command: options, keys, the live view, and the node."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from rclpy.parameter import Parameter
from rclpy.utilities import remove_ros_args

from vla_recorder.episode.layout import ACTION_SOURCES, IMAGE_FORMS, EpisodeError
from vla_recorder.keyboard import Keyboard
from vla_recorder.node import Recorder
from vla_recorder.parameters import MAX_COUNTDOWN_S
from vla_recorder.session import State
from vla_recorder.take import Ending
from vla_recorder.terminal import LiveTerminal
from vla_recorder.view import Setting, picture
from vla_rig.nodes import run_node

KEYS = (
    ("space", "start, stop and save"),
    ("s", "success"),
    ("f", "failure"),
    ("d", "discard"),
    ("r", "redo"),
    ("n", "next"),
    ("tab", "sub-step"),
    ("i", "instruction"),
    ("q", "save, quit"),
)
EPILOG = f"""
  ros2 run vla_recorder record --instruction "hand over the cube"      then space, and space again

keys, in the terminal it was started in:
  space, Enter  start after a countdown; while recording: stop and save; while counting down: cancel
  s, f          stop, save and label: success, failure. When nothing runs: label the last saved episode
  d             stop and discard
  r             redo: discard what runs, or else the last saved episode, and start the same again
  n             next: save what runs, and start the next after the countdown
  tab, 1 to 9   the next sub-step, or the one of that number, of those given with --substep
  i             while nothing is recorded: type the instruction of the next episodes
  q             save what runs, and quit. So does Ctrl-C

services, from anywhere, for pedals and scripts (~ is the node's name, /recorder):
  ros2 service call /recorder/start vla_msgs/srv/StartEpisode "{{instruction: 'hand over the cube'}}"
  ros2 service call /recorder/stop vla_msgs/srv/StopEpisode "{{label: 1}}"
  ros2 service call /recorder/next std_srvs/srv/Trigger        also: discard, success, failure, redo
  ros2 service call /recorder/set_substep vla_msgs/srv/SetInstruction "{{instruction: 'lift'}}"
  ros2 topic echo /recorder/status

the start gesture (--gesture): open every leader gripper, then close all of them and hold; recording starts at once.

Each episode is one file, FOLDER/episode_{{i}}.hdf5, with i the first free number; discarded ones go to FOLDER/trash.
A folder belongs to one recorder at a time. After a crash: ros2 run vla_recorder episode recover FOLDER
Look at an episode with: ros2 run vla_recorder episode inspect FILE

Every option is a parameter of the node; further ones, remappings and simulated time come after --ros-args:
  ros2 run vla_recorder record --rig aloha_sim --ros-args -p use_sim_time:=true -p sim:=true -p max_rows:=400
(0 to {MAX_COUNTDOWN_S:g} s of countdown; ros2 param describe /recorder PARAMETER explains each.)
"""


def parse_options(argv: list[str]) -> argparse.Namespace:
    """The command line without ROS's own part; options that were not given are absent or None."""
    parser = argparse.ArgumentParser(
        prog="record",
        description="Record demonstrations and rollouts of a rig as HDF5 episodes.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--rig", help="rig file: a path, or the name of an installed rig (default: aloha)")
    add("--folder", help="where episodes go (default: ./episodes)")
    add("--instruction", help="task text of episodes that are started without one")
    add(
        "--substep",
        action="append",
        dest="substeps",
        metavar="TEXT",
        help="text of a sub-step; repeat it for each",
    )
    add("--action-from", choices=ACTION_SOURCES, help="what /action holds (default: command)")
    add("--images", choices=IMAGE_FORMS, dest="image_form", help="how frames are stored (default: raw)")
    add("--jpeg-quality", type=int, metavar="1..100", help="of JPEG frames (default: 95)")
    add("--countdown", type=float, dest="countdown_s", metavar="S", help="before keys start (default: 3)")
    add(
        "--gesture",
        action="store_true",
        default=None,
        dest="start_gesture",
        help="start by the leader grippers",
    )
    add("--sim", action="store_true", default=None, help="the rig is simulated (attribute 'sim')")
    add("--plain", action="store_true", help="log lines only, no live view")
    return parser.parse_args(remove_ros_args(argv)[1:])


def parameters(options: argparse.Namespace) -> list[Parameter]:
    given = {name: value for name, value in vars(options).items() if value is not None and name != "plain"}
    return [Parameter(name, value=value) for name, value in given.items()]


def key_actions(recorder: Recorder) -> dict[str, Callable[[], None]]:
    """What each key does. A key that does not fit the moment says so and does nothing."""

    def guarded(action: Callable[[], object]) -> Callable[[], None]:
        def act() -> None:
            try:
                action()
            except EpisodeError as error:
                recorder.get_logger().error(str(error))

        return act

    def stop(**ending) -> dict | None:
        return recorder.stop(Ending("operator", **ending))

    def quit_() -> None:
        try:
            if recorder.session.state is not State.IDLE:
                stop()
        finally:  # also when it just ended by itself
            recorder.context.try_shutdown()

    def toggle() -> None:
        if recorder.session.state is State.IDLE:
            recorder.start_soon()
        else:
            stop()

    actions = dict.fromkeys((" ", "\n", "\r"), toggle) | {
        "s": lambda: recorder.label("success"),
        "f": lambda: recorder.label("failure"),
        "d": lambda: stop(save=False),
        "r": recorder.redo,
        "n": recorder.next,
        "\t": recorder.choose_substep,
        "q": quit_,
    }
    actions |= {str(i + 1): lambda i=i: recorder.choose_substep(i) for i in range(9)}
    return {key: guarded(action) for key, action in actions.items()}


class Console:
    """Keys and view of a recorder, on the terminal it was started in; without one there is neither."""

    def __init__(self, recorder: Recorder, plain: bool) -> None:
        self._recorder = recorder
        self._setting = _setting(recorder)
        self._state = recorder.session.state
        self._keyboard: Keyboard | None = None
        self._view: LiveTerminal | None = None
        try:
            self._open(plain)
        except BaseException:  # also Ctrl-C, just now
            self.close()
            raise

    def _open(self, plain: bool) -> None:
        if not Keyboard.available():
            return
        actions = key_actions(self._recorder)
        live = not plain and LiveTerminal.available()
        if live:  # else what is typed cannot be seen
            actions["i"] = self._ask_for_instruction
        self._keyboard = Keyboard(actions)
        if live:
            self._view = LiveTerminal(self._picture)
        else:
            print("keys: " + " | ".join(f"{key} {what}" for key, what in KEYS if key != "i"), flush=True)

    def _ask_for_instruction(self) -> None:
        log = self._recorder.get_logger()
        if self._recorder.session.state is not State.IDLE:
            log.error("an instruction is typed while nothing is recorded; meanwhile: ~/set_instruction")
            return

        def take(text: str) -> None:
            try:
                self._recorder.set_instruction(text)
            except EpisodeError as error:
                log.error(str(error))

        self._keyboard.read_line(self._recorder.status_message().instruction, take)

    def _picture(self, width: int, height: int):
        before, self._state = self._state, self._recorder.session.state
        if self._state is not State.IDLE:
            self._keyboard.leave_line()  # keys must be keys now, also when the start came from elsewhere
        if before is not self._state and State.RECORDING in (before, self._state):
            self._view.ring()  # people look at the arms, not here
        return picture(self._recorder.status_message(), self._setting, width, height, self._keyboard.line)

    def close(self) -> None:
        """Give the terminal back as it was."""
        if self._view is not None:
            self._view.close()
        if self._keyboard is not None:
            self._keyboard.close()


def _setting(recorder: Recorder) -> Setting:
    rig, keys = recorder.rig, list(KEYS)
    if recorder.get_parameter("start_gesture").value:
        hold_s = recorder.get_parameter("gesture_hold_s").value
        keys.append(("grippers", f"open, then closed for {hold_s:g} s: start"))
    rates_hz = {name: stream.rate_hz for name, stream in (*rig.cameras.items(), *rig.joint_sources.items())}
    substeps = [text for text in recorder.get_parameter("substeps").value if text]
    return Setting(rates_hz | {"command": rig.control_rate_hz}, substeps, keys)


def run(argv: list[str]) -> int:
    try:
        "".join(argv).encode()
    except UnicodeEncodeError as error:
        print(f"record: the arguments are not UTF-8: {error}", file=sys.stderr)
        return 2
    options = parse_options(argv)
    if not options.plain and Keyboard.available() and LiveTerminal.available():
        os.environ.setdefault("RCUTILS_COLORIZED_OUTPUT", "1")  # log lines come through a pipe, to a terminal
    console = None

    def make() -> Recorder:
        nonlocal console
        recorder = Recorder(parameters(options))
        console = Console(recorder, options.plain)
        return recorder

    try:
        return run_node(make, argv)
    finally:
        if console is not None:
            console.close()

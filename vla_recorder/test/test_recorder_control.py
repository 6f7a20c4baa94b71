"""Episodes by services, gesture and keys, on a recorder over real DDS and on a real terminal."""

import itertools
import os
import signal
import subprocess
import sys

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from recorder_checks import check_rows
from recorder_harness import scene
from recorder_terminal import Terminal
from support.processes import DEADLINE_S

from vla_msgs.msg import EpisodeStatus
from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.episode.validate import problems

IDLE, RECORDING = EpisodeStatus.STATE_IDLE, EpisodeStatus.STATE_RECORDING


@pytest.fixture
def stage(tmp_path, domain_id):
    with scene(tmp_path, domain_id) as stage:
        yield stage


def until_recording(stage, rows=5, **fields):
    """Until the status says so, and has these fields."""

    def there():
        status = stage.status
        same = all(getattr(status, name) == value for name, value in fields.items())
        return same and status.state == RECORDING and status.rows >= rows

    stage.spin(there)


def labels(stage):
    found = {}
    for path in sorted(stage.folder.glob("episode_*.hdf5")):
        with EpisodeReader(path) as episode:
            found[path.name] = episode.label
    return found


def test_countdown_next_redo_discard_and_labels_by_service(stage):
    stage.publisher()
    stage.recorder("--countdown", "0.2", "--instruction", "from the parameter")
    diagnoses = []
    stage.node.create_subscription(DiagnosticArray, "/diagnostics", diagnoses.append, 10)
    assert stage.trigger("discard").message == "not recording"
    assert "nothing to label" in stage.trigger("success").message
    assert "nothing to redo" in stage.trigger("redo").message
    answer = stage.start("stack the cups", countdown_s=60.0)
    assert answer.success and not answer.path and answer.message == "recording begins in 60 s"
    stage.spin(
        lambda: stage.status.state == EpisodeStatus.STATE_COUNTDOWN and 0 < stage.status.countdown_s < 60
    )
    assert "already counting down" in stage.start().message
    assert stage.trigger("discard").message == "the countdown was cancelled"
    assert "countdown_s must be 0 to 60" in stage.start(countdown_s=61.0).message
    stage.start("stack the cups", countdown_s=0.2)
    until_recording(stage)
    assert stage.trigger("next").success  # saves episode 0
    until_recording(stage, episode_index=1, instruction="stack the cups")
    assert stage.trigger("redo").success  # discards it, and records it again
    until_recording(stage, episode_index=1, saved=1, discarded=1)
    assert stage.trigger("success").success
    assert stage.trigger("failure").message == f"failure: {stage.folder}/episode_1.hdf5"  # on second thoughts
    stage.spin(lambda: stage.status.state == IDLE and stage.status.last_label == "failure")
    assert stage.status.last_verdict in ("good", "check", "bad")
    assert labels(stage) == {"episode_0.hdf5": "none", "episode_1.hdf5": "failure"}
    assert stage.trigger("redo").success  # puts it into the trash
    until_recording(stage, saved=1, discarded=2)
    assert labels(stage) == {"episode_0.hdf5": "none"} and len(list((stage.folder / "trash").iterdir())) == 2
    assert stage.stop(save=False).success
    for path in (*stage.folder.glob("episode_*.hdf5"), *(stage.folder / "trash").iterdir()):
        assert [problem for problem in problems(path) if "not finite" not in problem] == []
    assert check_rows(stage.folder / "episode_0.hdf5") >= 0
    stage.spin(lambda: any(status.name == "recorder: recorder" for d in diagnoses for status in d.status))


def test_without_an_instruction_it_is_the_one_shown(stage):
    """The parameter's, else that of the episode before: what the status says is what the next start takes."""
    stage.publisher()
    stage.recorder()
    assert "no instruction" in stage.start("").message
    assert stage.start("stack the cups").success
    until_recording(stage)
    stage.stop()
    stage.spin(lambda: stage.status.state == IDLE and stage.status.instruction == "stack the cups")
    assert stage.start("").success
    until_recording(stage, episode_index=1, instruction="stack the cups")
    stage.stop()
    stage.set_parameter("instruction", "fold")
    stage.spin(lambda: stage.status.state == IDLE and stage.status.instruction == "fold")
    assert stage.trigger("next").success  # nothing runs: a start
    until_recording(stage, episode_index=2, instruction="fold")
    path = stage.stop().path
    with EpisodeReader(path) as episode:
        assert episode.instruction == "fold"


def test_texts_that_change_during_an_episode_and_the_start_gesture(stage):
    publisher = stage.publisher()
    options = ["--gesture", "--substep", "reach", "--substep", "lift", "--instruction", "stack the cups"]
    recorder = stage.recorder(*options)
    stage.until_heard()
    assert "not recording" in stage.say("set_substep", "wait").message
    stage.tell(publisher, leader_left="closed")
    stage.tell(publisher, leader_right="closed")
    until_recording(stage, 10)
    assert stage.status.substep == "reach" and stage.status.instruction == "stack the cups"
    for service, text in (
        ("set_substep", "lift"),
        ("set_substep", "turn it over"),
        ("set_instruction", "stack the red cups"),
        ("set_substep", ""),
    ):
        before = stage.status.rows
        assert stage.say(service, text).success
        stage.spin(lambda before=before: stage.status.rows >= before + 10)
    assert stage.status.instruction == "stack the red cups" and not stage.status.substep
    assert not stage.say("set_instruction", "").success
    path = stage.stop().path
    with EpisodeReader(path) as episode:
        runs = [text for text, _ in itertools.groupby(episode.substeps)]
        assert runs == ["reach", "lift", "turn it over", "stack the red cups"]
        assert episode.instruction == "stack the red cups" and episode.leader is not None
    assert problems(path) == []
    # still closed: no second start; open and closed again: the next one
    stage.tell(publisher, leader_left="open", leader_right="open")
    stage.spin(lambda: stage.status.state == IDLE)
    received = stage.stream("leader_right").received
    stage.spin(lambda: stage.stream("leader_right").received > received + 25)
    stage.until_statuses(2)  # between them it was looked at
    stage.tell(publisher, leader_left="closed", leader_right="closed")
    until_recording(stage, episode_index=1, instruction="stack the red cups")
    recorder.send_signal(signal.SIGTERM)
    output = recorder.communicate(timeout=DEADLINE_S)[0]
    assert recorder.returncode == 0 and "Traceback" not in output, output


def test_keys_and_the_live_view(stage):
    """A whole session at a terminal, ended by Ctrl-C; every log line is still there, and the terminal as before."""
    stage.publisher()
    with Terminal(columns=110, lines=40) as terminal:
        options = ["--instruction", "fold", "--substep", "reach", "--substep", "lift", "--countdown", "1"]
        recorder = stage.recorder(*options, terminal=terminal)
        terminal.until_shown("READY")
        terminal.press("d")
        terminal.until_shown("not recording")
        terminal.press("i")
        terminal.until_shown("fold█  Enter: take it")
        terminal.press(" twice\r")
        terminal.until_shown(" instruction  fold twice\n")
        terminal.press("i\x15fold\r")
        terminal.until_shown(" instruction  fold\n")
        terminal.press("\x1b[1~x")  # Home, and a key that means nothing
        terminal.press(" ")
        terminal.until_drawn("GET READY")
        terminal.until_shown("RECORDING")
        until_recording(stage)
        terminal.until_shown("sub-step     reach  (1 of 2)")
        terminal.press("\t")
        terminal.until_shown("sub-step     lift  (2 of 2)")
        terminal.press("1")
        terminal.until_shown("sub-step     reach  (1 of 2)")
        terminal.press("s")
        terminal.until_shown("last: episode_0.hdf5, label success")
        terminal.press("f")
        terminal.until_shown("last: episode_0.hdf5, label failure")
        terminal.press("n")
        until_recording(stage, episode_index=1)
        terminal.press("\x1a\x13")  # Ctrl-Z, Ctrl-S: nothing stops
        rows = stage.status.rows
        stage.spin(lambda: stage.status.rows > rows + 20)
        terminal.press("r")
        until_recording(stage, discarded=1)
        terminal.press("\x03")
        assert recorder.wait(DEADLINE_S) == 0
        terminal.until_shown("saved: ")
        for line in (
            f"recording {stage.folder}/episode_0.hdf5: 'fold'",
            "discarded: ",
            "interrupted: saving",
            "quality: ",
        ):
            assert line in terminal.text.replace("\n", "")  # long ones are wrapped
        assert terminal.restored and "RECORDING" not in terminal.screen and "Traceback" not in terminal.text
    assert labels(stage) == {"episode_0.hdf5": "failure", "episode_1.hdf5": "none"}


def test_a_terminal_that_is_closed_saves_the_episode(stage):
    stage.publisher("real")
    terminal = Terminal()
    recorder = stage.recorder("--instruction", "fold", "--countdown", "0", terminal=terminal)
    terminal.until_shown("READY")
    terminal.press(" ")
    until_recording(stage)
    terminal.__exit__()  # the window, or the connection: SIGHUP
    assert recorder.wait(DEADLINE_S) == 0
    with EpisodeReader(stage.folder / "episode_0.hdf5") as episode:
        assert len(episode) >= 5 and episode.end_reason == "interrupted"


@pytest.mark.parametrize("module", ["argparse", "numpy", "rclpy.node", "vla_recorder.take"])
def test_ctrl_c_while_it_starts_is_no_traceback(module):
    command = [sys.executable, "-X", "importtime", "-m", "vla_recorder.record"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
    for line in process.stderr:
        if line.rstrip().endswith(f" {module}"):  # it has just been imported
            process.send_signal(signal.SIGINT)
            break
    rest = process.communicate(timeout=DEADLINE_S)[1]
    # by the signal itself, or in order when the recorder was quicker than this process; a shell sees 130 or 0
    assert process.returncode in (-signal.SIGINT, 130, 0) and "Traceback" not in rest, rest

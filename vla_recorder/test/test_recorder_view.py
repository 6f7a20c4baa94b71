"""The live view: a picture that fits every terminal, and a terminal that is never garbled nor left behind."""

import io
import math
import os
import signal
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorder_terminal import Terminal
from rich.console import Console
from support.processes import DEADLINE_S

from vla_msgs.msg import EpisodeStatus, StreamStatus
from vla_recorder.console import KEYS
from vla_recorder.view import Setting, picture

STREAMS = [
    "cam_high",
    "cam_low",
    "cam_left_wrist",
    "cam_right_wrist",
    "follower_left",
    "follower_right",
    "command",
]
SETTING = Setting(dict.fromkeys(STREAMS, 60.0), ["reach", "lift"], KEYS)


def status(state=EpisodeStatus.STATE_RECORDING, **changes):
    streams = [StreamStatus(name=name, rate_hz=59.6, age_s=0.012, repeated=7, late=2) for name in STREAMS]
    values = {
        "instruction": "hand over the cube",
        "substep": "lift",
        "path": "/data/episode_12.hdf5",
        "episode_index": 12,
        "elapsed_s": 75.5,
        "rows": 3775,
        "disk_left_min": 42.0,
        "last_path": "/data/episode_11.hdf5",
        "last_label": "success",
        "last_verdict": "check",
        "last_reasons": ["cam_low: gaps among its intervals 2 %"],
    }
    return EpisodeStatus(state=state, streams=streams, **(values | changes))


def lines_of(message, width=100, height=40):
    console = Console(width=width, height=height, file=io.StringIO())
    return [
        "".join(segment.text for segment in line).rstrip()
        for line in console.render_lines(picture(message, SETTING, width, height), pad=False)
    ]


def test_a_recording_in_full():
    message = status(queue_fill=0.03, saved=11, discarded=2)
    message.streams[1].reason = "2.100 s old, limit 0.1 s: nobody publishes it"
    text = "\n".join(lines_of(message, width=120))
    for part in (
        "RECORDING  01:15.5  episode 12  3775 rows  /data/episode_12.hdf5",
        "sub-step     lift  (2 of 2)",
        "cam_low          60 / 60      12      .         7     2     .  2.100 s old, limit 0.1 s: nobody publishes it",
        "queue 3 %   disk left 42 min   saved 11, discarded 2",
        "last: episode_11.hdf5, label success, CHECK  cam_low: gaps among its intervals 2 %",
    ):
        assert part in text, text


def test_what_is_typed_of_an_instruction_is_shown_with_its_end():
    console = Console(width=80, file=io.StringIO())
    text = "first put the lid on, then " + "turn it " * 10
    console.print(picture(status(EpisodeStatus.STATE_IDLE), SETTING, 80, 40, typed=text))
    (line,) = [line for line in console.file.getvalue().splitlines() if line.startswith(" instruction")]
    assert line.endswith("turn it █  Enter: take it   Esc: do not") and len(line) <= 80


def test_a_countdown_can_be_read_from_afar():
    text = "\n".join(lines_of(status(EpisodeStatus.STATE_COUNTDOWN, countdown_s=2.2)))
    assert "GET READY  2.2 s" in text
    three = ["██████", "    ██", "██████", "    ██", "██████"]
    assert [line.strip(" ") for line in text.splitlines() if "█" in line] == [row.strip() for row in three]


def test_what_keeps_an_episode_from_beginning_is_shown():
    waiting = status(rows=0, reason="waiting for cam_low: nothing received")
    assert " waiting for cam_low: nothing received" in lines_of(waiting)
    fault = status(EpisodeStatus.STATE_FAULT, reason="/data: the disk is full")
    assert " FAULT  /data: the disk is full" in lines_of(fault)


def test_how_the_last_episode_ended_is_shown_until_the_next():
    ready = status(EpisodeStatus.STATE_IDLE, reason="the disk is nearly full")
    assert " READY  for the next episode   the last one ended: the disk is nearly full" in lines_of(ready)
    assert " READY  for the next episode" in lines_of(
        status(EpisodeStatus.STATE_IDLE, reason="operator: next")
    )
    discarded = status(last_path="/data/trash/episode_11_20261126-073346-836286_2284.hdf5.discarded")
    assert " last: episode_11 discarded, CHECK  cam_low: gaps among its intervals 2 %" in lines_of(discarded)


def test_a_stream_of_another_clock_and_one_whose_reason_names_its_topic():
    message = status()
    message.streams[0].age_s, message.streams[1].age_s = 1.7e9, -1.7e9
    message.streams[4].topic = "follower_left/joint_states"
    message.streams[4].reason = "follower_left/joint_states: position of joint 'waist' is nan"
    lines = lines_of(message)
    assert any(line.startswith(" cam_high") and " > 1 h " in line for line in lines)
    assert any(line.startswith(" cam_low") and " < -1 h " in line for line in lines)
    assert any(line.endswith(".  position of joint 'waist' is nan") for line in lines)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(range(5)),
    st.integers(1, 200),
    st.integers(2, 60),
    st.integers(0, len(STREAMS)),
    st.floats(0, 60, width=32),
    st.sampled_from([math.nan, 0.0, 1e6]),
    st.text(max_size=30),
)
def test_the_picture_fits_every_terminal(state, width, height, ill, countdown_s, left_min, text):
    text = text.replace("\x00", "")
    message = status(
        state, countdown_s=countdown_s, disk_left_min=left_min, instruction=text, reason="because"
    )
    for stream in message.streams[:ill]:
        stream.reason, stream.age_s = text, math.nan
    console = Console(width=width, height=height, file=io.StringIO())
    lines = console.render_lines(picture(message, SETTING, width, height), pad=False)
    assert 1 <= len(lines) <= height - 1
    assert all(sum(segment.cell_length for segment in line) <= width for line in lines)


def test_ill_streams_are_shown_first_when_there_is_little_room():
    message = status()
    message.streams[4].reason = "position of joint 'waist' is nan"
    text = "\n".join(lines_of(message, 70, 14))
    assert "follower_left" in text and "cam_high" not in text and "6 of 7 streams are well" in text


LIVE = textwrap.dedent(
    """
    import os, subprocess, sys, threading, time
    from rich.text import Text
    from vla_recorder.terminal import LiveTerminal

    pictures = 0
    def render(width, height):
        global pictures
        pictures += 1
        if FAIL and pictures == 3: raise RuntimeError("no picture today")
        return Text(f"== live {width}x{height} ==\\n== last line of {pictures} ==")

    FAIL = "fail" in sys.argv
    view = LiveTerminal(render)
    try:
        for i in range(40):
            print("out", i)
            os.write(2, f"raw {i}\\n".encode())
            if i % 10 == 0: subprocess.run(["echo", f"child {i}"])
            time.sleep(0.01)
        print("now live")
        while pictures < (3 if FAIL else 6): time.sleep(0.01)
        if "burst" in sys.argv:
            for i in range(1500): print("burst", i, "." * 60)  # more than pipe and terminal hold
            os.write(int(sys.argv[-1]), b"done")
        os.write(1, b"half a line")
        if "hold" in sys.argv: threading.Event().wait()
        if "raise" in sys.argv: raise KeyError("some mistake")
    except KeyboardInterrupt: pass
    finally:
        view.close()
    print("after")
    """
)


@pytest.mark.parametrize("how", ["", "fail", "raise"])
def test_everything_else_that_is_printed_stays_above_the_live_area(how):
    with Terminal() as terminal:
        process = terminal.run("-c", LIVE, how)
        assert process.wait(DEADLINE_S) == (1 if how == "raise" else 0)
        terminal.until_shown("some mistake" if how == "raise" else "after")
        lines = [line for line in terminal.text.splitlines() if line]
        for i in range(40):
            assert f"out {i}" in lines and f"raw {i}" in lines
        assert [line for line in lines if line.startswith("child")] == [
            f"child {i}" for i in range(0, 40, 10)
        ]
        assert "half a line" in terminal.text and not any("==" in line for line in lines)
        assert ("no picture today" in terminal.text) == (how == "fail")
        assert terminal.restored


def alone(screen):
    return screen.count("== live") == screen.count("== last line") == 1


def test_one_live_area_only_also_after_a_resize():
    with Terminal() as terminal:
        process = terminal.run("-c", LIVE, "hold")
        terminal.until_shown("now live")
        for columns, lines in ((60, 20), (120, 40)):
            terminal.resize(columns, lines)
            whole = f"== live {columns}x{lines} ==\n== last line of "  # a picture comes in pieces
            terminal.until(lambda whole=whole: whole in terminal.screen, whole)
            terminal.until(lambda: alone(terminal.screen), "one live area")
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 0
        terminal.until_shown("after")
        assert "==" not in terminal.screen and terminal.restored


LOUD = """
import rclpy.logging
from rich.text import Text
from vla_recorder.terminal import LiveTerminal

view = LiveTerminal(lambda width, height: Text("== live =="))
rclpy.logging.get_logger("loud").info("x" * 200_000)  # written with Python's lock held
view.close()
print("after")
"""


def test_a_log_message_that_is_longer_than_a_pipe_does_not_hang_the_process():
    with Terminal() as terminal:
        process = terminal.run("-c", LOUD)
        assert process.wait(30) == 0
        terminal.until_shown("after")


KEYS_THAT_FAIL = """
import threading
from vla_recorder.keyboard import Keyboard

quit_ = threading.Event()
keyboard = Keyboard({"f": lambda: 1 / 0, "o": lambda: print("still here"), "q": quit_.set})
print("ready")
quit_.wait()
keyboard.close()
"""


LINES = """
import threading
from vla_recorder.keyboard import Keyboard

quit_ = threading.Event()
def ask(): keyboard.read_line("old", lambda line: print(f"<{line}>", flush=True))
def leave(): ask(); keyboard.leave_line(); print("left", flush=True)
keyboard = Keyboard({"i": ask, "l": leave, "q": quit_.set, "x": lambda: print("key x", flush=True)})
print("ready")
shown = None
while not quit_.wait(0.01):
    if keyboard.line != shown:
        shown = keyboard.line
        print(f"[{shown}]", flush=True)
keyboard.close()
"""


def test_keys_are_text_while_a_line_is_asked_for():
    with Terminal() as terminal:
        process = terminal.run("-c", LINES)
        terminal.until_shown("ready")
        for keys, shown in (
            ("i xq\x7f\x1b[A!\r", "<old x!>"),  # an arrow is no text
            ("i\x15 größer \n", "<größer>"),
            ("iyyy", "[oldyyy]"),
            ("\x1b", "[oldyyy]\n[None]"),
            ("x", "key x"),  # keys are keys again
            ("lx", "left\nkey x"),
            ("i\x15\r", "<>"),
        ):
            terminal.press(keys)
            terminal.until_shown(shown)
        assert "<oldyyy" not in terminal.text
        for byte in "iü\r".encode():  # a character in two pieces
            os.write(terminal.keys, bytes([byte]))
        terminal.until_shown("<oldü>")
        terminal.press("q")
        assert process.wait(30) == 0 and terminal.restored


def test_a_key_whose_action_fails_leaves_the_others():
    with Terminal() as terminal:
        process = terminal.run("-c", KEYS_THAT_FAIL)
        terminal.until_shown("ready")
        terminal.press("f")
        terminal.until_shown("ZeroDivisionError")
        terminal.press("oq")
        terminal.until_shown("still here")
        assert process.wait(30) == 0 and terminal.restored


def test_a_terminal_that_hangs_does_not_hang_the_process():
    read, write = os.pipe()
    with Terminal() as terminal:
        process = terminal.run("-c", LIVE, "burst", str(write), pass_fds=[write])
        os.close(write)
        terminal.until_shown("now live")
        terminal.reading.clear()  # nobody reads the screen any more
        assert os.read(read, 4) == b"done"
        terminal.reading.set()
        assert process.wait(DEADLINE_S) == 0
        terminal.until(lambda: "burst 1499" in terminal.text)
        assert terminal.restored
    os.close(read)

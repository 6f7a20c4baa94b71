"""A recorder in the test's own process, where its disk and its moments can be chosen; rows come by hand."""

import errno
import math
from unittest import mock

import pytest
import rclpy
from rclpy.parameter import Parameter
from recorder_harness import RIG
from test_recorder_backlog import come_to
from test_recorder_take import HandDriven, wait_until

from vla_msgs.msg import EpisodeStatus, RigCommand
from vla_recorder.episode.layout import EpisodeError
from vla_recorder.episode.transactions import TransactionalFile
from vla_recorder.node import Recorder
from vla_recorder.status import disk_left_min
from vla_recorder.take import Ending
from vla_rig.rig_file import load_rig


class Inside:
    """A recorder whose takes have rows when the test says so."""

    def __init__(self, folder):
        values = {"rig": str(RIG), "folder": str(folder), "instruction": "fold"}
        self.recorder = Recorder([Parameter(name, value=value) for name, value in values.items()])
        self.source = HandDriven()
        maker = self.recorder._maker
        maker.make, maker.rows = self._make, maker._new_rows(maker.texts)
        maker.before = dict.fromkeys(self.source.head.stream_names, (0, 0))

    def _make(self, folder, _instruction, on_done):
        def done(report):
            for stream in report["streams"].values():
                stream |= {"lost": 0, "rate_hz": 50.0}
            on_done(take, report)

        take = self.source.take(folder, on_done=done)
        return take

    def record(self):
        self.recorder.start()
        come_to(self.source, 9)
        wait_until(lambda: self.recorder.session.take.rows == 10)


@pytest.fixture
def inside(tmp_path, domain_id):
    rclpy.init(domain_id=domain_id)
    inside = Inside(tmp_path)
    yield inside
    inside.recorder.close()
    inside.recorder.destroy_node()
    rclpy.shutdown()


def test_an_episode_that_the_disk_loses_after_it_was_closed_is_told(inside):
    recorder = inside.recorder
    refusal = OSError(errno.EIO, "Input/output error")
    with mock.patch.object(TransactionalFile, "settle", side_effect=refusal):
        inside.record()
        assert recorder.stop(Ending("operator"))["saved"]
        wait_until(lambda: recorder._look() or recorder.status_message().state == EpisodeStatus.STATE_FAULT)
    assert "may have lost data: [Errno 5] Input/output error" in recorder.status_message().reason


def test_an_episode_that_ends_by_itself_as_the_recorder_closes(inside):
    inside.record()
    session, stop = inside.recorder.session, inside.recorder.session.stop

    def stop_too_late(ending):
        session.take.stop(Ending("10 rows recorded (max_rows)"))
        return stop(ending)

    with mock.patch.object(session, "stop", stop_too_late):
        inside.recorder.close()
    assert session.last["saved"] and session.last["end_reason"].startswith("10 rows")


def test_a_disk_that_gives_no_answer_refuses_the_start_and_no_more(inside):
    make = type(inside.recorder._maker).make
    inside.recorder._maker.make = lambda *args: make(inside.recorder._maker, *args)
    with (
        mock.patch("shutil.disk_usage", side_effect=OSError(errno.EIO, "Input/output error")),
        pytest.raises(EpisodeError, match="how much room is left"),
    ):
        inside.recorder.start()
    assert inside.recorder.status_message().state == EpisodeStatus.STATE_FAULT


def test_a_label_for_an_episode_without_rows_is_no_success(inside):
    inside.recorder.start()
    with pytest.raises(EpisodeError, match=r"not saved: .*before the first row"):
        inside.recorder.label("success")


def test_the_command_says_what_is_wrong_with_it_and_no_longer_than_it_is(inside):
    commands, names = inside.recorder._streams.commands, inside.recorder.rig.action_names
    now_ns = inside.recorder.get_clock().now().nanoseconds
    assert commands.status(now_ns).reason == "nothing received: nobody publishes it"
    commands.history.push(now_ns, None)
    assert commands.status(now_ns).reason == ""
    assert commands.status(now_ns + 2_000_000_000).reason == "2.000 s old, limit 0.1 s: nobody publishes it"
    commands._store(RigCommand(names=names))
    assert commands.status(now_ns).reason == "0 requested and 0 sent values"
    commands.history.push(now_ns + 9_000_000_000, None)
    assert commands.status(now_ns + 9_000_000_000).reason == ""


def test_how_long_the_disk_lasts_is_unknown_before_the_first_jpeg(tmp_path):
    assert math.isnan(disk_left_min(tmp_path, load_rig(RIG), "jpeg", None))
    assert disk_left_min(tmp_path, load_rig(RIG), "raw", None) > 0
    assert math.isnan(disk_left_min(tmp_path / "gone", load_rig(RIG), "raw", None))


def test_nothing_is_held_that_no_take_will_ask_for(inside):
    recorder, aligner = inside.recorder, inside.recorder._streams.inputs.aligner
    now_ns = recorder.get_clock().now().nanoseconds

    def held() -> list[int]:
        """Milliseconds ago, of the messages of cam_low."""
        samples = [aligner.sample(now_ns - ago_ms * 1_000_000) for ago_ms in (900, 700, 500, 300)]
        return [round((now_ns - s.stamps_ns["cam_low"]) * 1e-6) for s in samples if "cam_low" in s.stamps_ns]

    for ago_ms in (900, 700, 500, 300):
        assert aligner.push("cam_low", now_ns - ago_ms * 1_000_000, None)
    assert held() == [900, 700, 500, 300]
    inside.record()
    recorder._tick()
    assert held() == [900, 700, 500, 300], "rows that are still to come may need them"
    recorder.stop(Ending("operator"))
    recorder._tick()
    assert held() == [300], "nothing newer came: it is what the next row has, if only to say that it is stale"

"""Bags of a rig become the episodes that a recorder would have written of the same messages."""

import json
from pathlib import Path

import apsw
import numpy as np
import pytest
from rclpy.serialization import serialize_message
from recorder_harness import RIG
from recorder_rig_publisher import PERIOD_NS, Publisher
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from test_recorder_node import check_rows
from tool_episodes import names

from vla_recorder.bags.load import Options, load
from vla_recorder.bags.source import BagError
from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.episode.validate import problems
from vla_recorder.tools.cli import main
from vla_rig.rig_file import load_rig

FIRST_K, ROWS = 5000, 40
OPTIONS = Options("hand over the cube", sim=True)
MESSAGES = Path(__file__).parents[2] / "vla_msgs" / "msg"


class BagNode:
    """Stands where a node creates publishers; what they publish goes into a bag."""

    def __init__(self, writer, namespace=""):
        self._writer, self._namespace, self.k = writer, namespace, FIRST_K
        self._types = get_typestore(Stores.ROS2_JAZZY)
        definition = (MESSAGES / "RigCommand.msg").read_text()
        self._types.register(get_types_from_msg(definition, "vla_msgs/msg/RigCommand"))

    def create_publisher(self, kind, topic, _qos):
        type_name = f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"
        name = f"{self._namespace}/{topic.lstrip('/')}"
        connection = self._writer.add_connection(name, type_name, typestore=self._types)

        return BagTopic(lambda data: self._writer.write(connection, self.k * PERIOD_NS, data))


class BagTopic:
    def __init__(self, write):
        self._write = write

    def publish(self, message):
        self._write(serialize_message(message))


def write_bag(
    path, storage=StoragePlugin.SQLITE3, modes=None, namespace="", ks=range(FIRST_K, FIRST_K + ROWS)
):
    """`modes`: k -> {stream: mode} from then on, as recorder_rig_publisher has them."""
    with Writer(path, version=9, storage_plugin=storage) as writer:
        node = BagNode(writer, namespace)
        publisher = Publisher(node, load_rig(RIG))
        for k in ks:
            node.k = k
            publisher.modes.update((modes or {}).get(k, {}))
            publisher.tick(k)
    return path


@pytest.mark.parametrize("storage", [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
def test_rows_are_those_of_a_recorder(tmp_path, storage):
    bag = write_bag(tmp_path / "bag", storage)
    path = load(bag, tmp_path / "episodes", load_rig(RIG), OPTIONS)
    assert problems(path) == []
    on_time = check_rows(path)
    with EpisodeReader(path) as episode:
        assert len(episode) == on_time, "nothing was lost, so every row has the messages of its time"
        assert ROWS - 4 <= len(episode) <= ROWS
        assert episode.instruction == "hand over the cube" and episode.end_reason == "imported from bag"
        assert episode.rig_name == load_rig(RIG).name


def test_a_camera_that_dies_is_marked_not_made_up(tmp_path):
    modes = {FIRST_K + 60: {"cam_low": "dead"}, FIRST_K + 90: {"cam_low": "rgb8"}}
    bag = write_bag(tmp_path / "bag", modes=modes, ks=range(FIRST_K, FIRST_K + 130))
    path = load(bag, tmp_path / "episodes", load_rig(RIG), OPTIONS)
    assert problems(path) == []
    with EpisodeReader(path) as episode:
        column = episode.stream_names.index("cam_low")
        fresh = episode.fresh[:, column]
        k = episode.stamps_ns // PERIOD_NS - FIRST_K
        assert fresh[k < 60].all() and not fresh[(k > 70) & (k < 90)].any() and fresh[k > 90].all()
        others = np.delete(episode.fresh, column, axis=1)
        assert others.all(), "one dead camera takes no other stream with it"
        assert len(episode) > 120


def test_unusable_messages_are_reported(tmp_path):
    told = []
    bag = write_bag(tmp_path / "bag", modes={FIRST_K + 20: {"cam_high": "small", "follower_left": "nan"}})
    load(bag, tmp_path / "episodes", load_rig(RIG), OPTIONS, told.append)
    assert any("cam_high" in text and "320x240" in text for text in told)
    assert any("follower_left" in text for text in told)


def test_a_spoilt_message_is_one_that_cannot_be_used(tmp_path):
    """A disk that failed where the length of `header.frame_id` stood."""
    told, bag = [], write_bag(tmp_path / "bag")
    with apsw.Connection(str(bag / "bag.db3")) as database:
        (topic,) = database.execute("SELECT id FROM topics WHERE name LIKE '%follower_left%'").fetchone()
        spoilt = "CAST(substr(data, 1, 12) || x'ffffff7f' || substr(data, 17) AS BLOB)"
        database.execute(f"UPDATE messages SET data = {spoilt} WHERE topic_id = ? AND id % 3 = 0", (topic,))
    path = load(bag, tmp_path / "episodes", load_rig(RIG), OPTIONS, told.append)
    assert [text for text in told if "follower_left" in text and "is damaged: cannot be deserialised" in text]
    with EpisodeReader(path) as episode:
        assert len(episode) > ROWS / 2


@pytest.mark.parametrize("storage", ["db3", "mcap"])
def test_a_bag_that_was_cut_short_is_told_and_leaves_nothing(tmp_path, storage):
    bag = write_bag(tmp_path / "bag", {"db3": StoragePlugin.SQLITE3, "mcap": StoragePlugin.MCAP}[storage])
    file = bag / f"bag.{storage}"
    with open(file, "r+b") as opened:
        if storage == "mcap":
            opened.truncate(file.stat().st_size // 2)
        else:  # from the middle on: topics are at its beginning
            opened.seek(file.stat().st_size // 2)
            opened.write(bytes(file.stat().st_size // 2))
    with pytest.raises(BagError, match=r"cannot be read: .*if it was cut short"):
        load(bag, tmp_path / "episodes", load_rig(RIG), OPTIONS)
    assert not (tmp_path / "episodes").exists() or names(tmp_path / "episodes") == []


def test_two_recordings_in_one_bag_are_not_one_episode(tmp_path):
    """An hour of rows in between, without anything in them, would fill the disk."""
    ks = [*range(FIRST_K, FIRST_K + 20), *range(FIRST_K + 180_000, FIRST_K + 180_020)]
    bag = write_bag(tmp_path / "bag", ks=ks)
    with pytest.raises(BagError, match="says nothing for 3600 s in its middle: split it"):
        load(bag, tmp_path / "episodes", load_rig(RIG), OPTIONS)
    assert names(tmp_path / "episodes") == []


def test_missing_topics_are_named_with_what_there_is(tmp_path):
    bag = write_bag(tmp_path / "bag", namespace="/left_room", ks=range(FIRST_K, FIRST_K + 20))
    with pytest.raises(BagError, match=r"no topic /.*cam_high.*The bag has: /left_room/"):
        load(bag, tmp_path / "episodes", load_rig(RIG), OPTIONS)
    assert not (tmp_path / "episodes").exists()
    named = Options("hand over the cube", namespace="/left_room")
    absolute = [camera.topic for camera in load_rig(RIG).cameras.values() if camera.topic.startswith("/")]
    if not absolute:
        assert load(bag, tmp_path / "episodes", load_rig(RIG), named).exists()


def test_a_bag_without_a_whole_row_leaves_nothing_under_a_final_name(tmp_path):
    bag = write_bag(tmp_path / "bag", modes={FIRST_K: {"cam_low": "dead"}}, ks=range(FIRST_K, FIRST_K + 80))
    with pytest.raises(BagError, match=r"no complete row.*cam_low .*: 0"):
        load(bag, tmp_path / "episodes", load_rig(RIG), OPTIONS)
    assert names(tmp_path / "episodes") == []


def test_the_command_line(tmp_path, capsys):
    bag = write_bag(tmp_path / "bag", ks=range(FIRST_K, FIRST_K + 20))
    words = ["convert", "from-bag", str(bag), "--to", str(tmp_path / "out"), "--rig", str(RIG)]
    assert main([*words, "--instruction", "hand over the cube", "--images", "jpeg"]) == 0
    assert f"{bag} -> {tmp_path / 'out' / 'episode_0.hdf5'}" in capsys.readouterr().out
    assert main([*words, "--instruction", " "]) == 1
    assert main(["convert", "from-bag", str(tmp_path), *words[3:], "--instruction", "x"]) == 1
    assert main(["convert", "to-lerobot", str(tmp_path / "out"), "--to", str(tmp_path / "set")]) == 0
    assert json.loads((tmp_path / "set/meta/info.json").read_text())["fps"] == 50
    assert main(["convert", "from-lerobot", str(tmp_path / "set"), "--to", str(tmp_path / "back")]) == 0
    assert problems(tmp_path / "back" / "episode_0.hdf5") == []

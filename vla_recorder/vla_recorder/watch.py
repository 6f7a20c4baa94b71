"""What an operator must be told though nobody asked: streams that fail, namesakes, episodes that a disk lost."""

from __future__ import annotations

from pathlib import Path

from rclpy.node import Node

from vla_recorder.episode.layout import EpisodeError
from vla_recorder.episode.recover import find_damaged
from vla_recorder.episode.writer import EpisodeWriter
from vla_recorder.session import Session
from vla_recorder.streams import Streams


class Watch:
    """Looks at a recorder from time to time and logs what changed."""

    def __init__(self, node: Node, session: Session, streams: Streams) -> None:
        self._node, self._log, self._session, self._streams = node, node.get_logger(), session, streams
        self._failing: set[str] = set()
        self._namesakes = 0
        self._syncing: list[EpisodeWriter] = []

    def look(self) -> None:
        self._tell_of_streams()
        self._tell_of_namesakes()

    def tell_of_unfinished(self, folder: Path) -> None:
        """What a recorder before this one left, which people may not know of."""
        count = len(find_damaged(folder))
        if count:
            self._log.warning(
                f"{folder} has {count} unfinished episode{'s' if count > 1 else ''}; to make whole ones of them: "
                f"ros2 run vla_recorder episode recover {folder}"
            )

    def _tell_of_streams(self) -> None:
        """Which began to fail and which recovered."""
        recording = self._session.recording
        problems = dict(self._session.take.problems) if recording else {}
        topics = {name: count.topic for name, count in self._streams.counts().items()}
        begun = recording and self._session.take.rows
        effect = "its rows are marked" if begun else "the first row waits for it"
        for stream in problems.keys() - self._failing:
            problem = problems[stream].removeprefix(f"{topics[stream]}: ")
            self._log.warning(f"{stream} ({topics[stream]}): {problem}; {effect}")
        for stream in self._failing - problems.keys() if recording else ():
            self._log.info(f"{stream}: healthy again")
        self._failing = set(problems)

    def _tell_of_namesakes(self) -> None:
        own = (self._node.get_name(), self._node.get_namespace())
        namesakes = self._node.get_node_names_and_namespaces().count(own) - 1
        if namesakes > self._namesakes:
            self._log.warning(
                f"another node is named {self._node.get_fully_qualified_name()}: a service call may reach either. "
                "Give one a name of its own: --ros-args -r __node:=recorder_2"
            )
        self._namesakes = namesakes

    def saved(self, writer: EpisodeWriter) -> None:
        """Its file is closed, and on its way to the disk."""
        self._syncing.append(writer)

    def lost(self, patience_s: float = 0.0) -> str:
        """What became of a saved episode that the disk lost on the way; empty where all is well."""
        found = ""
        for writer in self._syncing.copy():
            try:
                if not writer.wait_synced(patience_s):
                    continue
            except EpisodeError as error:
                found = str(error)
                self._log.error(found)
            self._syncing.remove(writer)
        return found

    def wait_synced(self, patience_s: float) -> None:
        """Until the disk has every saved episode."""
        self.lost()
        if self._syncing:
            self._log.info("waiting until the disk has the last episode")
            self.lost(patience_s)

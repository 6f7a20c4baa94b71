"""The operator's moves without ROS: real takes and files, rows by hand."""

import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorder_episodes import DT_NS
from test_recorder_take import START_NS, HandDriven, wait_until

from vla_recorder.episode.layout import EpisodeError
from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.episode.validate import problems
from vla_recorder.session import Session, State
from vla_recorder.take import Ending


class Desk:
    """A session whose clock and rows the test moves."""

    def __init__(self, folder, **options):
        self.folder, self.options, self.now_s, self.refusal = folder, options, 100.0, ""
        self.session = Session(self.begin, lambda: self.now_s)

    def begin(self, instruction):
        if self.refusal:
            raise EpisodeError(self.refusal)
        self.source = HandDriven()
        self.source.head = self.source.head.__class__(
            **{**vars(self.source.head), "instruction": instruction}
        )
        take = self.source.take(self.folder, on_done=self.session.count, **self.options)
        take.start()
        return take

    def rows(self, number):
        self.source.settled_ns = START_NS + (number - 1) * DT_NS
        wait_until(lambda: self.session.take.rows >= number)

    def record(self, number=5, instruction="fold"):
        self.session.start(instruction)
        self.rows(number)
        return self

    def episodes(self):
        return sorted(path.name for path in self.folder.glob("episode_*.hdf5"))

    def trash(self):
        return list((self.folder / "trash").glob("*.discarded"))


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path)
    yield desk
    if desk.session.recording:
        desk.session.stop(Ending("end of test"))


def test_a_folder_that_is_called_trash_discards_nothing(tmp_path):
    desk = Desk(tmp_path / "trash" / "day")
    desk.record().session.stop(Ending("operator"))
    assert (desk.session.saved, desk.session.discarded) == (1, 0)
    desk.record().session.stop(Ending("operator", save=False))
    assert (desk.session.saved, desk.session.discarded) == (1, 1)


def label_of(path):
    with EpisodeReader(path) as episode:
        return episode.label


def test_a_countdown_begins_once_and_can_be_cancelled(desk):
    session = desk.session
    session.start("fold", countdown_s=3.0)
    assert session.state is State.COUNTDOWN and session.countdown_s == 3.0 and session.take is None
    with pytest.raises(EpisodeError, match=r"already counting down: 3\.0 s left"):
        session.start("fold")
    desk.now_s += 2.9
    assert not session.tick() and session.state is State.COUNTDOWN
    assert session.stop(Ending("operator")) is None and session.state is State.IDLE
    desk.now_s += 10
    assert not session.tick() and session.countdown_s == 0 and not desk.episodes()
    session.start("fold", countdown_s=1.0)
    desk.now_s += 1.0
    assert session.tick() and session.state is State.RECORDING and not session.tick()


def test_what_does_not_fit_the_moment_says_why(desk):
    session = desk.session
    for act, text in (
        (lambda: session.stop(Ending("x")), "not recording"),
        (lambda: session.label("success"), "nothing to label"),
        (lambda: session.redo(0.0), "nothing to redo: no episode has ended"),
        (lambda: session.start(""), "no instruction"),
        (lambda: session.start("x" * 5000), "too long"),
        (lambda: session.next("", 0.0), "no instruction"),
    ):
        with pytest.raises(EpisodeError, match=text):
            act()
    assert session.state is State.IDLE
    desk.record()
    with pytest.raises(EpisodeError, match=r"already recording .*/episode_0\.hdf5"):
        session.start("fold")


def test_a_start_that_fails_leaves_everything_ready_for_another(desk):
    desk.refusal = "the disk is full"
    with pytest.raises(EpisodeError, match="the disk is full"):
        desk.session.start("fold")
    desk.session.start("fold", countdown_s=1.0)
    desk.now_s += 1
    with pytest.raises(EpisodeError, match="the disk is full"):
        desk.session.tick()
    assert desk.session.state is State.IDLE and not desk.session.tick()
    desk.refusal = ""
    assert desk.record().session.state is State.RECORDING


def test_labels_end_what_runs_and_mark_what_is_saved(desk):
    session = desk.session
    report = desk.record().session.label("success")
    assert report["saved"] and label_of(report["path"]) == "success"
    again = session.label("failure")  # on second thoughts
    assert again["path"] == report["path"] and again["label"] == "failure"
    assert label_of(report["path"]) == "failure" and problems(report["path"]) == []
    assert session.last["label"] == "failure" and desk.episodes() == ["episode_0.hdf5"]


def test_redo_replaces_what_runs_or_what_was_saved_last_but_nothing_more(desk):
    session = desk.session
    desk.record(instruction="first").session.stop(Ending("operator"))
    desk.record(instruction="second").session.redo(countdown_s=2.0)  # running: into the trash
    assert session.state is State.COUNTDOWN and session.instruction == "second"
    assert desk.episodes() == ["episode_0.hdf5"] and len(desk.trash()) == 1
    with pytest.raises(EpisodeError, match="already counting down"):
        session.redo(2.0)  # pressed twice: the first episode stays
    assert desk.episodes() == ["episode_0.hdf5"]
    desk.now_s += 2
    assert session.tick()
    desk.rows(5)
    report = session.stop(Ending("operator"))
    assert report["path"].endswith("episode_1.hdf5")
    trashed = session.redo(0.0)  # saved, but not good
    assert trashed.exists() and trashed.parent.name == "trash" and problems(trashed) == []
    assert session.state is State.RECORDING and session.take.writer.index == 1
    assert (session.saved, session.discarded) == (1, 2)
    desk.rows(5)
    with EpisodeReader(session.stop(Ending("operator"))["path"]) as episode:
        assert episode.instruction == "second"


def test_redo_in_a_countdown_after_next_takes_the_one_just_saved(desk):
    session = desk.session
    desk.record().session.next("unused", countdown_s=3.0)
    assert session.state is State.COUNTDOWN and desk.episodes() == ["episode_0.hdf5"]
    desk.now_s += 2
    assert session.redo(3.0) is not None and session.countdown_s == 3.0 and not desk.episodes()


def test_redo_after_a_discard_starts_again_and_discards_no_other(desk):
    session = desk.session
    desk.record().session.stop(Ending("operator"))
    desk.record().session.stop(Ending("operator", save=False))
    assert session.redo(0.0) is None and session.state is State.RECORDING
    assert "episode_0.hdf5" in desk.episodes()


def test_next_saves_and_starts_the_same_instruction(desk):
    session = desk.session
    session.next("from the parameter", 0.0)  # nothing runs: it is a start
    desk.rows(5)
    session.next("from the parameter", 0.0)
    assert session.state is State.RECORDING and session.take.writer.index == 1
    desk.rows(5)
    session.stop(Ending("operator"))
    for i in range(2):
        with EpisodeReader(desk.folder / f"episode_{i}.hdf5") as episode:
            assert (len(episode), episode.instruction) == (5, "from the parameter")


def test_next_does_not_go_on_when_nothing_was_saved(desk):
    desk.session.start("fold")
    with pytest.raises(EpisodeError, match=r"not saved, so nothing is started: .*before the first row"):
        desk.session.next("fold", 0.0)
    assert desk.session.state is State.IDLE


def test_an_episode_that_ends_by_itself_can_still_be_labelled_or_discarded(tmp_path):
    desk = Desk(tmp_path, max_rows=5)
    desk.session.start("fold")
    desk.source.settled_ns = START_NS + 50 * DT_NS
    wait_until(lambda: desk.session.state is State.IDLE)
    assert label_of(desk.session.label("success")["path"]) == "success"
    assert desk.session.last["rows"] == 5
    wait_until(lambda: desk.session.saved == 1)


@pytest.mark.parametrize("ending", [Ending("x", label="failure"), Ending("x", save=False)])
def test_a_stop_that_meets_an_episode_just_ending_by_itself_still_counts(desk, ending, monkeypatch):
    """The take has begun to end as saved and unlabelled; what the operator asks for at that moment is done."""
    session = desk.record().session
    take, entered, asked = session.take, threading.Event(), threading.Event()
    close, stop = take.writer.close, take.stop

    def slow_close(*args, **more):
        entered.set()
        assert asked.wait(60.0)
        return close(*args, **more)

    def noticed_stop(how):
        asked.set()
        return stop(how)

    monkeypatch.setattr(take.writer, "close", slow_close)
    ended = threading.Thread(target=stop, args=(Ending("by itself"),))
    ended.start()
    assert entered.wait(60.0) and session.state is State.SAVING
    monkeypatch.setattr(take, "stop", noticed_stop)
    report = session.stop(ending)
    ended.join()
    if ending.save:
        assert report["label"] == "failure" == label_of(report["path"])
    else:
        assert not report["saved"] and not desk.episodes() and len(desk.trash()) == 1


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(["start", "stop", "discard", "success", "next", "redo", "tick"]), max_size=12)
)
def test_whatever_is_pressed_no_episode_is_lost(moves):
    """Every take that had rows is in the folder or in the trash, whole, and numbers never clash."""
    with tempfile.TemporaryDirectory() as folder:
        desk, begun = Desk(Path(folder)), 0
        session = desk.session
        act = {
            "start": lambda: session.start("fold", 1.0),
            "stop": lambda: session.stop(Ending("operator")),
            "discard": lambda: session.stop(Ending("operator", save=False)),
            "success": lambda: session.label("success"),
            "next": lambda: session.next("fold", 0.0),
            "redo": lambda: session.redo(0.0),
            "tick": session.tick,
        }
        for move in moves:
            before = session.take
            desk.now_s += 1
            try:
                act[move]()
            except EpisodeError:
                assert session.take is before  # nothing was started
            if session.take is not before:
                desk.rows(3)
                begun += 1
        if session.recording:
            session.stop(Ending("end"))
        kept = list(Path(folder).glob("episode_*.hdf5"))
        assert all(problems(path) == [] for path in kept + desk.trash())
        assert (len(kept), len(desk.trash())) == (session.saved, session.discarded)
        assert len(kept) + len(desk.trash()) == begun

"""The quality of a recording: counted alike while it happens and from its file, and judged by the rig file."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorder_episodes import DT_NS, header, row

from vla_recorder.episode import layout
from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.episode.writer import EpisodeWriter
from vla_recorder.quality import Standards, quality_of
from vla_recorder.tally import Tally
from vla_rig.rig_file import load_rig

CONFIG = Path(__file__).parents[2] / "config"
SIM = load_rig(CONFIG / "aloha_sim.yaml")  # cameras 25 Hz, everything else at the rows' 50 Hz
CAMERA, ARM, COMMAND = 0, 4, 6  # columns of the test header's streams


def head_of(rig=SIM, **changes):
    return header(height=4, width=6, rig=rig.to_yaml(), **changes)


def healthy(head, rows=100):
    """Rows as a sound rig gives them: cameras at every second row, all else at each."""
    made = [row(t, head) for t in range(rows)]
    last_ns = np.full(len(head.stream_names), layout.NO_STAMP)
    for t, one in enumerate(made):
        one.stream_stamps_ns = np.full(len(head.stream_names), t * DT_NS, np.int64)
        one.stream_stamps_ns[:4] = (t - t % 2) * DT_NS
        one.repeated, last_ns = one.stream_stamps_ns == last_ns, one.stream_stamps_ns
        one.interventions = []
    return made


def drop(rows, column, first, last):
    """The stream's messages of rows first..last never came: the one before is used again."""
    for t in range(first, last + 1):
        rows[t].stream_stamps_ns[column] = rows[first - 1].stream_stamps_ns[column]
    for t in range(first, last + 2):
        rows[t].repeated[column] = rows[t].stream_stamps_ns[column] == rows[t - 1].stream_stamps_ns[column]


def judged(head, rows, late=()):
    standards = Standards.of_header(head)
    tally = standards.tally()
    for t, one in enumerate(rows):
        tally.add_row(one, late=t in late)
    return standards.judge(tally)


def test_a_sound_recording_is_good():
    quality = judged(head_of(), healthy(head_of()))
    assert (quality.verdict, quality.reasons, quality.rows) == ("good", [], 100)
    camera, arm = quality.streams["cam_high"], quality.streams["follower_left"]
    assert camera["intervals"] == [0, 0, 0, 0, 49, 0, 0, 0, 0, 0, 0] and camera["repeated"] == 50
    assert camera["expected_interval_s"] == camera["max_interval_s"] == pytest.approx(0.04)
    assert arm["intervals"][4] == 99 and arm["gaps"] == arm["repeated"] == 0


def test_a_lost_frame_is_a_gap_and_told_by_stream():
    head = head_of()
    rows = healthy(head)
    drop(rows, CAMERA, 20, 21)
    quality = judged(head, rows)
    camera = quality.streams["cam_high"]
    assert camera["gaps"] == 1 and camera["max_interval_s"] == pytest.approx(0.08)
    assert camera["intervals"][6] == 1, "80 ms is twice the expected interval: between 1.5 and 2.5"
    assert quality.verdict == "check"
    assert quality.reasons == ["cam_high: gaps among its intervals: 2.1 % (check above 1 %)"]


@pytest.mark.parametrize(("rate_hz", "offset_ns"), [(60, 0), (100, 3_000_000), (30, 0), (50, 7_000_000)])
def test_no_rate_makes_a_sound_stream_look_bad(rate_hz, offset_ns):
    """Messages between, at and across rows: what the rows see of them has no gap."""
    message_ns = np.arange(0, 400 * DT_NS, round(1e9 / rate_hz)) + offset_ns
    row_ns = np.arange(10, 390) * DT_NS
    stamps_ns = message_ns[np.searchsorted(message_ns, row_ns, side="right") - 1][:, None]
    repeated = np.concatenate([[[False]], np.diff(stamps_ns, axis=0) == 0])
    tally = Tally(["eye"], 0.02, {"eye": rate_hz})
    tally.add(stamps_ns, np.ones_like(repeated), repeated, np.zeros(stamps_ns.shape, np.float32), [[]] * 380)
    stream = tally.streams()["eye"]
    assert stream["gaps"] == 0
    assert stream["repeated"] / 380 <= max(0.0, 1 - rate_hz / 50) + 0.01


def test_verdict_and_reasons_follow_the_limits_of_the_rig_file():
    head = head_of()
    rows = healthy(head)
    for t in range(5):
        rows[40 + t].fresh[ARM] = False
    for t in range(30):
        rows[t].interventions = ["velocity: left_waist", "position: left_elbow"]
    quality = judged(head, rows, late=range(10))
    assert quality.verdict == "bad" and quality.late_rows == 10
    assert quality.reasons == [
        "follower_left: stale rows: 5.0 % (bad above 2 %)",
        "rows taken late: 10.0 % (check above 5 %)",
        "rows whose command the gate changed: 30.0 % (check above 20 %)",
    ]
    assert quality.interventions == {"velocity": 30, "position": 30} and quality.intervened_rows == 30
    mild = {name: {"check": 0.5, "bad": 0.9} for name in ("stale", "late", "interventions")}
    rig = SIM.model_validate(SIM.model_dump() | {"recording": mild})
    assert judged(head_of(rig), rows, late=range(10)).verdict == "good"


def test_commands_count_only_where_they_are_the_action():
    rows = healthy(head_of())
    for one in rows:
        one.fresh[COMMAND], one.stream_stamps_ns[COMMAND] = False, layout.NO_STAMP
    assert judged(head_of(), rows).verdict == "bad"
    quality = judged(head_of(action_from="leader"), rows)
    assert quality.verdict == "good" and quality.streams["command"]["max_age_s"] is None
    assert quality.streams["command"]["stale"] == 100


def test_leaders_count_only_where_they_are_the_action():
    names = [*head_of().stream_names[:4], "follower_left", "leader_left", "command"]
    rows = healthy(head_of())
    for one in rows:
        one.fresh[names.index("leader_left")] = False
    assert judged(head_of(stream_names=names), rows).verdict == "good", "a rollout of a policy has no leaders"
    assert judged(head_of(stream_names=names, action_from="leader"), rows).verdict == "bad"


def test_nothing_recorded_is_bad():
    assert judged(head_of(), []).reasons == ["no rows"]


def test_without_a_known_rig_rates_are_no_reason():
    head = header(height=4, width=6, rig="name: somebody_elses\n")
    quality = judged(head, healthy(head))
    assert quality.verdict == "good"
    assert quality.streams["cam_high"]["expected_interval_s"] == pytest.approx(0.02)


def troubled(head):
    rows = healthy(head, 150)
    drop(rows, CAMERA, 20, 25)
    drop(rows, ARM, 60, 61)
    for t in (3, 4, 90):
        rows[t].interventions = ["finite: right_elbow (held)", "velocity: left_waist, left_elbow"]
    rows[70].fresh[COMMAND] = False
    rows[0].stream_stamps_ns[COMMAND], rows[1].stream_stamps_ns[COMMAND] = layout.NO_STAMP, layout.NO_STAMP
    return rows


def test_live_and_from_the_file_are_equal(tmp_path):
    head = head_of()
    standards = Standards.of_header(head)
    tally, writer = standards.tally(), EpisodeWriter(tmp_path, head)
    for t, one in enumerate(troubled(head)):
        tally.add_row(one, late=t == 5)
        writer.append(one)
    live = standards.judge(tally)
    with EpisodeReader(writer.close("operator", quality=live.as_dict())) as episode:
        assert episode.quality == live.as_dict() == json.loads(json.dumps(live.as_dict()))
        assert quality_of(episode) == live
    assert live.verdict == "check" and len(live.reasons) == 2 and live.streams["follower_left"]["gaps"] == 1


def test_a_file_that_was_never_closed_does_not_know_its_late_rows(tmp_path):
    head = head_of()
    writer = EpisodeWriter(tmp_path, head)
    for one in healthy(head, 20):
        writer.append(one)
    with EpisodeReader(writer.close("recovered")) as episode:
        quality = quality_of(episode)
    assert quality.late_rows is None and quality.verdict == "good"


@given(cuts=st.lists(st.integers(0, 150), max_size=6), seed=st.integers(0, 2**32 - 1))
def test_it_does_not_matter_how_rows_are_handed_over(cuts, seed):
    random, rates = np.random.default_rng(seed), {"a": 25.0, "b": 200.0}
    steps_ns = random.integers(0, 3, (150, 3)) * random.integers(1, 40_000_000, (150, 3))
    stamps_ns = np.where(random.random((150, 3)) < 0.1, layout.NO_STAMP, np.cumsum(steps_ns, axis=0))
    flags = random.random((2, 150, 3)) < 0.3
    ages_s = np.where(stamps_ns == layout.NO_STAMP, np.nan, random.random((150, 3))).astype(np.float32)
    entries = [["velocity: x"] * (t % 3 == 0) for t in range(150)]
    whole, parts = Tally(["a", "b", "c"], 0.02, rates), Tally(["a", "b", "c"], 0.02, rates)
    whole.add(stamps_ns, *flags, ages_s, entries)
    edges = [0, *sorted(cuts), 150]
    for begin, end in pairwise(edges):
        rows = slice(begin, end)
        parts.add(stamps_ns[rows], flags[0, rows], flags[1, rows], ages_s[rows], entries[rows])
    np.testing.assert_equal(parts.streams(), whole.streams())
    assert parts.interventions == whole.interventions and parts.intervened_rows == whole.intervened_rows

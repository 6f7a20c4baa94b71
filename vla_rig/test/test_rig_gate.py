"""The gate: whatever is asked for and measured, what leaves it must not hurt a robot."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_rig.gate import CommandGate, GateClosedError
from vla_rig.rig_file import load_rig

CONFIG = Path(__file__).parents[2] / "config"
RIG = load_rig(CONFIG / "aloha.yaml")
EFFORT_RIG = load_rig(CONFIG / "teleavatar.yaml")
LOW, HIGH = (np.array([getattr(c, k) for c in RIG.action]) for k in ("min", "max"))
SPEED = np.array([c.max_velocity for c in RIG.action])
LEAD = SPEED * RIG.max_lead_s
SIZE = len(RIG.action)
EPS = 1e-9

ordinary = st.floats(-4, 4)
anything = st.one_of(ordinary, st.floats())  # NaN, infinities and 1e308 included
requests = st.one_of(
    st.lists(ordinary, min_size=SIZE, max_size=SIZE), st.lists(anything, min_size=SIZE, max_size=SIZE)
)
intervals = st.one_of(st.floats(0, 0.1), st.floats(-1, 1000), st.just(float("nan")))


def capped_s(dt_s: float) -> float:
    return min(dt_s, 2 * RIG.dt_s) if dt_s >= 0 else 2 * RIG.dt_s


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(requests, requests, intervals), min_size=1, max_size=8))
def test_no_history_of_requests_and_measurements_breaks_a_bound(history):
    gate = CommandGate(RIG)
    for requested, measured, dt_s in history:
        requested, measured, last = np.array(requested), np.array(measured), gate.last_sent
        paused = not 0 <= dt_s <= RIG.max_lead_s
        try:
            passed = gate.step(requested, measured, dt_s)
        except GateClosedError:
            assert (last is None or paused) and not np.isfinite(measured).all()
            continue
        sent, good = passed.sent, np.isfinite(requested).all() and np.isfinite(measured).all()
        start = measured if last is None or paused else last
        reach = SPEED * capped_s(dt_s)
        assert np.isfinite(sent).all()
        assert (np.abs(sent - start) <= reach * (1 + EPS) + EPS * (1 + np.abs(start))).all()
        inside = (start >= LOW) & (start <= HIGH)
        assert ((sent >= LOW) & (sent <= HIGH))[inside].all()
        if not good:
            np.testing.assert_array_equal(sent, start)
            assert [i.split(":")[0] for i in passed.interventions] == ["finite"]
            continue
        attainable = (np.abs(start - measured) <= LEAD) & (measured >= LOW) & (measured <= HIGH)
        assert (np.abs(sent - measured) <= LEAD + EPS)[attainable].all()
        if (sent != requested).any():
            assert passed.interventions
        elif inside.all():
            assert not passed.interventions


def middle(gate_rig=RIG) -> np.ndarray:
    return np.array([gate_rig.rest_pose[n] for n in gate_rig.action_names])


def test_an_allowed_request_passes_unchanged_and_uncounted():
    gate = CommandGate(RIG)
    passed = gate.step(middle() + 0.01, middle(), RIG.dt_s)
    np.testing.assert_array_equal(passed.sent, middle() + 0.01)
    assert passed.interventions == [] and not gate.counts


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_joint_holds_both_arms(bad):
    gate = CommandGate(RIG)
    first = gate.step(middle(), middle(), RIG.dt_s).sent
    wanted = middle() + 0.02
    wanted[3] = bad
    passed = gate.step(wanted, middle(), RIG.dt_s)
    np.testing.assert_array_equal(passed.sent, first)
    assert passed.interventions == ["finite: left_forearm_roll"] and gate.counts == {"finite": 1}


def test_first_command_ramps_from_the_measured_pose():
    measured = middle() + 0.5
    sent = CommandGate(RIG).step(middle() - 0.3, measured, RIG.dt_s).sent
    np.testing.assert_allclose(sent, np.maximum(measured - SPEED * RIG.dt_s, middle() - 0.3))


def test_a_start_without_a_measured_pose_is_refused_and_named():
    measured = middle()
    measured[8] = np.nan
    with pytest.raises(GateClosedError, match="right_shoulder"):
        CommandGate(RIG).step(middle(), measured, RIG.dt_s)


def test_stop_latches_keeps_the_first_reason_and_release_starts_from_the_measured_pose():
    gate = CommandGate(RIG)
    gate.step(middle(), middle(), RIG.dt_s)
    gate.stop("first")
    gate.stop("second")
    for _ in range(3):
        with pytest.raises(GateClosedError, match="first"):
            gate.step(middle(), middle(), RIG.dt_s)
        with pytest.raises(GateClosedError, match="first"):
            gate.hold()
    gate.release()
    moved = middle() + 0.3
    np.testing.assert_array_less(
        np.abs(gate.step(middle(), moved, RIG.dt_s).sent - moved), SPEED * RIG.dt_s + EPS
    )


@pytest.mark.parametrize("pause_s", [1.0, 3600.0, -5.0])
def test_after_a_pause_an_arm_that_was_moved_is_not_thrown_back(pause_s):
    gate = CommandGate(RIG)
    gate.step(middle(), middle(), RIG.dt_s)
    moved = middle() + 0.4
    sent = gate.step(middle(), moved, pause_s).sent
    assert (np.abs(sent - moved) <= SPEED * 2 * RIG.dt_s + EPS).all()


def test_a_joint_measured_far_outside_its_limits_does_not_pull_the_command_out():
    gate = CommandGate(RIG)
    gate.step(middle(), middle(), RIG.dt_s)
    for _ in range(500):
        sent = gate.step(middle(), HIGH + 10, RIG.dt_s).sent
    np.testing.assert_allclose(sent, HIGH)


def test_a_blocked_joint_is_not_pushed_beyond_the_lead():
    gate = CommandGate(RIG)
    target = middle()
    target[0] = 3.0
    for _ in range(200):
        passed = gate.step(target, middle(), RIG.dt_s)
    assert passed.sent[0] == pytest.approx(LEAD[0]) and passed.interventions == ["lead: left_waist"]


def test_unmeasured_effort_goes_on_from_what_was_sent():
    gate = CommandGate(EFFORT_RIG)
    rest = middle(EFFORT_RIG)
    measured = np.where([c.feedback is None for c in EFFORT_RIG.action], np.nan, rest)
    squeeze = rest.copy()
    squeeze[7] = squeeze[15] = 1.5
    for _ in range(10):
        gate.step(squeeze, measured, EFFORT_RIG.dt_s)
    gate.stop("test")
    gate.release()
    assert gate.step(squeeze, measured, EFFORT_RIG.dt_s).sent[7] == pytest.approx(1.5)


@pytest.mark.parametrize("shape", [(), (13,), (2, 14)])
def test_wrong_shapes_are_refused(shape):
    for arguments in ((np.zeros(shape), middle()), (middle(), np.zeros(shape))):
        with pytest.raises(ValueError, match="shape"):
            CommandGate(RIG).step(*arguments, RIG.dt_s)

"""The gripper linkage and its inverse."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_sim.gripper import CLOSED_M, OPEN_M, angle_from_finger, angular_velocity, finger_from_angle

angles = st.floats(-math.pi / 2, math.pi / 2)
inner_angles = st.floats(
    -1.5, 1.5
)  # at the dead centres the finger hardly moves and the inverse is ill-conditioned


@given(inner_angles)
def test_angle_survives_the_way_there_and_back(angle):
    assert angle_from_finger(finger_from_angle(angle)) == pytest.approx(angle, abs=1e-6)


@given(st.floats(CLOSED_M, OPEN_M))
def test_finger_survives_the_way_there_and_back(finger):
    assert finger_from_angle(angle_from_finger(finger)) == pytest.approx(finger, abs=1e-12)


@given(angles, angles)
def test_larger_angle_means_wider_open(a, b):
    low, high = sorted((a, b))
    assert CLOSED_M - 1e-12 <= finger_from_angle(low) <= finger_from_angle(high) <= OPEN_M + 1e-12


@given(st.floats(-1.4, 1.4), st.floats(-0.1, 0.1))
def test_velocity_is_the_derivative(angle, finger_m_s):
    finger, h = finger_from_angle(angle), 1e-7
    slope = (angle_from_finger(finger + h) - angle_from_finger(finger - h)) / (2 * h)
    assert angular_velocity(finger, finger_m_s) == pytest.approx(slope * finger_m_s, rel=1e-3, abs=1e-9)


def test_act_constants_lie_on_the_linkage():
    # act constants.py: the follower's joint and finger positions at both ends, rounded
    assert finger_from_angle(1.4910) == pytest.approx(0.05800, abs=2e-4)
    assert finger_from_angle(-0.6213) == pytest.approx(0.01844, abs=2e-4)


@given(st.floats(-10, 10), st.floats(-1, 1))
def test_out_of_reach_stops_at_the_dead_centres(angle, finger):
    assert CLOSED_M - 1e-12 <= finger_from_angle(angle) <= OPEN_M + 1e-12
    assert -math.pi / 2 <= angle_from_finger(finger) <= math.pi / 2

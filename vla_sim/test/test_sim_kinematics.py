"""Inverse kinematics against forward kinematics, limits, and the servos' sag."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vla_sim.kinematics import LIMIT_MARGIN_RAD, ArmKinematics, UnreachableError
from vla_sim.simulation import Simulation
from vla_sim.world import ARM_JOINTS, ARMS, START_ARM_RAD, load_spec

MODEL = load_spec("transfer_cube").compile()
KINEMATICS = {arm: ArmKinematics(MODEL, arm) for arm in ARMS}
SHIFT = np.array([0.0, 0.3, -0.2, 0.0, 1.0, 0.0])  # bends the wrist: away from its singularity


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ARMS), st.lists(st.floats(-0.3, 0.3), min_size=6, max_size=6))
def test_solution_brings_the_tool_there(arm, offsets):
    kinematics, home = KINEMATICS[arm], START_ARM_RAD + SHIFT
    position, orientation = kinematics.tool(home + np.array(offsets))
    solved = kinematics.solve(position, orientation, home)
    reached, turned = kinematics.tool(solved)
    assert np.linalg.norm(reached - position) < 1e-5
    assert (turned * orientation.inv()).magnitude() < 1e-4
    limits = MODEL.jnt_range[[MODEL.joint(f"vx300s_{arm}/{j}").id for j in ARM_JOINTS]]
    assert np.all(solved >= limits[:, 0] + LIMIT_MARGIN_RAD - 1e-9)
    assert np.all(solved <= limits[:, 1] - LIMIT_MARGIN_RAD + 1e-9)


def test_unreachable_pose_names_arm_and_place():
    with pytest.raises(UnreachableError, match=r"left arm cannot reach \[2\.0, 0\.5, 0\.3\] m"):
        KINEMATICS["left"].solve(np.array([2.0, 0.5, 0.3]), Rotation.identity(), START_ARM_RAD)


def test_arms_mirror_each_other():
    left, right = (KINEMATICS[arm].tool(START_ARM_RAD)[0] for arm in ARMS)
    assert left == pytest.approx(right * [-1, 1, 1], abs=1e-4)


@pytest.mark.parametrize("arm", ARMS)
def test_sag_is_where_the_servos_come_to_rest(arm):
    simulation = Simulation("transfer_cube", 0, 0.02)
    for _ in range(150):
        simulation.tick()
    resting = simulation.world.read(arm).position[:6] - START_ARM_RAD
    sag = KINEMATICS[arm].sag(START_ARM_RAD)
    assert np.abs(resting).max() > 5e-3, "without sag this test would prove nothing"
    assert sag == pytest.approx(resting, abs=1e-3)

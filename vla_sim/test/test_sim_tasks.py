"""Object placement, staged rewards on constructed states, held success."""

import numpy as np
import pytest

from vla_sim.kinematics import TOOL_M
from vla_sim.simulation import HOLD_START_S, Simulation
from vla_sim.tasks import HOLD_S, TASKS, Judge, find_task
from vla_sim.world import ARM_JOINTS, ARMS, START_ARM_RAD

UPRIGHT = (1.0, 0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def transfer():
    return Simulation("transfer_cube", 0, 0.02)


@pytest.fixture(scope="module")
def insertion():
    return Simulation("insertion", 0, 0.02)


def between_fingers(simulation, arm, opening_m=0.0424):
    """Open an arm's fingers to where they just touch a 40 mm cube; returns the point between them."""
    index, data = simulation.world.arms[arm], simulation.world.data
    data.qpos[index.finger_qpos] = opening_m, -opening_m
    body = index.gripper_body
    return data.xpos[body] + data.xmat[body].reshape(3, 3) @ TOOL_M


def reward_with(simulation, *positions):
    simulation.world.set_object_poses([np.array([*p, *UPRIGHT]) for p in positions])
    return simulation.task.reward(simulation.model, simulation.world.data)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_placement_follows_the_seed_and_stays_in_range(task):
    for seed in range(50):
        poses = task.sample_poses(seed)
        assert all(np.array_equal(a, b) for a, b in zip(poses, task.sample_poses(seed), strict=True))
        for thing, (x, y, z, *turn) in zip(task.objects, poses, strict=True):
            assert thing.x[0] <= x <= thing.x[1] and thing.y[0] <= y <= thing.y[1] and z == thing.z
            assert turn == [1, 0, 0, 0]
    assert len({tuple(task.sample_poses(seed)[0]) for seed in range(50)}) == 50


@pytest.mark.parametrize("name", TASKS)
def test_objects_start_at_rest_on_the_table(name):
    simulation = Simulation(name, 3, 0.02)
    before = np.array(simulation.world.object_poses())
    for _ in range(25):
        simulation.tick()
    assert np.abs(np.array(simulation.world.object_poses()) - before).max() < 1e-3


def test_transfer_stages(transfer):
    transfer.reset("", 0)
    x, y, _ = transfer.world.object_poses()[0][:3]
    assert reward_with(transfer, (x, y, 0.02)) == 0  # on the table, nobody near
    assert reward_with(transfer, (0.0, 0.5, 0.6)) == 0  # in the air, nobody near
    right, left = between_fingers(transfer, "right"), between_fingers(transfer, "left")
    assert reward_with(transfer, right) == 2
    assert reward_with(transfer, left) == 4


def test_transfer_stages_on_the_table(transfer):
    """Stages 1 and 3: the same touches while the cube still stands on the table."""
    stages = transfer.task.stages

    def touching(*pairs):
        wanted = {frozenset(p) for p in pairs}
        return lambda a, b: frozenset((a, b)) in wanted

    right, left = "vx300s_right/10_right_gripper_finger", "vx300s_left/10_left_gripper_finger"
    table = ("red_box", "table")
    assert stages(touching(table, ("red_box", right))) == (True, False, False, False)
    assert stages(touching(table, ("red_box", left))) == (False, False, True, False)
    assert stages(touching(("red_box", left))) == (False, False, True, True)


def test_insertion_stages(insertion):
    insertion.reset("", 0)
    assert reward_with(insertion, (0.15, 0.5, 0.01), (-0.15, 0.5, 0.022)) == 0
    right = between_fingers(insertion, "right", 0.0324)
    left = between_fingers(insertion, "left", 0.0444)
    assert reward_with(insertion, right, left) == 2
    # Peg 120 mm long, socket 120 mm, pin 80 mm: the peg's end meets the pin 20 mm inside the socket.
    meet = (0.0, 0.5, 0.6)
    assert reward_with(insertion, (0.115, 0.5, 0.6085), meet) == 3  # in the mouth, touching a wall
    assert reward_with(insertion, (0.0995, 0.5, 0.6), meet) == 4
    assert reward_with(insertion, (0.15, 0.5, 0.6), meet) == 0


def test_success_needs_an_unbroken_hold():
    judge, dt = Judge(), 0.02
    for _ in range(round(HOLD_S / dt)):  # one status too few: the hold starts with the first reward 4
        judge.update(4, dt)
    assert not judge.success and judge.held_s == pytest.approx(HOLD_S - dt)
    judge.update(3, dt)
    assert judge.held_s == 0.0 and judge.max_reward == 4
    for _ in range(round(HOLD_S / dt) + 1):
        judge.update(4, dt)
    assert judge.success
    judge.update(0, dt)
    assert judge.success and judge.reward == 0, "a drop later does not undo the success"
    judge.reset()
    assert not judge.success and judge.max_reward == 0


def test_errors_name_what_is_known():
    with pytest.raises(
        ValueError, match="unknown task 'juggling', expected one of: transfer_cube, insertion"
    ):
        find_task("juggling")
    with pytest.raises(ValueError, match="seed must be 0 or more, got -1"):
        find_task("insertion").sample_poses(-1)
    with pytest.raises(
        ValueError, match=r"control period of 5 ms is not a multiple of the physics step of 2 ms"
    ):
        Simulation("transfer_cube", 0, 0.005)


def test_arms_wait_at_the_start_after_a_reset_until_the_commands_come_near(transfer):
    transfer.reset("transfer_cube", 1)

    def command(waist_rad):
        for arm in ARMS:
            for joint, at in zip(ARM_JOINTS, START_ARM_RAD, strict=True):
                transfer.command(arm, joint, waist_rad if (arm, joint) == ("left", "waist") else at)

    command(1.0)  # where the last episode ended
    for _ in range(10):
        transfer.tick()
    assert not transfer.settled
    assert transfer.world.read("left").position[0] == pytest.approx(0.0, abs=1e-2)
    command(0.05)  # the commander has come home
    transfer.tick()
    assert transfer.settled
    command(0.5)
    for _ in range(50):
        transfer.tick()
    assert transfer.world.read("left").position[0] == pytest.approx(0.5, abs=0.02)


def test_a_commander_that_does_not_come_near_is_heard_after_a_second(transfer):
    transfer.reset("transfer_cube", 1)
    transfer.command("left", "waist", 0.5)
    for _ in range(round(HOLD_START_S / 0.02) - 1):
        transfer.tick()
    assert not transfer.settled
    transfer.tick()
    assert transfer.settled


def test_a_rejected_reset_changes_nothing(transfer):
    transfer.reset("transfer_cube", 5)
    poses = transfer.world.object_poses()
    for task, seed in (("juggling", 0), ("insertion", -1)):
        with pytest.raises(ValueError):
            transfer.reset(task, seed)
    assert transfer.task.name == "transfer_cube" and transfer.seed == 5
    assert np.array_equal(transfer.world.object_poses(), poses)

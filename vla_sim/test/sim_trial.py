"""Plays a planned demonstration through the command gate into the simulation, as teleop does, without ROS."""

from pathlib import Path

import numpy as np

from vla_rig.gate import CommandGate
from vla_rig.rig import Rig
from vla_rig.rig_file import load_rig
from vla_sim.demonstrator import Trajectory, plan
from vla_sim.leaders import LeaderArms
from vla_sim.simulation import Simulation
from vla_sim.wiring import arm_of
from vla_sim.world import JOINTS

RIG_FILE = Path(__file__).parents[2] / "config" / "aloha_sim.yaml"
TELEOP_DELAY_TICKS = 1


def planned(simulation: Simulation, rig: Rig) -> Trajectory:
    names = [o.name for o in simulation.task.objects]
    poses = dict(zip(names, simulation.world.object_poses(), strict=True))
    return plan(simulation.model, simulation.task.name, poses, rig.control_rate_hz)


def measured(simulation: Simulation, rig: Rig) -> np.ndarray:
    readings = {arm: simulation.world.read(arm).position for arm in ("left", "right")}
    scales = [rig.scale(c.feedback.range) for c in rig.action]
    return np.array(
        [
            (readings[arm_of(c.sink, "sink")][JOINTS.index(c.joint)] - offset) * gain
            for c, (offset, gain) in zip(rig.action, scales, strict=True)
        ]
    )


def run_trial(task: str, seed: int, delay_ticks: int = TELEOP_DELAY_TICKS) -> tuple[Simulation, CommandGate]:
    """One demonstration, followed by half a second of holding still."""
    rig = load_rig(RIG_FILE)
    simulation, gate = Simulation(task, seed, rig.dt_s), CommandGate(rig)
    rows = LeaderArms(rig).rows(planned(simulation, rig))
    for k in range(len(rows) + 25 + delay_ticks):
        row = rows[min(max(k - delay_ticks, 0), len(rows) - 1)]
        sent = gate.step(row, measured(simulation, rig), rig.dt_s).sent
        for channel, value in zip(rig.action, sent, strict=True):
            offset, gain = rig.scale(channel.range)
            simulation.command(arm_of(channel.sink, "sink"), channel.joint, offset + value / gain)
        simulation.tick()
    return simulation, gate

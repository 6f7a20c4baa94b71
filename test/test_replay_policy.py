"""An episode feeds a policy node: replayed observations, no robot, chunks and held commands come out."""

import sys
from pathlib import Path

import pytest
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
from support.processes import node_command, python_module, wait_until

from vla_model import presets
from vla_model.policy import build_policy
from vla_msgs.msg import ActionChunk, PolicyStatus
from vla_msgs.srv import SetInstruction
from vla_rig import qos
from vla_rig.inputs import stamp_ns

sys.path.insert(0, str(Path(__file__).parents[1] / "vla_recorder" / "test"))

from tool_episodes import small_rig, write


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_policy_node_acts_on_a_replayed_episode(tmp_path, spawn, graph):
    rig, episode = small_rig(), write(tmp_path, rows=900)
    config = presets.small(tuple(rig.cameras), len(rig.state), len(rig.action), 10, rig.dt_s)
    spread = {"min": [-0.5] * 14, "max": [0.5] * 14}
    statistics = {"test": {"action": spread, "proprio": spread}}
    build_policy(config, statistics, rig.to_yaml()).save(tmp_path / "checkpoint")
    (tmp_path / "rig.yaml").write_text(rig.to_yaml())
    statuses = graph.listen(PolicyStatus, "policy/status", qos.STATUS)
    chunks = graph.listen(ActionChunk, "policy/action_chunk")
    states = graph.listen(JointState, "follower_left/joint_states", qos.best_effort(100))
    command = {"rig": tmp_path / "rig.yaml", "checkpoint": tmp_path / "checkpoint", "torch_threads": 1}
    policy = spawn(node_command("vla_policy_node.node", **command))
    asked = SetInstruction.Request(instruction="hand over the cube")
    assert graph.call(SetInstruction, "policy/set_instruction", asked, deadline_s=90).success, policy.text
    replay = spawn(python_module("vla_recorder.tools.cli", "replay", "observations", str(episode)))
    wait_until(lambda: len(states) > 20, "replayed joint states")
    assert graph.call(Trigger, "policy/start").success, policy.text
    wait_until(lambda: statuses[-1].state == PolicyStatus.STATE_RUNNING, "the policy runs")
    wait_until(lambda: len(chunks) > 20, "chunks")
    replayed = {stamp_ns(state.header.stamp) for state in states}
    seen = stamp_ns(chunks[10].observation_stamp)
    assert min(replayed) <= seen <= max(replayed), "it acts on what is replayed"
    assert replay.interrupt() == 130
    wait_until(lambda: statuses[-1].state == PolicyStatus.STATE_HOLDING, "it holds when the replay ends")

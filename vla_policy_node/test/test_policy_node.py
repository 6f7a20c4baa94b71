"""The policy node as its own process over real DDS, with a small model made on the spot."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from policy_rig import CAMERAS, RIG_YAML, RigStreams
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
from support.processes import node_command, wait_until

from vla_model import presets
from vla_model.policy import build_policy
from vla_msgs.msg import ActionChunk, PolicyStatus, RigCommand
from vla_msgs.srv import SetInstruction
from vla_rig import qos
from vla_rig.inputs import stamp_ns
from vla_rig.rig_file import load_rig

CONFIG = Path(__file__).resolve().parents[2] / "config"
NODE = "vla_policy_node.node"


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """(rig file, rig, checkpoint directory) of a small policy for two cameras."""
    folder = tmp_path_factory.mktemp("policy")
    rig_file = folder / "rig.yaml"
    rig_file.write_text(RIG_YAML.format(base=CONFIG / "aloha_sim.yaml"))
    rig = load_rig(rig_file)
    config = presets.small(CAMERAS, len(rig.state), len(rig.action), 10, rig.dt_s)

    def around_rest(n: int) -> dict:
        return {"min": [-0.5] * n, "max": [0.5] * n}

    statistics = {"test": {"action": around_rest(len(rig.action)), "proprio": around_rest(len(rig.state))}}
    build_policy(config, statistics, rig.to_yaml()).save(folder / "checkpoint")
    return rig_file, rig, folder / "checkpoint"


def command_line(setting, **more):
    rig_file, _, checkpoint = setting
    return node_command(NODE, rig=rig_file, checkpoint=checkpoint, torch_threads=1, **more)


def state_is(statuses, state, text=""):
    return lambda: statuses and statuses[-1].state == state and text in statuses[-1].reason


def test_drives_the_rig_and_holds_for_every_fault(setting, spawn, graph):
    _, rig, _ = setting
    statuses = graph.listen(PolicyStatus, "policy/status", qos.STATUS)
    chunks = graph.listen(ActionChunk, "policy/action_chunk")
    commands = graph.listen(RigCommand, "command", 100)
    arm = graph.listen(JointState, "follower_left/commands/joint_group")
    diagnostics = graph.listen(DiagnosticArray, "/diagnostics")
    node = spawn(command_line(setting))
    with RigStreams(graph, rig) as streams:
        refused = graph.call(Trigger, "policy/start")
        assert not refused.success
        assert "no instruction" in refused.message
        blank = graph.call(
            SetInstruction, "policy/set_instruction", SetInstruction.Request(instruction=" \t\n")
        )
        assert not blank.success and "blank" in blank.message
        asked = SetInstruction.Request(instruction="pick up the red cube")
        assert graph.call(SetInstruction, "policy/set_instruction", asked).success
        assert graph.call(Trigger, "policy/start").success
        wait_until(state_is(statuses, PolicyStatus.STATE_RUNNING), "running")
        wait_until(lambda: len(commands) > 25 and len(chunks) > 25 and len(arm) > 25, "commands")
        assert statuses[-1].instruction == "pick up the red cube"
        wait_until(lambda: stamps_of(commands) >= stamps_of(chunks[5:25]), "their commands")
        check_chunks(chunks[5:25], commands, rig)
        check_commands(commands[:25], rig)

        def well() -> bool:
            levels = {s.name: s.level for s in diagnostics[-1].status} if diagnostics else {}
            return levels.get("policy: policy") == levels.get("policy: cam_high") == DiagnosticStatus.OK

        wait_until(well, "diagnostics that say OK")

        for fault, repair, reason in (
            ({"muted": {"cam_high"}}, {"muted": set()}, "cam_high"),
            ({"muted": {"follower_right"}}, {"muted": set()}, "follower_right"),
            ({"bad_joint": "elbow"}, {"bad_joint": ""}, "'elbow' is nan"),
            ({"encoding": "yuv422"}, {"encoding": "rgb8"}, "yuv422"),
        ):
            vars(streams).update(fault)
            wait_until(state_is(statuses, PolicyStatus.STATE_HOLDING, reason), f"holding for {reason}")
            seen = len(commands)
            wait_until(lambda seen=seen: len(commands) > seen + 5, "held commands")
            held = [c.sent for c in commands[-4:]]
            assert all(np.array_equal(held[0], h) for h in held), "a held command must not move"
            vars(streams).update(repair)
            wait_until(state_is(statuses, PolicyStatus.STATE_RUNNING), f"running again after {reason}")

        assert graph.call(Trigger, "policy/stop").success
        stopped_ns = graph.node.get_clock().now().nanoseconds
        wait_until(state_is(statuses, PolicyStatus.STATE_IDLE, "stop service"), "stopped")
        told = len(statuses)
        wait_until(lambda: len(statuses) > told + 2, "two more statuses")
        late = [stamp for stamp in stamps_of(commands) if stamp > stopped_ns]
        assert not late, "nothing may be sent after ~/stop has answered"
        silent_from = len(commands)
        assert graph.call(Trigger, "policy/start").success
        wait_until(lambda: len(commands) > silent_from + 5, "commands after the restart")
    assert node.interrupt() == 0
    assert "Traceback" not in node.text


def stamps_of(messages) -> set[int]:
    return {stamp_ns(message.header.stamp) for message in list(messages)}


def check_chunks(chunks, commands, rig):
    by_stamp = {stamp_ns(c.header.stamp): c for c in commands}
    for chunk in chunks:
        assert list(chunk.names) == rig.action_names
        assert (chunk.dim, chunk.dt_s) == (len(rig.action), pytest.approx(rig.dt_s))
        assert len(chunk.values) == chunk.horizon * chunk.dim
        assert sum(chunk.contributor_weights) == pytest.approx(1)
        stamps = [stamp_ns(s) for s in chunk.contributor_stamps]
        assert stamps == sorted(stamps)
        assert stamps[-1] == stamp_ns(chunk.observation_stamp) <= stamp_ns(chunk.header.stamp)
        command = by_stamp[stamp_ns(chunk.header.stamp)]
        np.testing.assert_allclose(chunk.values[: chunk.dim], command.requested, atol=1e-6)


def check_commands(commands, rig):
    """Row by row: within limits, and never faster than the rig allows."""
    low, high = np.array([c.min for c in rig.action]), np.array([c.max for c in rig.action])
    speed = np.array([c.max_velocity for c in rig.action])
    sent = np.array([c.sent for c in commands])
    times_s = np.array([stamp_ns(c.header.stamp) for c in commands]) * 1e-9
    assert (sent >= low - 1e-5).all()
    assert (sent <= high + 1e-5).all()
    steps = np.minimum(np.diff(times_s), 2 * rig.dt_s)
    assert (np.abs(np.diff(sent, axis=0)) <= speed * steps[:, None] + 1e-5).all()
    assert {c.source for c in commands} == {RigCommand.SOURCE_POLICY}


def test_lockstep_in_simulated_time_is_repeatable(setting, spawn, graph):
    _, rig, _ = setting
    runs = []
    while len(runs) < 2:
        commands = graph.listen(RigCommand, "command", 100)
        options = {"lockstep_every": 2, "use_sim_time": True, "instruction": "go", "start": True}
        statuses = graph.listen(PolicyStatus, "policy/status", qos.STATUS)
        node = spawn(command_line(setting, **options))
        wait_until(state_is(statuses, PolicyStatus.STATE_WAITING), "a started node")
        if RigStreams(graph, rig).lockstep(30, commands):
            runs.append(np.array([c.requested for c in commands]))
        assert node.interrupt() == 0
    assert len(runs[0]) >= 30
    np.testing.assert_array_equal(runs[0][:30], runs[1][:30])


def test_a_worker_that_dies_is_a_fault_and_nothing_moves(setting, spawn, graph):
    _, rig, _ = setting
    statuses = graph.listen(PolicyStatus, "policy/status", qos.STATUS)
    commands = graph.listen(RigCommand, "command", 100)
    worker_dies = "import vla_policy_node.ensemble as e; e.Ensembler.add = lambda *_: 1 / 0"
    run_node = f"import runpy; runpy.run_module('{NODE}', run_name='__main__')"
    command = command_line(setting, instruction="go", start=True)
    at = command.index("-m")
    spawn([*command[:at], "-c", f"{worker_dies}; {run_node}", *command[at + 2 :]])
    with RigStreams(graph, rig):
        wait_until(state_is(statuses, PolicyStatus.STATE_FAULT, "internal error"), "the fault")
    assert commands == []


def test_lifecycle(setting, spawn, graph):
    _, rig, _ = setting
    commands = graph.listen(RigCommand, "command", 100)
    node = spawn(command_line(setting, autostart=False, instruction="go"))

    def change(transition):
        request = ChangeState.Request(transition=Transition(id=transition))
        return graph.call(ChangeState, "policy/change_state", request).success

    with RigStreams(graph, rig):
        for _ in range(2):  # a second configuration must work like the first
            assert not graph.call(Trigger, "policy/start").success
            assert change(Transition.TRANSITION_CONFIGURE)
            assert "not active" in graph.call(Trigger, "policy/start").message
            assert change(Transition.TRANSITION_ACTIVATE)
            begun = len(commands)
            assert graph.call(Trigger, "policy/start").success
            wait_until(lambda begun=begun: len(commands) > begun + 5, "commands")
            assert change(Transition.TRANSITION_DEACTIVATE)
            assert change(Transition.TRANSITION_CLEANUP)
            wait_until(lambda: not graph.node.count_publishers("command"), "publishers gone")
        stamps = [stamp_ns(c.header.stamp) for c in commands]
        assert stamps == sorted(set(stamps)), "two control loops ran at once"
    assert node.interrupt() == 0


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, "'checkpoint' is empty"),
        ({"checkpoint": "/nowhere/model"}, "/nowhere/model"),
        ({"rig": CONFIG / "teleavatar.yaml"}, "checkpoint was trained on"),
        ({"rig": "nonesuch"}, "nonesuch"),
        ({"ensemble_decay": 1000.0}, "ensemble_decay"),
        ({"instruction": "' \t'"}, "'instruction' is blank"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(setting, spawn, parameters, expected):
    _, _, checkpoint = setting
    if parameters and "checkpoint" not in parameters:
        parameters = {"checkpoint": checkpoint} | parameters
    node = spawn(node_command(NODE, **parameters))
    assert node.wait() == 2
    assert "Traceback" not in node.text
    assert expected in node.text.splitlines()[-1]


def test_a_checkpoint_that_knows_no_rig_is_explained(setting, spawn, tmp_path):
    _, _, checkpoint = setting
    shutil.copytree(checkpoint, tmp_path / "bare")
    (tmp_path / "bare" / "rig.yaml").write_text("")
    node = spawn(node_command(NODE, checkpoint=tmp_path / "bare"))
    assert node.wait() == 2
    assert "bare has no rig.yaml" in node.text.splitlines()[-1] and "--rig" in node.text

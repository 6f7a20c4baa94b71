"""`vla up` leaves no process behind, however it or one of its processes ends. Everything here is really killed."""

import os
import signal
import sys

import pytest
from bringup_group import DEAF, QUIET, Group, wait_until_gone

from vla_bringup.processes import Process
from vla_bringup.up import StartError, command_of


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_all_and_is_a_normal_end(number):
    group = Group.of(a=QUIET, b=QUIET)
    group.wait_for(r"\| pid", 4)
    group.signal(number)
    assert group.wait() == 0
    assert wait_until_gone(group.pids()) == []


def test_one_that_is_killed_stops_the_others_and_gives_its_code():
    group = Group.of(a=QUIET, b=QUIET)
    group.wait_for(r"\| pid", 4)
    os.kill(group.pids("a")[0], signal.SIGKILL)
    os.kill(group.pids("a")[1], signal.SIGKILL)
    assert group.wait() == 128 + signal.SIGKILL
    assert wait_until_gone(group.pids()) == []
    assert any("a was ended by SIGKILL" in line for line in group.output)


def test_one_that_ends_gives_its_exit_code():
    group = Group.of(short="import sys; sys.exit(7)", long=QUIET)
    assert group.wait() == 7
    assert wait_until_gone(group.pids()) == []
    assert any("short ended with exit code 7" in line for line in group.output)


def test_one_that_is_deaf_is_killed_and_named():
    group = Group.of(deaf=DEAF, other=QUIET)
    group.wait_for(r"\| pid", 4)
    group.signal(signal.SIGINT)
    group.wait_for("SIGINT: stopping")
    group.signal(signal.SIGINT)  # impatient: each further Ctrl-C shortens one wait
    group.wait_for("SIGTERM to deaf")
    group.signal(signal.SIGINT)
    assert group.wait() == 1
    assert wait_until_gone(group.pids()) == []
    assert any("SIGKILL to deaf" in line for line in group.output)


def test_the_processes_end_with_a_killed_parent():
    group = Group.of(a="import os, time; print('pid', os.getpid(), flush=True); time.sleep(300)")
    group.wait_for(r"\| pid")
    group.signal(signal.SIGKILL)
    assert group.wait() == -signal.SIGKILL
    assert wait_until_gone(group.pids()) == []


def test_long_and_broken_output_is_shown_or_skipped_never_fatal():
    text = r"import sys; sys.stdout.buffer.write(b'x' * 3_000_000 + b'\n\xff\xfe\nlast\n'); sys.exit(0)"
    group = Group.of(loud=text)
    assert group.wait() == 0
    assert any("too long" in line for line in group.output)
    assert any(line.endswith("| last") for line in group.output)


def test_a_deaf_child_of_a_node_that_ended_is_killed_too():
    deaf_child = QUIET.replace("import time;", "import signal, time; signal.signal(2, signal.SIG_IGN);")
    group = Group.of(a=deaf_child)
    group.wait_for(r"\| pid", 2)
    group.signal(signal.SIGINT)
    assert group.wait() == 0
    assert wait_until_gone(group.pids()) == []


def test_a_program_that_does_not_exist_stops_what_was_started():
    text = (
        "import sys; from vla_bringup.up import Command, run\n"
        f"sys.exit(run([Command('a', [{sys.executable!r}, '-c', {QUIET!r}]), Command('b', ['/nowhere/node'])]))"
    )
    group = Group([sys.executable, "-c", text])
    assert group.wait() != 0
    assert wait_until_gone(group.pids()) == []


def test_a_package_that_is_not_built_is_named():
    with pytest.raises(StartError, match="'no_such_package' is not there: build the workspace"):
        command_of(Process("no_such_package", "node", "node"))
    with pytest.raises(StartError, match="no executable 'nothing' \\(there are: check, teleop\\)"):
        command_of(Process("vla_rig", "nothing", "node"))


def test_real_nodes_come_up_and_go_down(domain_id):
    words = ["teleop:=true", "recorder:=true", "log_level:=debug"]
    group = Group(["vla", "up", "aloha_sim", *words], {"ROS_DOMAIN_ID": str(domain_id)})
    group.wait_for(r"^teleop +\| .*Initializing service")  # past the imports: now a signal is taken well
    group.wait_for(r"^recorder +\| .*Initializing service")
    group.signal(signal.SIGINT)
    assert group.wait() == 0
    assert "Traceback" not in "\n".join(group.output)

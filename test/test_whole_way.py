"""Simulated rig, demonstrator, teleop and recorder together, as `make demo` starts them; stopped as people do it."""

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import h5py
import numpy as np
from support.processes import DEADLINE_S, wait_until

from demo.director import Director
from demo.report import lost_frames
from demo.stage import Stage
from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.episode.validate import problems

CAMERAS = ["cam_high", "cam_left_wrist", "cam_low", "cam_right_wrist"]


def alive(mark: str) -> list[str]:
    """Command lines of the processes that inherited the mark in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes() and folder.name != str(os.getpid()):
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue  # ended meanwhile, or another user's
    return [command for command in found if command]


def test_a_demonstration_becomes_an_episode_that_others_can_read(tmp_path, domain_id, monkeypatch):
    mark = f"vla-{uuid.uuid4()}"
    monkeypatch.setenv("VLA_TEST_MARK", mark)
    # a recorder that has to wait for its turn shall lose no frame meanwhile
    unhurried = tmp_path / "unhurried.yaml"
    unhurried.write_text("sim_rig: {ros__parameters: {real_time_factor: 0.4}}")
    options = ["aloha", "sim:=true", "demonstrator:=true", "teleop:=true", "recorder:=true"]
    options.append(f"params_file:={unhurried}")
    with Stage("demonstration", tmp_path / "log", domain_id, *options, f"episodes:={tmp_path}") as stage:
        with Director(stage, domain_id) as director:
            saved = director.demonstrate(seed=3, instruction="transfer the cube")
            reward, success = director.task.reward, director.task.success
        transports = stage.transports()
    wait_until(lambda: not alive(mark), "the end of all processes")
    assert (reward, success) == (4, True)
    assert len(transports) == 4
    assert "default" not in transports.values()
    assert problems(saved.path) == []
    with EpisodeReader(saved.path) as episode:
        assert episode.label == "success"
        for camera in CAMERAS:
            frames, lost = lost_frames(episode, camera)
            assert frames > 100
            assert lost == 0, f"{camera} lost {lost} frames"
        assert episode.fresh.all()
    check_as_the_act_family_reads_it(saved.path)


def check_as_the_act_family_reads_it(path: str) -> None:
    """Every line of the layout that ACT's, DexVLA's and openpi's loaders ask for."""
    with h5py.File(path) as file:
        T = len(file["/action"])
        assert file.attrs["sim"] == np.True_
        assert "compress" not in file.attrs
        for name in ("/action", "/observations/qpos", "/observations/qvel", "/observations/effort"):
            assert (file[name].dtype, file[name].shape) == (np.dtype("<f4"), (T, 14))
            assert np.isfinite(file[name][()]).all()
        images = file["/observations/images"]
        assert sorted(images) == CAMERAS
        for camera in CAMERAS:
            assert (images[camera].dtype, images[camera].shape) == (np.uint8, (T, 480, 640, 3))
            assert images[camera].chunks == (1, 480, 640, 3)
        red, _, blue = np.moveaxis(images["cam_high"][0].astype(int), -1, 0)
        assert (red - blue).max() > 100, "the red cube must be red: RGB, not BGR"
        assert (blue - red).max() < 50
        assert file["/language_raw"].asstr()[0] == "transfer the cube"
        assert set(file["/substep_reasonings"].asstr()[()]) == {"transfer the cube"}
        qpos, action = file["/observations/qpos"][()], file["/action"][()]
        # Transfer begins with the right arm: columns 7 to 12 move, 0 to 5 rest; grippers are 0 closed .. 1 open.
        begin = np.flatnonzero(np.abs(action - action[0])[:, 7:13].max(axis=1) > 0.01)[0]  # planned by then
        first = slice(0, begin + 50)
        assert np.ptp(qpos[first, 7:13], axis=0).max() > 0.3 > 0.05 > np.ptp(qpos[first, :6], axis=0).max()
        errors = np.abs(qpos - action)[:, [*range(6), *range(7, 13)]].mean(axis=0)
        assert errors.max() < 0.15, "action and state are in the same order: the follower follows"
        assert action[:, [6, 13]].min() >= -0.05
        assert action[:, [6, 13]].max() <= 1.05


def test_ctrl_c_leaves_no_process_of_the_demo(tmp_path):
    mark = f"vla-{uuid.uuid4()}"
    demo = subprocess.Popen(
        [sys.executable, "-m", "demo", "--output", tmp_path / "demo"],
        env=os.environ | {"VLA_TEST_MARK": mark, "PYTHONFAULTHANDLER": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        log = tmp_path / "demo" / "demonstration.log"
        wait_until(lambda: log.exists() and "mirroring" in log.read_text(), "the nodes")
        assert len(alive(mark)) >= 6
        os.killpg(demo.pid, signal.SIGINT)  # what a terminal does
        try:
            printed, _ = demo.communicate(timeout=DEADLINE_S)
        except subprocess.TimeoutExpired:
            demo.send_signal(signal.SIGABRT)  # its stacks, by PYTHONFAULTHANDLER
            raise AssertionError(f"did not end:\n{demo.communicate()[0]}") from None
        assert demo.returncode == 130
        assert "Interrupted" in printed
        assert "Traceback" not in printed
        wait_until(lambda: not alive(mark), "the end of all processes")
    finally:
        if demo.poll() is None:
            os.killpg(demo.pid, signal.SIGKILL)

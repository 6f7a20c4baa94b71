"""finetune from the command line: it learns, repeats itself, stops when asked, and says what is wrong."""

import json
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from training_episodes import write, write_plain
from training_model import COMMON

from vla_model.policy import Policy
from vla_training.episodes import find_episodes, read_episodes
from vla_training.evaluate import evaluate, table
from vla_training.evaluate import main as evaluate_main
from vla_training.finetune import main
from vla_training.train import Settings, schedule


@pytest.fixture(scope="module")
def episodes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("episodes")
    write(folder, goal=0)
    write(folder, goal=1)
    return folder


def finetune(episodes, output, *options):
    return main([str(episodes), "--output", str(output), *COMMON, *options])


def losses(output):
    return json.loads((output / "training.json").read_text())["losses"]


@pytest.mark.parametrize("frozen", ["none", "backbone"])
def test_it_learns_and_its_checkpoint_beats_holding_still(episodes, tmp_path, frozen, capsys):
    output = tmp_path / "point"
    code = finetune(episodes, output, "--steps", "250", "--lr", "3e-3", "--freeze", frozen, "--no-augment")
    assert code == 0
    curve = losses(output)
    assert np.mean(curve[-10:]) < curve[0] / 8
    assert capsys.readouterr().out.splitlines()[-1] == f"run it: vla up aloha sim:=true checkpoint:={output}"
    assert (output / "loss.png").stat().st_size > 1000

    policy = Policy.from_checkpoint(output, "cpu")
    errors = evaluate(policy, read_episodes(find_episodes(episodes)), stride=5)
    assert errors.policy.mean() < errors.hold.mean() / 2
    assert "arm_y" in table(errors)


HEADS = {
    "base": ["head.block=base"],
    "discrete": ["head.type=discrete"],
    "discrete, base, expectation": [
        "head.type=discrete",
        "head.block=base",
        "head.decode=expectation",
        "head.bins=32",
    ],
    "dual-arm": ["head.type=dual_arm", "head.arm_dims=[1,1]"],
}


@pytest.mark.parametrize("head", HEADS)
def test_every_head_learns_and_its_checkpoint_beats_holding_still(episodes, tmp_path, head, capsys):
    output = tmp_path / "point"
    settings = [part for setting in HEADS[head] for part in ("--model", setting)]
    options = ("--steps", "400", "--lr", "3e-3", "--freeze", "backbone", "--no-augment")
    assert finetune(episodes, output, *settings, *options) == 0
    errors = evaluate(Policy.from_checkpoint(output, "cpu"), read_episodes(find_episodes(episodes)), stride=5)
    assert errors.policy.mean() < errors.hold.mean() / 2
    metrics = json.loads((output / "training.json").read_text())["metrics"]
    assert set(metrics) == ({"accuracy", "l1", "outside_bins"} if "discrete" in head else {"l1_first_step"})
    assert all(len(values) == 400 for values in metrics.values())
    report = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("at the end: "))
    assert all(name in report for name in metrics)
    if "discrete" in head:
        assert np.mean(metrics["accuracy"][-10:]) > 0.3 and not any(metrics["outside_bins"])


def test_the_same_seed_gives_the_same_weights_and_another_does_not(episodes, tmp_path):
    options = ("--steps", "4", "--state-noise", "0.05", "--model", "head.stem_noise_std=0.02")
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert finetune(episodes, tmp_path / name, *options, "--seed", seed) == 0
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b != c


def test_ctrl_c_saves_what_it_has(episodes, tmp_path):
    command = [
        sys.executable,
        "-m",
        "vla_training.finetune",
        str(episodes),
        "--output",
        str(tmp_path / "cut"),
    ]
    process = subprocess.Popen(
        [*command, *COMMON, "--steps", "1000000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    seen = ""
    while "loss=" not in seen:
        seen += process.stderr.read(1)
        assert process.poll() is None, seen
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted" in out and "Traceback" not in err
    assert 1 <= len(losses(tmp_path / "cut")) < 1000000
    Policy.from_checkpoint(tmp_path / "cut", "cpu")
    assert [path.name for path in tmp_path.iterdir()] == ["cut"], "nothing half written is left"


def test_starting_from_a_checkpoint_keeps_its_weights(episodes, tmp_path):
    assert finetune(episodes, tmp_path / "start", "--steps", "2") == 0
    again = ["--init", str(tmp_path / "start"), "--steps", "1", "--lr", "1e-12", "--device", "cpu"]
    assert main([str(episodes), "--output", str(tmp_path / "next"), *again]) == 0
    start, following = (Policy.from_checkpoint(tmp_path / name, "cpu").model for name in ("start", "next"))
    for (name, before), after in zip(
        start.state_dict().items(), following.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(before, after, msg=name)


def test_a_checkpoint_of_another_horizon_keeps_what_fits(episodes, tmp_path, capsys):
    assert finetune(episodes, tmp_path / "start", "--steps", "1") == 0
    again = ["--init", str(tmp_path / "start"), "--steps", "1", "--horizon", "5", "--device", "cpu"]
    assert main([str(episodes), "--output", str(tmp_path / "next"), *again]) == 0
    assert "1 weights, which start at random: head.step_embedding" in capsys.readouterr().out
    assert Policy.from_checkpoint(tmp_path / "next", "cpu").horizon == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "llm.depth=3"], "the model's config has no 'llm.depth'"),
        (["--model", "vision.image_size=30"], "not a multiple of patch_size"),
        (["--model", "horizon=["], "--model horizon=[: cannot be read"),
        (["--model", "camera_names=[front]"], "'camera_names' follows from the episodes; use --cameras"),
        (["--model", "dt_s=1"], "'dt_s' follows from the episodes"),
        (["--model", "llm.vocab=100"], "--model llm.vocab: the tokenizer has"),
        (["--cameras", "top"], "has no camera top; it has: front, wrist"),
        (["--init", "nowhere"], "--init: checkpoint directory nowhere does not exist"),
        (["--rig", "aloha"], "these episodes carry the rig"),
        (["--max-minutes", "1e-9"], "not one step fitted"),
    ],
)
def test_a_mistake_is_one_line(episodes, tmp_path, options, message, capsys):
    if "--init" in options:
        assert main([str(episodes), "--output", str(tmp_path / "out"), *options]) == 1
    else:
        assert finetune(episodes, tmp_path / "out", *options) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("finetune:")]
    assert len(lines) == 1 and message in lines[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--stride", "0"], "--stride: must be at least 1"),
        (["--device", "cuda:99"], "there is no cuda:99"),
        (["--device", "gpu"], "expected cpu, cuda or cuda:N, got gpu"),
    ],
)
def test_evaluate_s_options_are_checked(episodes, options, message, capsys):
    with pytest.raises(SystemExit):
        evaluate_main(["nowhere", str(episodes), *options])
    assert message in capsys.readouterr().err


def test_an_existing_checkpoint_is_kept_unless_told(episodes, tmp_path, capsys):
    output = tmp_path / "taken"
    output.mkdir()
    (output / "notes").write_text("mine")
    assert finetune(episodes, output, "--steps", "1") == 1
    assert "--overwrite" in capsys.readouterr().err
    assert (output / "notes").read_text() == "mine"
    assert finetune(episodes, output, "--steps", "1", "--overwrite") == 0
    assert not (output / "notes").exists() and (output / "config.json").exists()


def test_a_full_disk_is_one_line_and_the_old_checkpoint_stays(episodes, tmp_path, capsys):
    output = tmp_path / "kept"
    assert finetune(episodes, output, "--steps", "1") == 0
    before = (output / "model.safetensors").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        assert finetune(episodes, output, "--steps", "1", "--seed", "5", "--overwrite") == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"finetune: {output}: cannot be written" in capsys.readouterr().err
    assert (output / "model.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_missing_episodes_and_plain_files_without_a_rig_are_named(tmp_path, capsys):
    assert finetune(tmp_path / "nowhere", tmp_path / "out") == 1
    assert "no such folder" in capsys.readouterr().err
    write_plain(tmp_path / "episode_0.hdf5", sim=True)
    assert finetune(tmp_path, tmp_path / "out") == 1
    assert "say which with --rig" in capsys.readouterr().err


def test_the_schedule_warms_up_and_ends_at_zero_with_the_steps_or_the_time():
    settings = Settings(steps=100, warmup=10, max_minutes=2.0)
    rates = [schedule(step, 0.0, settings) for step in range(100)]
    assert np.argmax(rates) == 9 and rates[0] < 0.11 and rates[-1] < 1e-3
    assert (np.diff(rates[10:]) < 0).all()
    assert schedule(50, 2.0, settings) == pytest.approx(0.0)

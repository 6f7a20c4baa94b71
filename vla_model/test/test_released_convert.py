"""Released folders become ours and come back bit for bit; what has no place there is refused by name."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from released_model import CAMERAS, released_config
from safetensors.torch import load_file, save_file
from tiny_model import statistics, tiny_config

from vla_model import presets
from vla_model.checkpoint import FILES, CheckpointError
from vla_model.policy import Observation, Policy, build_policy
from vla_model.released import Options
from vla_model.released.conversion import UNREAD, convert
from vla_model.released.convert import main
from vla_model.released.write import write_released

torch.set_num_threads(1)
RIG = "name: tiny\n"
PT = ("action_head--checkpoint.pt", "proprio_projector--checkpoint.pt")


@pytest.fixture(scope="module")
def ours(released, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ours") / "spatial"
    convert(released, folder, rig_text=RIG)
    return folder


def tensors(folder):
    """All weights of a released folder."""
    heads = [torch.load(folder / name, weights_only=True) for name in PT]
    return load_file(folder / "model.safetensors"), *heads


def chunk(folder):
    rng = np.random.default_rng(0)
    images = {name: rng.integers(0, 256, (60, 80, 3), dtype=np.uint8) for name in CAMERAS}
    seen = Observation(images, rng.normal(size=8).astype(np.float32), "pick up the red cube", 0)
    return Policy.from_checkpoint(folder, "cpu").predict(seen)


def fresh(config):
    """A policy that was never a released folder."""
    entry = statistics()["tiny"]
    entry["action"] = {key: (values * 2)[:7] for key, values in entry["action"].items()}
    entry["proprio"] = {key: (values * 2)[:8] for key, values in entry["proprio"].items()}
    return build_policy(config, {"libero_spatial_no_noops": entry}, RIG, seed=5)


def same(one, other):
    return one.keys() == other.keys() and all(
        torch.equal(one[name].view(torch.uint8), other[name].view(torch.uint8)) for name in one
    )


def test_ours_is_a_checkpoint_that_acts_the_same(released, ours):
    assert sorted(path.name for path in ours.iterdir()) == sorted([*FILES, UNREAD])
    assert (ours / "rig.yaml").read_text() == RIG
    assert Policy.from_checkpoint(ours, "cpu").config == released_config()
    assert np.array_equal(chunk(ours), chunk(released))


def test_there_and_back_gives_every_tensor_bit_for_bit(released, ours, tmp_path):
    convert(ours, tmp_path / "back")
    vlm, head, projector = tensors(tmp_path / "back")
    assert (len(vlm), len(head), len(projector)) == (982, 560, 4)
    assert all(
        same(there, back) for there, back in zip(tensors(released), (vlm, head, projector), strict=True)
    )
    assert np.array_equal(chunk(tmp_path / "back"), chunk(released))
    names = {path.name for path in released.iterdir()} | {"rig.yaml"}
    assert {path.name for path in (tmp_path / "back").iterdir()} == names
    for name in ("dataset_statistics.json", "preprocessor_config.json", "tokenizer.json"):
        assert json.loads((tmp_path / "back" / name).read_text()) == json.loads((released / name).read_text())
    config = json.loads((tmp_path / "back" / "config.json").read_text())
    assert config["norm_stats"] == json.loads((released / "dataset_statistics.json").read_text())


def test_lm_head_and_negative_zeros_come_back_too(released, tmp_path):
    folder = shutil.copytree(released, tmp_path / "odd")
    vlm = load_file(folder / "model.safetensors")
    vlm["language_model.lm_head.weight"] = torch.randn(512, 64).bfloat16()
    vlm["vision_backbone.featurizer.cls_token"].fill_(-0.0)
    save_file(vlm, folder / "model.safetensors")
    said = convert(folder, tmp_path / "ours", rig_text=RIG)
    assert any("lm_head.weight is not read" in line for line in said)
    convert(tmp_path / "ours", tmp_path / "back")
    assert same(load_file(tmp_path / "back" / "model.safetensors"), vlm)


def test_base_heads_convert(tmp_path):
    write_released(tmp_path / "base", released_config(head=presets.published_head(block="base")))
    convert(tmp_path / "base", tmp_path / "ours", rig_text=RIG)
    convert(tmp_path / "ours", tmp_path / "back")
    pairs = list(zip(tensors(tmp_path / "base"), tensors(tmp_path / "back"), strict=True))
    assert all(same(*pair) for pair in pairs) and len(pairs[1][1]) == 320


def test_a_derivatives_dual_arm_head_is_told_by_its_keys_and_converts(tmp_path):
    """Names and shapes: DualArmActionHead of public VLA-Adapter derivatives, 128 queries, 64 an arm."""
    head = presets.published_head(type="dual_arm", arm_dims=(4, 3))
    config = released_config(head=head, action_queries=128, fixed_task_tokens=None)
    write_released(tmp_path / "theirs", config)
    _, theirs, _ = tensors(tmp_path / "theirs")
    block = "module.model.blocks.23"
    assert theirs[f"{block}.k_L_inter.weight"].shape == theirs[f"{block}.ffn_R.1.weight"].shape == (64, 64)
    assert theirs["module.model.fc2_L.bias"].shape == (4,) and theirs[f"{block}.gating"].shape == (1,)
    assert Policy.from_checkpoint(tmp_path / "theirs", "cpu").config == config
    convert(tmp_path / "theirs", tmp_path / "ours", rig_text=RIG)
    convert(tmp_path / "ours", tmp_path / "back")
    assert all(same(*p) for p in zip(tensors(tmp_path / "theirs"), tensors(tmp_path / "back"), strict=True))
    assert np.array_equal(chunk(tmp_path / "ours"), chunk(tmp_path / "theirs"))
    assert np.ptp(chunk(tmp_path / "ours")) > 0.1


def test_a_model_of_our_own_gets_what_it_never_had(tmp_path):
    """Random last blocks, norms, pooling and FiLM, and said so; what is read stays."""
    head = presets.published_head().model_copy(update={"film": False})
    policy = fresh(released_config(head=head))
    policy.save(tmp_path / "ours")
    said = " ".join(convert(tmp_path / "ours", tmp_path / "released"))
    assert "91 of them are random" in said  # 43 of the towers, 48 of FiLM
    assert "last block of each tower, final norms, attention pooling, FiLM" in said
    vlm, head, _ = tensors(tmp_path / "released")
    assert (len(vlm), len(head)) == (982, 560)
    assert np.array_equal(chunk(tmp_path / "released"), chunk(tmp_path / "ours"))


def test_weights_can_be_cast_on_the_way(released, tmp_path):
    convert(released, tmp_path / "ours", rig_text=RIG, dtype=torch.float32)
    stored = load_file(tmp_path / "ours" / "model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.float32}
    convert(tmp_path / "ours", tmp_path / "back", dtype=torch.bfloat16)
    assert same(tensors(tmp_path / "back")[0], tensors(released)[0])


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"shifted_slices": False}, "shifted_slices is False, there always True"),
        ({"fixed_task_tokens": None}, "task_tokens is 18, there always 82"),
        ({"normalization": "normal"}, "normalization is normal, there always bounds"),
        ({"projector_hidden": 100}, "projector_hidden is 100, there always 320"),
    ],
)
def test_options_that_the_released_form_lacks_are_refused_by_name(tmp_path, changes, named):
    config = released_config(**changes)
    with pytest.raises(CheckpointError, match=named):
        write_released(tmp_path / "no", config)
    assert not (tmp_path / "no").exists()


def test_constant_states_matter_only_where_there_are_some(tmp_path):
    """Ours are trained with 0 for them; the reference infers on what its formula gives."""
    policy = fresh(released_config(constant_state="zero"))
    policy.save(tmp_path / "moving")
    convert(tmp_path / "moving", tmp_path / "released")
    assert np.array_equal(chunk(tmp_path / "released"), chunk(tmp_path / "moving"))
    state = policy.checkpoint.statistics["libero_spatial_no_noops"]["proprio"]
    state["min"][2] = state["max"][2]
    policy.save(tmp_path / "still")
    with pytest.raises(CheckpointError, match="constant_state is zero, there always published"):
        convert(tmp_path / "still", tmp_path / "no")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"rotary_pairing": "halves"}, "head.rotary_pairing is halves, there always mixed"),
        ({"rotary_table": "float32"}, "head.rotary_table is float32, there always bfloat16"),
        ({"task_gate": "output"}, "head.task_gate is output, there always logits"),
        ({"step_embedding": True}, "head.step_embedding is True, there always False"),
        ({"heads": 4}, "head.heads is 4, there always 8"),
        ({"type": "discrete"}, "head.type is discrete, there always l1"),
    ],
)
def test_heads_that_the_released_form_lacks_are_refused_by_name(tmp_path, changes, named):
    with pytest.raises(CheckpointError, match=named):
        write_released(tmp_path / "no", released_config(head=presets.published_head(**changes)))


def test_a_base_head_has_no_rotary_options_to_refuse(tmp_path):
    head = presets.published_head(block="base", rotary_pairing="halves", rotary_table="float32")
    write_released(tmp_path / "base", released_config(head=head))
    assert len(tensors(tmp_path / "base")[1]) == 320


def test_a_small_model_of_ours_is_refused_with_all_its_reasons(tmp_path):
    build_policy(tiny_config(), statistics(), RIG).save(tmp_path / "tiny")
    with pytest.raises(CheckpointError) as error:
        convert(tmp_path / "tiny", tmp_path / "released")
    for name in (
        "vision.dinov2.depth",
        "vision.resize",
        "vision.jpeg_quality",
        "head.task_gate",
        "shifted_slices",
    ):
        assert f"{name} is " in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_nothing_is_ever_overwritten(released, tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(CheckpointError, match="taken exists already"):
        convert(released, tmp_path / "taken", rig_text=RIG)
    assert not list((tmp_path / "taken").iterdir())


def test_a_conversion_that_fails_leaves_nothing(released, tmp_path):
    with pytest.raises(CheckpointError, match=r"has no rig\.yaml: say with --rig"):
        convert(released, tmp_path / "ours")
    with pytest.raises(CheckpointError, match="cannot be written"):
        convert(released, released / "config.json" / "ours", rig_text=RIG)
    with pytest.raises(CheckpointError, match="nowhere does not exist"):
        convert(tmp_path / "nowhere", tmp_path / "ours")
    assert not list(tmp_path.iterdir())


FULL = """
import resource, sys
from vla_model.released.convert import main

resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, -1))
sys.exit(10 * main([sys.argv[1], sys.argv[3]]) + main(sys.argv[2:]))
"""


def test_a_full_disk_is_named_and_leaves_nothing(released, ours, tmp_path):
    """Both ways, in a process whose files may not grow beyond 2 MB."""
    folder, target = shutil.copytree(released, tmp_path / "released"), tmp_path / "target"
    (folder / "rig.yaml").write_text(RIG)
    command = [sys.executable, "-c", FULL, str(folder), str(ours), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 11, done.stderr
    said = [
        line for line in done.stderr.splitlines() if line.startswith(f"convert: {target} cannot be written: ")
    ]
    assert len(said) == 2 and all("File too large" in line for line in said)
    assert list(tmp_path.iterdir()) == [folder]


def test_options_for_one_of_ours_are_refused(ours, tmp_path):
    with pytest.raises(CheckpointError, match="says itself: horizon, rate_hz; leave these options out"):
        convert(ours, tmp_path / "released", Options(rate_hz=20, horizon=8))


def test_a_file_of_unread_weights_that_does_not_fit_is_named(ours, tmp_path):
    folder = shutil.copytree(ours, tmp_path / "ours")
    save_file({"elsewhere": torch.zeros(2)}, folder / UNREAD)
    with pytest.raises(
        CheckpointError, match=rf"{UNREAD} does not fit its config.json: 1 unexpected: elsewhere"
    ):
        convert(folder, tmp_path / "released")


def test_the_command_converts_both_ways_and_says_what_it_did(tmp_path, capsys):
    folder, cameras = tmp_path / "released", ("cam_high", "cam_left_wrist")
    sizes = {"state": 14, "action": 14, "gripper": "none", "gripper_dims": ()}
    write_released(folder, released_config(cameras, **sizes, normalization="bounds"))
    (folder / "vla_policy.json").unlink()
    options = ["--cameras", *cameras, "--platform", "aloha", "--rate-hz", "50"]
    options += ["--dataset", "libero_spatial_no_noops"]
    assert main([str(folder), str(tmp_path / "ours"), *options, "--rig", "config/aloha.yaml"]) == 0
    seen = capsys.readouterr()
    assert (
        "pro head: 25 actions of 14 values every 0.02 s, from 14 state values and cameras cam_high, cam_left_wrist"
        in seen.out
    )
    assert (
        "in unread.safetensors, for the way back, 43 that nobody reads" in seen.out and "writing" in seen.err
    )
    assert (tmp_path / "ours" / "rig.yaml").read_text().startswith("name: aloha")
    assert main([str(tmp_path / "ours"), str(tmp_path / "back")]) == 0
    assert same(tensors(tmp_path / "back")[0], tensors(folder)[0])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "does not say: cameras, rate_hz. "),
        (["--cameras", "a", "--rate-hz", "-1"], "rate_hz: Input should be greater than 0"),
        (
            ["--cameras", "a", "--rate-hz", "20", "--rig", "nope.yaml"],
            "--rig: rig file 'nope.yaml' does not exist",
        ),
        (
            ["--cameras", "a", "--rate-hz", "20", "--rig", "config/aloha.yaml"],
            "the given rig file does not fit the model: it has 14 state channels, the model 8",
        ),
    ],
)
def test_the_command_explains_what_is_wrong(released, tmp_path, capsys, arguments, said):
    folder = shutil.copytree(released, tmp_path / "released")
    (folder / "vla_policy.json").unlink()
    assert main([str(folder), str(tmp_path / "ours"), *arguments]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "ours").exists()


def test_without_vla_rig_a_rig_file_in_the_folder_does(released, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "vla_rig.rig_file", None)
    folder = shutil.copytree(released, tmp_path / "released")
    assert main([str(folder), str(tmp_path / "ours"), "--rig", "aloha"]) == 1
    assert "put a rig.yaml into the folder" in capsys.readouterr().err
    (folder / "rig.yaml").write_text(RIG)
    assert main([str(folder), str(tmp_path / "ours")]) == 0


def test_statistics_that_lack_a_key_stop_a_conversion(released, ours, tmp_path, capsys):
    for source in (released, ours):
        folder = shutil.copytree(source, tmp_path / f"cut-{source.name}")
        statistics = json.loads((folder / "dataset_statistics.json").read_text())
        del statistics["libero_spatial_no_noops"]["proprio"]["q01"]
        (folder / "dataset_statistics.json").write_text(json.dumps(statistics))
        (folder / "rig.yaml").write_text(RIG)
        assert main([str(folder), str(tmp_path / "target")]) == 1
        assert "libero_spatial_no_noops.proprio lacks 'q01'" in capsys.readouterr().err
        assert not (tmp_path / "target").exists()

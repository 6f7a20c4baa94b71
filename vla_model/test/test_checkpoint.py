"""A policy to a directory and back, and what is said of a directory that is not whole or does not fit."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_model import RIG, observation, statistics, tiny_config

from vla_model import presets
from vla_model.checkpoint import FILES, CheckpointError
from vla_model.config import ModelConfig
from vla_model.normalize import StatisticsError
from vla_model.policy import Policy, build_policy
from vla_model.tokenizer import build_tokenizer


def test_save_and_load_are_bit_equal(policy, saved):
    again = Policy.from_checkpoint(saved, device="cpu")
    assert sorted(path.name for path in saved.iterdir()) == sorted(FILES)
    assert again.config == policy.config and again.rig_text == RIG
    assert np.array_equal(again.predict(observation()), policy.predict(observation()))
    for name, value in policy.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value)


def test_bfloat16_checkpoints_keep_their_type_and_run(policy, saved):
    weights = {k: v.bfloat16() for k, v in load_file(saved / "model.safetensors").items()}
    save_file(weights, saved / "model.safetensors")
    half = Policy.from_checkpoint(saved, device="cpu", dtype=torch.bfloat16)
    assert {p.dtype for p in half.model.parameters()} == {torch.bfloat16}
    whole = Policy.from_checkpoint(saved, device="cpu").predict(observation())
    assert np.abs(half.predict(observation()) - whole).max() < 0.1 * np.ptp(whole)


def test_identity_follows_the_weights(saved, tmp_path):
    first = Policy.from_checkpoint(saved, device="cpu").identity
    assert first.startswith("tiny-") and len(first) == len("tiny-") + 12
    build_policy(tiny_config(), statistics(), RIG, seed=4).save(tmp_path / "other" / "tiny")
    second = Policy.from_checkpoint(tmp_path / "other" / "tiny", device="cpu").identity
    assert second.startswith("tiny-") and second != first


def test_config_survives_json():
    for config in (tiny_config(), presets.published(("a", "b"), 14, 14, 25, 0.02)):
        assert ModelConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(CheckpointError, match=rf"lacks {name}; expected: config\.json, model\.safetensors"):
        Policy.from_checkpoint(saved, device="cpu")


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere does not exist"):
        Policy.from_checkpoint(tmp_path / "nowhere")


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_the_disk_does_not_give_is_named(saved, name):
    (saved / name).unlink()
    (saved / name).symlink_to("/proc/self/mem")  # a regular file; reading its start is an input/output error
    with pytest.raises(CheckpointError, match=rf"{name} .*Input/output error"):
        Policy.from_checkpoint(saved, device="cpu")


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", "'gpu' is no device; expected cpu, cuda"),
        ("cuda:77", r"no model can run on cuda:77: .* found here: \d"),
    ],
)
def test_a_device_that_is_not_there_is_named(saved, device, message):
    with pytest.raises(CheckpointError, match=message):
        Policy.from_checkpoint(saved, device)


def test_a_model_that_predicts_no_numbers_does_not_get_through_its_warm_up(saved):
    weights = load_file(saved / "model.safetensors")
    weights["head.fc2.bias"][3] = torch.nan
    save_file(weights, saved / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"tiny-[0-9a-f]{12} predicts values that are not finite"):
        Policy.from_checkpoint(saved, "cpu").warm_up()


@pytest.mark.parametrize(
    ("rig", "message"),
    [
        ("state: [a, b, c]\n", r"rig\.yaml does not fit the model: it has 3 state channels, the model 5"),
        (
            f"state: {list('abcde')}\naction: [a]\n",
            r"rig\.yaml does not fit the model: it has 1 action channels, the model 6",
        ),
        ("state: [", r"rig\.yaml is not valid YAML"),
    ],
)
def test_the_rig_of_another_model_is_refused(saved, rig, message):
    (saved / "rig.yaml").write_text(rig)
    with pytest.raises(CheckpointError, match=message):
        Policy.from_checkpoint(saved, "cpu")


def test_quantised_weights_are_refused(saved):
    weights = load_file(saved / "model.safetensors")
    weights["head.fc2.weight"] = weights["head.fc2.weight"].to(torch.int8)
    save_file(weights, saved / "model.safetensors")
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors: head\.fc2\.weight is int8, expected floating-point"
    ):
        Policy.from_checkpoint(saved, "cpu")


def test_missing_unexpected_and_misshapen_weights_are_named(saved):
    weights = load_file(saved / "model.safetensors")
    weights["head.fc9.weight"] = weights.pop("head.fc2.weight")
    weights["head.fc2.bias"] = torch.zeros(3)
    save_file(weights, saved / "model.safetensors")
    with pytest.raises(CheckpointError) as error:
        Policy.from_checkpoint(saved, device="cpu")
    assert "1 missing: head.fc2.weight" in str(error.value)
    assert "1 unexpected: head.fc9.weight" in str(error.value)
    assert "head.fc2.bias is (3,), expected (6,)" in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("config.json", "{", "config.json is not valid JSON"),
        ("model.safetensors", "nonsense", "model.safetensors is not a readable safetensors file"),
        ("tokenizer.json", "{}", "tokenizer.json is not a tokenizer file"),
        ("dataset_statistics.json", "]", "dataset_statistics.json is not valid JSON"),
    ],
)
def test_a_broken_file_is_named(saved, name, text, message):
    (saved / name).write_text(text)
    with pytest.raises(CheckpointError, match=message):
        Policy.from_checkpoint(saved, device="cpu")


def test_a_wrong_config_names_its_keys(saved):
    config = json.loads((saved / "config.json").read_text())
    config["horizon"], config["hroizon"] = -1, 8
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"horizon: .*greater than 0.*hroizon: Extra inputs"):
        Policy.from_checkpoint(saved, device="cpu")


def test_statistics_that_do_not_fit_are_named(saved):
    table = json.loads((saved / "dataset_statistics.json").read_text())
    del table["tiny"]["action"]["max"]
    (saved / "dataset_statistics.json").write_text(json.dumps(table))
    with pytest.raises(StatisticsError, match=r"tiny\.action lacks 'max'"):
        Policy.from_checkpoint(saved, device="cpu")


def test_a_vocabulary_too_large_is_named():
    small = tiny_config().llm.model_copy(update={"vocab": 300})
    with pytest.raises(CheckpointError, match="language model only 300"):
        build_policy(tiny_config(llm=small), statistics(), RIG, build_tokenizer())

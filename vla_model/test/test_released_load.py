"""A released folder loads as it is, with what it does not say itself from a file beside it or from arguments."""

import logging

import numpy as np
import pytest
import torch
from released_model import (
    CAMERAS,
    HEAD,
    VLM,
    edit_head,
    edit_json,
    load,
    observation,
    refused,
    released_config,
)
from safetensors.torch import load_file, save_file

from vla_model import checkpoint, presets
from vla_model.checkpoint import identity
from vla_model.released.write import write_released


def test_it_predicts_with_the_config_that_it_was_written_from(folder):
    policy = load(folder)
    assert policy.config == released_config()
    chunk = policy.predict(observation())
    assert chunk.shape == (8, 7) and np.isfinite(chunk).all()
    assert not np.allclose(chunk, policy.predict(observation(seed=1)))
    assert not np.allclose(chunk[0], chunk[1])


def test_the_weights_are_the_files(folder):
    model = load(folder).model
    vlm, head = load_file(folder / VLM), torch.load(folder / HEAD, weights_only=True)
    q, k, v = vlm["vision_backbone.fused_featurizer.blocks.25.attn.qkv.weight"].chunk(3)
    attention = model.backbone.siglip.encoder.layers[25].self_attn
    pairs = [
        (attention.q_proj.weight, q),
        (attention.k_proj.weight, k),
        (attention.v_proj.weight, v),
        (
            model.backbone.llm.layers[23].mlp.down_proj.weight,
            vlm["language_model.model.layers.23.mlp.down_proj.weight"],
        ),
        (model.backbone.action_queries.weight, vlm["action_queries.weight"]),
        (
            model.head.mlp_resnet_blocks[23].k_task.weight,
            head["module.model.mlp_resnet_blocks.23.k_task.weight"],
        ),
    ]
    assert all(torch.equal(ours, theirs.float()) for ours, theirs in pairs)
    assert len(model.backbone.siglip.encoder.layers) == 26 and len(model.backbone.dinov2.encoder.layer) == 23


def test_weights_stay_bfloat16_when_nothing_else_is_asked(folder):
    assert {p.dtype for p in checkpoint.load(folder).model.parameters()} == {torch.bfloat16}


def test_a_base_head_is_told_by_its_keys(tmp_path):
    config = released_config(head=presets.published_head(block="base"))
    write_released(tmp_path / "base", config, seed=2)
    policy = load(tmp_path / "base")
    assert policy.config.head.block == "base"
    chunk = policy.predict(observation())
    assert np.allclose(chunk, chunk[0], atol=1e-5)  # it knows no positions


def test_sizes_are_read_off_the_weights(tmp_path):
    config = released_config(
        ("top", "left", "right"),
        14,
        14,
        25,
        gripper="none",
        gripper_dims=(),
        normalization="bounds",
        dataset="cups",
    )
    write_released(tmp_path / "aloha", config)
    (tmp_path / "aloha" / "vla_policy.json").unlink()
    policy = load(
        tmp_path / "aloha", cameras=("top", "left", "right"), rate_hz=20, platform="aloha", dataset="cups"
    )
    assert policy.config == config
    assert policy.predict(observation(("top", "left", "right"), 14)).shape == (25, 14)


@pytest.mark.parametrize("suffix", ["latest_checkpoint.pt", "100000_checkpoint.pt"])
def test_names_of_training_runs_load(folder, suffix):
    before = load(folder).predict(observation())
    for part in ("action_head", "proprio_projector"):
        (folder / f"{part}--checkpoint.pt").rename(folder / f"{part}--{suffix}")
    assert np.array_equal(load(folder).predict(observation()), before)


def test_heads_of_one_gpu_have_no_prefix(folder):
    before = load(folder).predict(observation())
    state = torch.load(folder / HEAD, weights_only=True)
    torch.save({name.removeprefix("module."): value for name, value in state.items()}, folder / HEAD)
    assert np.array_equal(load(folder).predict(observation()), before)


def test_film_may_be_missing_but_only_as_a_whole(folder):
    before = load(folder).predict(observation())
    edit_head(folder, lambda state: [state.pop(name) for name in list(state) if "film_gen" in name])
    policy = load(folder)
    assert not policy.config.head.film and np.array_equal(policy.predict(observation()), before)
    edit_head(
        folder, lambda s: s.update({"module.model.mlp_resnet_blocks.0.film_gen.0.bias": torch.zeros(128)})
    )
    assert "47 missing: action_head.model.mlp_resnet_blocks.0.film_gen.0.weight" in refused(folder)


def test_lora_and_lm_head_are_passed_over_with_a_note(folder, caplog):
    before = load(folder).predict(observation())
    (folder / "lora_adapter").mkdir()
    vlm = load_file(folder / VLM)
    vlm["language_model.lm_head.weight"] = torch.randn(512, 64).bfloat16()
    save_file(vlm, folder / VLM)
    with caplog.at_level(logging.INFO):
        assert np.array_equal(load(folder).predict(observation()), before)
    assert "lora_adapter/ is not read" in caplog.text and "lm_head.weight is not read" in caplog.text


def test_statistics_come_from_their_own_file(folder):
    """config.json of a release lists the 25 data sets of its pre-training, with another state."""
    before = load(folder).predict(observation())
    other = {"action": {"q01": [0.0] * 7, "q99": [9.0] * 7}, "proprio": {"q01": [0.0] * 7, "q99": [0.0] * 7}}
    edit_json(folder / "config.json", lambda c: c.update(norm_stats={f"set_{i}": other for i in range(25)}))
    assert np.array_equal(load(folder).predict(observation()), before)


def test_what_is_missing_is_asked_for_with_what_would_fit(folder):
    (folder / "vla_policy.json").unlink()
    edit_json(folder / "dataset_statistics.json", lambda s: s.update(mine=s.pop("libero_spatial_no_noops")))
    said = refused(folder)
    assert "does not say: cameras, rate_hz, horizon, normalization, gripper" in said
    assert "vla_policy.json" in said and "actions have 7 values and its state 8" in said
    assert (
        "platform libero (horizon 8, normalization bounds_q99, gripper libero) or platform calvin (" in said
    )
    assert "does not say: horizon, normalization. " in refused(
        folder, cameras=CAMERAS, rate_hz=20, gripper="none"
    )
    assert "aloha has 14 action and 14 state values, these weights have 7 and 8" in refused(
        folder, platform="aloha"
    )
    done = load(folder, cameras=CAMERAS, rate_hz=20, horizon=5, normalization="bounds", gripper="none")
    assert (done.horizon, done.config.normalization, done.config.gripper_dims) == (5, "bounds", ())


def test_a_data_sets_name_says_the_platform(folder):
    (folder / "vla_policy.json").unlink()
    config = load(folder, cameras=CAMERAS, rate_hz=20).config
    assert (config.horizon, config.normalization, config.gripper) == (8, "bounds_q99", "libero")


def test_arguments_win_over_the_file(folder):
    policy = load(folder, cameras=("a", "b"), task_tokens=7, center_crop=False)
    assert policy.camera_names == ("a", "b") and policy.horizon == 8
    assert policy.config.task_tokens == 7 and policy.config.vision.crop_area == 1.0
    edit_json(folder / "vla_policy.json", lambda o: o.update(task_tokens=9, center_crop=False))
    kept = load(folder, cameras=("a", "b")).config  # what is not given does not win by its default
    assert kept.camera_names == ("a", "b") and kept.task_tokens == 9 and kept.vision.crop_area == 1.0


def test_what_config_files_say_is_what_is_built(folder):
    numbers = {"rope_theta": 5e5, "rms_norm_eps": 1e-5, "max_position_embeddings": 4096}
    constants = [
        {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]},
        {"mean": [0.6, 0.5, 0.4], "std": [0.3, 0.2, 0.1]},
    ]
    edit_json(folder / "config.json", lambda c: c["text_config"].update(numbers))
    edit_json(folder / "preprocessor_config.json", lambda c: c.update(tvf_normalize_params=constants))
    policy = load(folder)
    llm, vision = policy.config.llm, policy.config.vision
    assert [llm.rope_theta, llm.rms_norm_eps, llm.max_positions] == list(numbers.values())
    for tower, constant in zip((vision.dinov2, vision.siglip), constants, strict=True):
        assert {"mean": list(tower.mean), "std": list(tower.std)} == constant
    assert np.isfinite(policy.predict(observation())).all()


def test_a_config_without_pixel_constants_gets_the_published_ones(folder):
    (folder / "preprocessor_config.json").unlink()
    assert load(folder).config == released_config()


def test_a_split_that_is_not_the_cameras_is_told(folder, caplog):
    with caplog.at_level(logging.INFO):
        load(folder)
        assert "part at 82, as in released code, although 2 cameras have 18 patches; " in caplog.text
        assert "say task_tokens 18" in caplog.text
        caplog.clear()
        assert load(folder, task_tokens=18).config.query_tokens == 64
        assert "task and query tokens" not in caplog.text


def test_several_data_sets_need_a_choice(folder):
    edit_json(folder / "dataset_statistics.json", lambda s: s.update(second=s["libero_spatial_no_noops"]))
    edit_json(folder / "vla_policy.json", lambda s: s.pop("dataset"))
    assert "dataset (one of libero_spatial_no_noops, second)" in refused(folder)
    assert "no data set 'third'; they have: libero_spatial_no_noops, second" in refused(
        folder, dataset="third"
    )
    assert load(folder, dataset="second").config.dataset == "second"


def test_a_wrong_option_file_is_explained(folder):
    (folder / "vla_policy.json").write_text('{"camreas": ["a"], "horizon": 0}')
    said = refused(folder)
    assert "vla_policy.json: horizon: Input should be greater than 0; camreas: Extra inputs" in said
    assert "it may have: cameras, rate_hz, platform" in said


def test_identity_follows_all_three_files(folder):
    before = identity(folder)
    edit_head(folder, lambda s: s["module.model.fc2.bias"].add_(1))
    assert before.startswith("LIBERO-Pro-") and identity(folder) != before


def test_the_rig_is_read_if_there_is_one(folder):
    assert load(folder).rig_text == ""
    (folder / "rig.yaml").write_text("name: mine\n")
    assert load(folder).rig_text == "name: mine\n"
    (folder / "rig.yaml").write_text(f"action: {list(range(14))}\n")
    assert "rig.yaml does not fit the model: it has 14 action channels, the model 7" in refused(folder)

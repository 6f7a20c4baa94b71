"""A released folder loads as it is; what it lacks and what is wrong with it is said."""

import json
import logging
import pickle
import shutil

import numpy as np
import pytest
import torch
from released_model import CAMERAS, released_config
from safetensors.torch import load_file, save_file

from vla_model import checkpoint, presets
from vla_model.checkpoint import CheckpointError, identity
from vla_model.normalize import StatisticsError
from vla_model.policy import Observation, Policy
from vla_model.released import Options
from vla_model.released.conversion import convert
from vla_model.released.write import write_released

torch.set_num_threads(1)
HEAD, PROJECTOR, VLM = "action_head--checkpoint.pt", "proprio_projector--checkpoint.pt", "model.safetensors"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("released") / "LIBERO-Pro"
    write_released(folder, released_config(), seed=1)
    return folder


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / original.name)


def load(folder, **options):
    return Policy.from_checkpoint(folder, "cpu", options=Options(**options) if options else None)


def observation(cameras=CAMERAS, state=8, seed=0):
    rng = np.random.default_rng(seed)
    images = {name: rng.integers(0, 256, (60, 80, 3), dtype=np.uint8) for name in cameras}
    return Observation(images, rng.normal(size=state).astype(np.float32), "pick up the red cube", 0)


def edit_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def edit_head(folder, change):
    state = torch.load(folder / HEAD, weights_only=True)
    change(state)
    torch.save(state, folder / HEAD)


def refused(folder, **options):
    with pytest.raises(CheckpointError) as error:
        load(folder, **options)
    return str(error.value)


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


@pytest.mark.parametrize("name", ["config.json", VLM, "dataset_statistics.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    assert f"lacks {name}" in refused(folder)


def test_an_unmerged_lora_is_explained(folder):
    (folder / VLM).unlink()
    (folder / "lora_adapter").mkdir()
    assert "lacks model.safetensors; its lora_adapter/ is not merged" in refused(folder)


@pytest.mark.parametrize("name", [HEAD, PROJECTOR])
def test_each_component_is_one_file(folder, name):
    part = name.split("--")[0]
    shutil.copy(folder / name, folder / f"{part}--latest_checkpoint.pt")
    assert f"has 2 {part} files, expected one: {name}, {part}--latest_checkpoint.pt" in refused(folder)
    (folder / name).unlink()
    (folder / f"{part}--latest_checkpoint.pt").unlink()
    assert f"has 0 {part} files, expected one, such as {name}" in refused(folder)


def test_missing_unexpected_and_misshapen_weights_are_named_with_their_file(folder):
    vlm = load_file(folder / VLM)
    vlm["vision_backbone.featurizer.blocks.3.ls1.gamma"] = vlm.pop(
        "vision_backbone.featurizer.blocks.3.ls1.scale_factor"
    )
    vlm["projector.fc3.bias"] = torch.zeros(63)
    save_file(vlm, folder / VLM)
    said = refused(folder)
    assert said.startswith(str(folder / VLM))
    assert "1 missing: vision_backbone.featurizer.blocks.3.ls1.scale_factor" in said
    assert "1 unexpected: vision_backbone.featurizer.blocks.3.ls1.gamma" in said
    assert "projector.fc3.bias is (63,), expected (64,)" in said


def test_wrong_heads_are_named_with_their_file(folder):
    edit_head(folder, lambda s: s.update({"module.model.fc1.weight": torch.zeros(64, 64)}))
    said = refused(folder)
    assert said.startswith(str(folder / HEAD)) and "model.fc1.weight is (64, 64), expected (64, 448)" in said
    edit_head(folder, lambda s: s.pop("module.model.fc2.weight"))
    assert "no weight action_head.model.fc2.weight" in refused(folder)


def test_blocks_cut_off_are_missed(folder):
    vlm = {name: v for name, v in load_file(folder / VLM).items() if ".blocks.26." not in name}
    save_file(vlm, folder / VLM)
    assert "12 missing: vision_backbone.fused_featurizer.blocks.26.attn.proj.bias" in refused(folder)


class Malicious:
    """A pickle that makes a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def pickled(value, path):
    path.write_bytes(pickle.dumps(value, protocol=2))


@pytest.mark.parametrize(
    ("save", "run"),
    [
        (torch.save, lambda path: torch.load(path, weights_only=False)),
        (pickled, lambda path: pickle.loads(path.read_bytes())),
    ],
)
def test_a_pickle_that_is_not_weights_is_not_run(folder, tmp_path, save, run):
    mark = tmp_path / "executed"
    save({"module.model.fc1.weight": Malicious(mark)}, folder / HEAD)
    said = refused(folder)
    assert said.startswith(f"{folder / HEAD} is not a file of plain weights, and was not run")
    assert "weights_only" not in said, "no advice to run it after all"
    assert not mark.exists()
    run(folder / HEAD)  # what would have happened
    assert mark.exists()


def test_a_pickle_of_something_else_is_refused(folder):
    torch.save({"step": 3, "weight": torch.zeros(2)}, folder / HEAD)
    assert "expected a state dict of tensors alone" in refused(folder)
    torch.save([torch.zeros(2)], folder / HEAD)
    assert "holds a list" in refused(folder)
    torch.save({1: torch.zeros(2)}, folder / HEAD)
    assert "expected a state dict of tensors alone" in refused(folder)


@pytest.mark.parametrize(
    "content", [b"version https://git-lfs.github.com/spec/v1", b"R.", b"\x80\x02s.", b"\x87"]
)
def test_bytes_that_are_no_pickle_are_named(folder, content):
    (folder / HEAD).write_bytes(content)
    assert refused(folder).startswith(f"{folder / HEAD} is not a file of plain weights")


@pytest.mark.parametrize("name", [HEAD, VLM])
@pytest.mark.parametrize("size", [0, 100, 100_000])
def test_a_truncated_file_is_named(folder, name, size):
    path = folder / name
    path.write_bytes(path.read_bytes()[:size])
    assert str(path) in refused(folder)


def test_statistics_that_lack_a_key_are_named(folder):
    edit_json(
        folder / "dataset_statistics.json", lambda s: s["libero_spatial_no_noops"]["proprio"].pop("q99")
    )
    with pytest.raises(StatisticsError, match=r"libero_spatial_no_noops\.proprio lacks 'q99'"):
        load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"timm_model_ids": ["vit_large_patch14_clip_224.openai"]},
            "timm_model_ids is .*clip.*expected .*dinov2",
        ),
        ({"image_resize_strategy": "letterbox"}, "image_resize_strategy is letterbox, expected resize-naive"),
        ({"text_config": {"model_type": "llama"}}, "text_config.model_type is llama, expected qwen2"),
        ({"text_config": {"model_type": "qwen2"}}, "text_config lacks hidden_size, num_hidden_layers"),
        ({"text_config": None}, "text_config.model_type is None, expected qwen2"),
        ({"image_sizes": [224, 384]}, r"image_sizes is \[224, 384\]"),
        ({"image_sizes": 224}, "image_sizes is 224"),
        ({"image_sizes": [225, 225]}, "image_size 225 is not a multiple of patch_size 14"),
    ],
)
def test_another_model_is_refused(folder, change, message):
    edit_json(folder / "config.json", lambda c: c.update(change))
    with pytest.raises(CheckpointError, match=message):
        load(folder)


@pytest.mark.parametrize("value", [[{}, {}], [{"mean": [0, 0, 0], "std": [1, 1, 1]}], 3])
def test_wrong_pixel_constants_are_named(folder, value):
    edit_json(folder / "preprocessor_config.json", lambda c: c.update(tvf_normalize_params=value))
    assert "preprocessor_config.json: tvf_normalize_params is" in refused(folder)


@pytest.mark.parametrize("name", ["rig.yaml", "merges.txt"])
def test_a_text_file_that_is_none_is_named(folder, name):
    (folder / "tokenizer.json").unlink()
    (folder / name).write_bytes(b"\xff\xfe\x00")
    assert refused(folder).startswith(f"{folder / name} is not a text file")


def test_a_file_in_place_of_a_folder_is_named(folder):
    with pytest.raises(CheckpointError, match=r"model\.safetensors is a file"):
        load(folder / VLM)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is a file"):
        convert(folder / VLM, folder / "target")


def test_a_folder_without_tokenizer_is_named(folder):
    (folder / "tokenizer.json").unlink()
    assert load(folder).predict(observation()).shape == (8, 7)  # vocab.json and merges.txt say the same
    (folder / "merges.txt").unlink()
    assert "neither tokenizer.json nor vocab.json with merges.txt" in refused(folder)


def test_identity_follows_all_three_files(folder):
    before = identity(folder)
    edit_head(folder, lambda s: s["module.model.fc2.bias"].add_(1))
    assert before.startswith("LIBERO-Pro-") and identity(folder) != before


def test_the_rig_is_read_if_there_is_one(folder):
    assert load(folder).rig_text == ""
    (folder / "rig.yaml").write_text("name: mine\n")
    assert load(folder).rig_text == "name: mine\n"

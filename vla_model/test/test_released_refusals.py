"""What is missing from a released folder, broken or of another kind is said, by file and key or weight."""

import pickle
import shutil

import pytest
import torch
from released_model import HEAD, PROJECTOR, VLM, edit_head, edit_json, load, observation, refused
from safetensors.torch import load_file, save_file

from vla_model.checkpoint import CheckpointError
from vla_model.normalize import StatisticsError
from vla_model.released.conversion import convert


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


@pytest.mark.parametrize("name", [HEAD, VLM])
def test_what_a_clone_without_lfs_leaves_is_explained(folder, name):
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 9\n")
    assert (
        refused(folder)
        == f"{folder / name} is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`"
    )


def test_a_pickled_module_is_no_weights(folder):
    torch.save(torch.nn.Linear(2, 2), folder / HEAD)
    said = refused(folder)
    assert "Unsupported global: GLOBAL torch.nn.modules.linear.Linear" in said
    assert "add_safe_globals" not in said, "no advice to run it after all"


@pytest.mark.parametrize("name", [HEAD, VLM])
def test_quantised_weights_are_refused(folder, name):
    if name == VLM:
        save_file(
            load_file(folder / VLM) | {"projector.fc1.bias": torch.zeros(320, dtype=torch.int8)}, folder / VLM
        )
    else:
        edit_head(folder, lambda s: s.update({"module.model.fc2.bias": torch.zeros(7, dtype=torch.int8)}))
    assert "fc" in refused(folder) and "is int8, expected floating-point numbers; quantised" in refused(
        folder
    )


@pytest.mark.parametrize("content", [b"<html>404</html>", b"R.", b"\x80\x02s.", b"\x87"])
def test_bytes_that_are_no_pickle_are_named(folder, content):
    (folder / HEAD).write_bytes(content)
    assert refused(folder).startswith(f"{folder / HEAD} is not a file of plain weights")


@pytest.mark.parametrize("name", [HEAD, PROJECTOR, VLM])
@pytest.mark.parametrize("size", [0, 100, 10_000, -20])
def test_a_truncated_file_is_named(folder, name, size):
    path = folder / name
    path.write_bytes(path.read_bytes()[:size])
    assert refused(folder).startswith(f"{path} is not a ")


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
        ({"image_sizes": []}, r"image_sizes is \[\]"),
        ({"image_sizes": [[224, 224], [224, 384]]}, r"image_sizes is \[\[224, 224\], \[224, 384\]\]"),
        ({"image_sizes": [225, 225]}, "image_size 225 is not a multiple of patch_size 14"),
    ],
)
def test_another_model_is_refused(folder, change, message):
    edit_json(folder / "config.json", lambda c: c.update(change))
    with pytest.raises(CheckpointError, match=message):
        load(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_act", "gelu"),
        ("rope_scaling", {"type": "yarn"}),
        ("use_sliding_window", True),
        ("hidden_size", "wide"),
    ],
)
def test_a_language_model_of_another_kind_is_refused(folder, key, value):
    def change(text):
        text[key] = value

    edit_json(folder / "config.json", lambda c: change(c["text_config"]))
    expected = "width: Input should be a valid integer" if key == "hidden_size" else f"text_config.{key} is "
    assert expected in refused(folder)


def test_heads_that_do_not_divide_are_named(folder):
    edit_json(folder / "config.json", lambda c: c["text_config"].update(num_attention_heads=5))
    assert refused(folder) == f"{folder}: width 64, heads 5, kv_heads 2 do not divide"


def test_pixel_constants_that_divide_by_zero_are_refused(folder):
    def change(content):
        content["tvf_normalize_params"][1]["std"] = [0.5, 0.0, 0.5]

    edit_json(folder / "preprocessor_config.json", change)
    assert "std.1: Input should be greater than 0" in refused(folder)


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

"""The cache holds what the policy will see, and notices when it does not any more."""

import numpy as np
import pytest
import torch
from training_episodes import CAMERAS, write
from training_model import SETTINGS

from vla_model import presets
from vla_model.policy import Observation, build_policy
from vla_recorder.episode.reader import EpisodeReader
from vla_training.cache import ImageCache
from vla_training.dataset import ChunkDataset
from vla_training.episodes import TrainingError, find_episodes, read_episodes
from vla_training.frozen import FrozenChunks, head_loss
from vla_training.shape import changed
from vla_training.statistics import dataset_statistics
from vla_training.train import Settings, _seen

PLAIN = ("vision.crop_area=1.0",)
EARLY_CROP = ("vision.crop_area=0.9",)
PUBLISHED = (
    "vision.jpeg_quality=95",
    "vision.resize=lanczos3",
    *EARLY_CROP,
    "vision.crop_stage=after_resize",
)
AS_SERVED = Settings(augment=False)


@pytest.fixture
def data(tmp_path):
    write(tmp_path, goal=0, rows=7)
    write(tmp_path, goal=1, rows=5)
    return read_episodes(find_episodes(tmp_path))


def policy(data, *settings):
    config = changed(presets.small(CAMERAS, 2, 2, 4, 0.1), [*SETTINGS, *settings], data.source.action_names)
    # the plain model, so that a test can look at what it is given
    return build_policy(config, dataset_statistics(data, "rig"), data.source.rig_text, fast=False)


@pytest.mark.parametrize("settings", [PLAIN, EARLY_CROP, PUBLISHED], ids=["plain", "early crop", "published"])
def test_training_and_serving_give_the_model_the_same_input(data, tmp_path, settings):
    """Every tensor that the model gets for a training item equals what Policy.predict gives it for the same row."""
    served = policy(data, *settings)
    cache = ImageCache(data, served.model.preprocess, tmp_path / "cache")
    items = ChunkDataset(
        data, cache, served.checkpoint.tokenizer, served.state_normalizer, served.action_normalizer, 4
    )
    seen = {}
    served.model.backbone.register_forward_pre_hook(lambda _m, args: seen.update(pixels=args[0], ids=args[1]))
    served.model.head.proprio_projector.register_forward_pre_hook(lambda _m, args: seen.update(state=args[0]))
    for item in (0, 3, 8, 11):
        e, row = items.index[item]
        with EpisodeReader(data.episodes[e].path) as reader:
            raw = {name: reader.images(name)[row] for name in CAMERAS}
            served.predict(Observation(raw, reader.qpos[row], reader.instruction, 0))
        batch = items.__getitems__([item])
        preprocess = served.model.preprocess
        images = _seen(preprocess, batch["images"], AS_SERVED, torch.Generator())
        for trained, shown in zip(preprocess.normalize(images), seen["pixels"], strict=True):
            assert torch.equal(trained, shown)
        assert torch.equal(batch["input_ids"], seen["ids"])
        assert torch.equal(batch["state"], seen["state"])


@pytest.mark.parametrize("settings", [PLAIN, PUBLISHED], ids=["plain", "published"])
def test_a_frozen_backbone_gives_the_loss_that_the_whole_model_gives(data, tmp_path, settings):
    trained = policy(data, "head.stem_noise_std=0", *settings)
    images = ImageCache(data, trained.model.preprocess, tmp_path / "cache")
    items = ChunkDataset(
        data, images, trained.checkpoint.tokenizer, trained.state_normalizer, trained.action_normalizer, 4
    )
    frozen = FrozenChunks(trained.model, items)
    assert len(frozen) == len(items) == 12
    chosen = [0, 11, 5, 5]
    batch = items.__getitems__(chosen)
    batch["images"] = _seen(trained.model.preprocess, batch["images"], AS_SERVED, torch.Generator())
    with torch.no_grad():
        whole = trained.model(batch)["loss"]
        torch.testing.assert_close(head_loss(trained.model, frozen.__getitems__(chosen))["loss"], whole)


def test_what_is_there_is_used_again_and_a_changed_episode_is_not(data, tmp_path):
    preprocess = policy(data).model.preprocess
    ImageCache(data, preprocess, tmp_path / "cache")
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").iterdir()}
    assert len(before) == 4
    ImageCache(data, preprocess, tmp_path / "cache")
    assert before == {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").iterdir()}

    data.episodes[1].path.unlink()
    write(tmp_path, goal=0, rows=5)
    again = read_episodes(find_episodes(tmp_path))
    cache = ImageCache(again, preprocess, tmp_path / "cache")
    first, second = cache.empty(1), cache.empty(1)
    cache.images(0, 2, first[0])
    cache.images(1, 2, second[0])
    np.testing.assert_array_equal(first, second)


def test_images_made_with_other_options_are_not_used(data, tmp_path):
    folder = tmp_path / "cache"
    for count, settings in enumerate(
        ([], ["vision.resize=lanczos3"], EARLY_CROP, PUBLISHED, PUBLISHED[:-1]), 1
    ):
        ImageCache(data, policy(data, *settings).model.preprocess, folder)
        assert len(list(folder.iterdir())) == 4 * count
    ImageCache(data, policy(data, *PUBLISHED, "vision.crop_area=0.8").model.preprocess, folder)
    assert len(list(folder.iterdir())) == 4 * count, "a crop after the stretch is not in the cache"


def test_a_folder_that_cannot_be_written_is_named(data, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match="--cache"):
        ImageCache(data, policy(data).model.preprocess, tmp_path / "file" / "cache")

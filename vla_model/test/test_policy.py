"""From observation to chunk, to a directory and back, and what is said when something does not fit."""

import gc
import json
import os
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_model import ACTION_DIM, HORIZON, RIG, observation, statistics, tiny_config

from vla_model.policy import ObservationError, Policy, build_policy
from vla_model.tokenizer import encode_prompt


@pytest.mark.parametrize("cameras", [1, 2, 4])
def test_predict_gives_a_chunk_in_the_rigs_units(cameras):
    policy = build_policy(tiny_config(cameras), statistics(), RIG)
    policy.warm_up()
    chunk = policy.predict(observation(cameras))
    assert chunk.shape == (HORIZON, ACTION_DIM) and chunk.dtype == np.float32 and np.isfinite(chunk).all()
    assert (policy.horizon, policy.dt_s, len(policy.camera_names)) == (HORIZON, 0.02, cameras)


def test_predict_is_deterministic_and_leaves_its_input_alone(policy):
    seen = observation()
    before = seen.state.copy()
    assert np.array_equal(policy.predict(seen), policy.predict(seen))
    assert np.array_equal(seen.state, before)


def test_predict_listens_to_every_input(policy):
    chunk = policy.predict(observation())
    for name in policy.camera_names:
        images = observation().images
        images[name] = 255 - images[name]
        assert not np.allclose(chunk, policy.predict(replace(observation(), images=images)))
    assert not np.allclose(chunk, policy.predict(replace(observation(), state=observation().state + 1)))
    assert not np.allclose(chunk, policy.predict(replace(observation(), instruction="open the drawer")))


def test_predict_is_the_models_output_in_the_rigs_units(policy):
    seen, model = observation(), policy.model
    images = torch.stack([torch.from_numpy(seen.images[name]) for name in policy.camera_names])[None]
    state = torch.from_numpy(policy.state_normalizer.normalize(seen.state))[None]
    ids = torch.tensor([encode_prompt(policy.checkpoint.tokenizer, seen.instruction)])
    with torch.no_grad():
        chunk = model.head.sample(model.features(images, ids), state)[0]
    low, high = (np.array(statistics()["tiny"]["action"][key]) for key in ("min", "max"))
    expected = (chunk.numpy() + 1) / 2 * (high - low) + low
    assert np.allclose(policy.predict(seen), expected, atol=1e-5)


@pytest.mark.parametrize("jpeg_quality", [None, 95])
def test_fast_and_plain_agree(saved, jpeg_quality):
    config = json.loads((saved / "config.json").read_text())
    config["vision"]["jpeg_quality"] = jpeg_quality
    (saved / "config.json").write_text(json.dumps(config))
    fast, plain = (Policy.from_checkpoint(saved, device="cpu", fast=fast) for fast in (True, False))
    for seed in range(3):
        seen = observation(seed=seed, instruction=f"do it {seed} times")
        assert np.allclose(fast.predict(seen), plain.predict(seen), atol=1e-5)


def test_the_published_round_trip_through_jpeg_is_every_cameras_own(policy):
    vision = policy.config.vision.model_copy(update={"jpeg_quality": 30})
    coarse = build_policy(policy.config.model_copy(update={"vision": vision}), statistics(), RIG, seed=3)
    trips = {name: coarse.model.preprocess.jpeg(image) for name, image in observation().images.items()}
    chunk = coarse.predict(observation())
    assert np.array_equal(chunk, policy.predict(replace(observation(), images=trips)))
    assert not np.array_equal(chunk, policy.predict(observation()))


def test_threads_may_share_a_policy_and_swap_the_instruction(policy):
    said = ["pick up the red cube", "wait", "hand it over, " * 9]
    seen = [observation(seed=i % 2, instruction=said[i % 3]) for i in range(6)]
    expected = [policy.predict(one) for one in seen]
    with ThreadPoolExecutor(4) as pool:
        chunks = list(pool.map(lambda i: policy.predict(seen[i % 6]), range(240)))
    for i, chunk in enumerate(chunks):
        assert np.array_equal(chunk, expected[i % 6])


def test_memory_does_not_grow_with_calls(policy):
    """300 calls with 200 instructions and 2 image sizes: less than 2 MB, of which one call holds some 100 kB."""
    seen = [observation(seed=i, instruction=f"task {i:03d}") for i in range(200)]
    small = {name: image[::2, ::2] for name, image in observation().images.items()}
    seen += [replace(one, images=small) for one in seen[:100]]
    for one in seen:
        policy.predict(one)
    before = resident_bytes()
    for one in seen:
        policy.predict(one)
    assert resident_bytes() - before < 2 << 20


def test_nothing_keeps_a_policy_that_its_user_has_dropped():
    """On a GPU the next model would have to fit beside it until Python looks for cycles."""
    vision = tiny_config().vision.model_copy(update={"jpeg_quality": 95})
    before = set(threading.enumerate())
    policy = build_policy(tiny_config(vision=vision), statistics(), RIG)
    policy.predict(observation())
    workers = set(threading.enumerate()) - before
    assert workers
    parts = [weakref.ref(part) for part in (policy, policy.model, policy._runner)]
    gc.collect()
    gc.disable()
    try:
        del policy
        assert [part() for part in parts] == [None] * 3
        for worker in workers:
            worker.join(10)
        assert not any(worker.is_alive() for worker in workers)
    finally:
        gc.enable()


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_warm_up_takes_each_cameras_size_and_the_instruction(policy):
    fresh = build_policy(policy.config, statistics(), RIG, seed=3)
    seen, predict = [], fresh.predict
    fresh.predict = lambda observation: seen.append(observation) or predict(observation)
    fresh.warm_up(1, {"cam_0": (48, 64), "cam_1": (30, 40)}, "pick up the red cube")
    assert [image.shape for image in seen[0].images.values()] == [(48, 64, 3), (30, 40, 3)]
    assert seen[0].instruction == "pick up the red cube"


def test_cameras_of_other_sizes_and_extra_cameras(policy):
    images = observation().images
    images["cam_1"] = np.zeros((90, 31, 3), np.uint8)
    wide = images | {"elsewhere": np.zeros((2, 2, 3), np.uint8)}
    chunk = policy.predict(replace(observation(), images=images))
    assert np.array_equal(chunk, policy.predict(replace(observation(), images=wide)))


def test_read_only_images_and_views_are_taken_as_they_are(policy, recwarn):
    plain = observation()
    flipped = {
        name: np.ascontiguousarray(image[..., ::-1])[..., ::-1] for name, image in plain.images.items()
    }
    for image in plain.images.values():
        image.flags.writeable = False
    assert np.array_equal(policy.predict(plain), policy.predict(replace(plain, images=flipped)))
    assert not recwarn.list


def test_the_seed_decides_the_weights():
    one, same, other = (build_policy(tiny_config(), statistics(), RIG, seed=s) for s in (1, 1, 2))
    assert np.array_equal(one.predict(observation()), same.predict(observation()))
    assert not np.array_equal(one.predict(observation()), other.predict(observation()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": {}}, "lacks camera cam_0, cam_1; the model expects cam_0, cam_1"),
        ({"images": {"cam_0": np.zeros((4, 4, 3), np.uint8)}}, "lacks camera cam_1"),
        ({"state": np.zeros(3, np.float32)}, r"state has shape \(3,\), the model expects \(5,\)"),
        ({"state": np.array([0, 0, np.nan, 0, 0], np.float32)}, "not finite in dimension 2"),
        ({"state": [0, 0, None, 0, 0]}, "not finite in dimension 2"),
        ({"state": list("abcde")}, "the state is no vector of numbers: could not convert string"),
        ({"instruction": " \n"}, "the instruction is empty; say what the robot should do"),
    ],
)
def test_an_observation_that_does_not_fit_is_refused(policy, change, message):
    with pytest.raises(ObservationError, match=message):
        policy.predict(replace(observation(), **change))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_an_image_that_is_not_rgb_is_refused(policy, image):
    with pytest.raises(ObservationError, match=r"camera cam_0: expected \(H, W, 3\) uint8 RGB"):
        policy.predict(replace(observation(), images=observation().images | {"cam_0": image}))


def test_an_instruction_too_long_for_the_model_is_refused():
    llm = tiny_config().llm.model_copy(update={"max_positions": 128})
    policy = build_policy(tiny_config(llm=llm), statistics(), RIG)
    policy.warm_up()
    with pytest.raises(ObservationError, match="makes a sequence longer than the model's 128 positions"):
        policy.predict(observation(instruction="go " * 100))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_the_gpu_gives_what_the_cpu_gives(saved):
    """As close as a grey level allows that the two round otherwise: in float32, on a CPU both ways, 0.011."""
    whole = Policy.from_checkpoint(saved, device="cpu").predict(observation())
    for dtype, share in ((torch.float32, 0.03), (None, 0.1)):
        chunk = Policy.from_checkpoint(saved, dtype=dtype).predict(observation())
        assert np.abs(chunk - whole).max() < share * np.ptp(whole)

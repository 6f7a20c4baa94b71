"""Recorded CUDA graphs on a GPU: they give what the same operations give one by one, keep their memory, take a swap."""

import threading

import numpy as np
import pytest
import torch
from head_cases import FORMS, HEAD_TYPES, head_config
from parity import noisy_model
from tiny_model import observation, statistics, tiny_config

from vla_model.fast.graphs import GraphRunner
from vla_model.fast.model import FastModel
from vla_model.fast.runner import DirectRunner
from vla_model.policy import Policy, build_policy

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]
SIZES = ((48, 64), (30, 40), (48, 64))
INSTRUCTIONS = (
    "pick up the red cube",
    "wait",
    "hand over the cube and " * 20,
)  # the last one needs a graph of its own


@pytest.fixture
def policy(tmp_path):
    """As it is served: bfloat16, the plain model in the host's memory."""
    build_policy(tiny_config(), statistics(), "name: tiny\n", seed=3).save(tmp_path / "tiny")
    policy = Policy.from_checkpoint(tmp_path / "tiny", "cuda")
    policy.warm_up(image_size=(48, 64))
    return policy


def inputs(config, seed: int):
    rng = np.random.default_rng(seed)
    frames = [rng.integers(0, 256, (*size, 3), np.uint8) for size in SIZES[: len(config.camera_names)]]
    return frames, rng.uniform(-1, 1, config.state_dim).astype(np.float32)


def seen(instruction: str, seed: int = 0):
    return observation(seed=seed, instruction=instruction)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", HEAD_TYPES)
@torch.inference_mode()
def test_a_graph_gives_what_its_operations_give_one_by_one(kind, form, dtype):
    quirks = {"shifted_slices": True, "fixed_task_tokens": 8} if form == "published" else {}
    config = head_config(kind, form, 3, horizon=25, head={"decode": "expectation"}, **quirks)
    model = noisy_model(config).to(dtype)
    on_cpu = DirectRunner(FastModel(noisy_model(config)), model.preprocess)
    direct = DirectRunner(FastModel(model, "cuda"), model.preprocess)
    graphs = GraphRunner(FastModel(model, "cuda"), model.preprocess)
    for seed, length in enumerate((20, 20, 70)):
        frames, state = inputs(config, seed)
        ids = torch.arange(length) + seed
        expected, chunk = (r(frames, graphs.prompt(ids), state) for r in (direct, graphs))
        np.testing.assert_allclose(
            chunk, expected, atol=1e-4 if dtype == torch.float32 else 0.02 * np.ptp(expected)
        )
        if dtype == torch.float32:
            # as the GPU resized them: of a grey level that a CPU rounds otherwise noisy weights make up to 5 %
            resized = [model.preprocess.resize(torch.from_numpy(frame).cuda()[None])[0] for frame in frames]
            small = [image.permute(1, 2, 0).cpu().numpy() for image in resized]
            host = on_cpu(small, on_cpu.prompt(ids), state)
            np.testing.assert_allclose(chunk, host, atol=2e-3 * np.ptp(host))
    assert len(graphs._kept) == 2


def test_a_thousand_calls_allocate_nothing(policy):
    """On the device, by the allocator's own count."""
    for instruction in INSTRUCTIONS:
        policy.predict(seen(instruction))

    def device_counts() -> dict:
        torch.cuda.synchronize()
        keys = ("allocation.all.allocated", "allocated_bytes.all.current", "reserved_bytes.all.current")
        stats = torch.cuda.memory_stats()
        return {key: stats[key] for key in keys}

    before, chunk = device_counts(), policy.predict(seen(INSTRUCTIONS[0]))
    for i in range(1000):
        policy.predict(seen(INSTRUCTIONS[i % 3], seed=i % 7))
    assert device_counts() == before
    assert np.array_equal(policy.predict(seen(INSTRUCTIONS[0])), chunk)


def test_an_instruction_swapped_by_another_thread_is_followed_at_once(policy):
    expected = {text: policy.predict(seen(text)) for text in INSTRUCTIONS}
    said, results, stop = [INSTRUCTIONS[0]], [], threading.Event()

    def work():
        while not stop.is_set():
            text = said[0]
            results.append((text, policy.predict(seen(text))))

    worker = threading.Thread(target=work)
    worker.start()
    for i in range(300):
        said[0] = INSTRUCTIONS[i % 3]
        policy.predict(seen(INSTRUCTIONS[(i + 1) % 3], seed=5))  # and predicts, too
    stop.set()
    worker.join()
    assert {text for text, _ in results} == set(INSTRUCTIONS)
    for text, chunk in results:
        assert np.array_equal(chunk, expected[text])


def test_the_plain_weights_stay_off_the_device(policy):
    assert {p.device.type for p in policy.model.parameters()} == {"cpu"}
    assert policy.device.type == "cuda"
    policy.predict(seen("wait"))
    assert {p.device.type for p in policy.model.parameters()} == {"cpu"}

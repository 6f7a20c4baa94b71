"""Predict as a CUDA graph, as far as it goes without a GPU: what is recorded, and that it could be."""

import numpy as np
import pytest
import torch
from head_cases import FORMS, HEAD_TYPES, head_config
from parity import noisy_model
from tiny_model import tiny_config
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vla_model.adapter import VLAAdapter
from vla_model.config import ModelConfig
from vla_model.fast import runner
from vla_model.fast.graphs import KEPT, PROMPT_STEP, GraphRunner
from vla_model.fast.model import FastModel
from vla_model.fast.runner import DirectRunner
from vla_model.fast.staging import Staging
from vla_model.preprocess import Preprocessor

SIZES = ((48, 64), (30, 40), (48, 64))
CPU = torch.device("cpu")


def frames(sizes=SIZES, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]


def runners(**changes):
    """A direct one and one that would record, of the same model on the CPU, and what was given to be recorded."""
    model, recorded = noisy_model(tiny_config(3, **changes)), []

    def record(function):
        recorded.append(function)
        return function

    preprocess = model.preprocess
    fast = DirectRunner(FastModel(model), preprocess), GraphRunner(FastModel(model), preprocess, record)
    return *fast, recorded


@pytest.mark.parametrize(
    "sizes",
    [SIZES, ((48, 64),) * 3, ((28, 28), (48, 64), (28, 28)), ((48, 64), (48, 64), (30, 40))],
    ids=str,
)
def test_staging_hands_on_every_frame_in_its_own_place(sizes):
    staging, preprocess = Staging(sizes, 5, CPU), Preprocessor(tiny_config().vision)
    for seed in (0, 1):
        seen, state = frames(sizes, seed), np.arange(5, dtype=np.float32) + seed
        staging.fill(seen, state)
        expected = torch.cat([preprocess.resize(torch.from_numpy(frame)[None]) for frame in seen])
        assert torch.equal(staging.resized(preprocess), expected)
        assert np.array_equal(staging.state[0], state)


@pytest.mark.parametrize(
    "changes", [{}, {"shifted_slices": True, "fixed_task_tokens": 6}], ids=["sound", "published"]
)
def test_what_is_recorded_gives_what_the_direct_way_gives(changes):
    direct, graphs, recorded = runners(**changes)
    given = []
    for seed, length in enumerate((20, 20, 70, 33)):
        ids, state = torch.arange(length) + seed, np.full(5, 0.1 * seed, np.float32)
        given.append([r(frames(seed=seed), r.prompt(ids), state) for r in (direct, graphs)])
    for chunks in given:  # at the end: a chunk is the caller's, later calls leave it alone
        np.testing.assert_allclose(*chunks, atol=1e-5)
    assert len(recorded) == 2  # prompts of up to 64 tokens, and of up to 128


def test_one_recording_serves_all_prompts_of_a_length_and_only_a_few_are_kept():
    _, graphs, recorded = runners()
    state = np.zeros(5, np.float32)
    small = graphs.prompt(torch.arange(7))
    assert small.length == PROMPT_STEP
    for height in (30, 31, 32, 33, 34):
        for length in (7, 40):
            graphs(frames([(height, 40)] * 3), graphs.prompt(torch.arange(length)), state)
    assert len(recorded) == 5 == KEPT + 1
    graphs(frames([(31, 40)] * 3), small, state)  # the oldest of those kept, and now the last one to go
    assert len(recorded) == 5
    graphs(frames([(30, 40)] * 3), small, state)
    assert len(recorded) == 6
    graphs(frames([(31, 40)] * 3), small, state)
    assert len(recorded) == 6


def test_memory_for_only_a_few_lengths_of_prompts_is_kept_without_graphs():
    direct, _, _ = runners()
    chunks = {}
    for length in (*range(7, 14), 7):
        chunk = direct(frames(), direct.prompt(torch.arange(length)), np.zeros(5, np.float32))
        assert np.array_equal(chunks.setdefault(length, chunk), chunk)
        assert len(direct._sequences) <= runner.KEPT


class Memory(TorchDispatchMode):
    """Notes the memory that a call reads or writes and did not itself allocate."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self._made = set(), []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = storages((args, kwargs))
        result = func(*args, **(kwargs or {}))
        self.used |= given - {address for address, _ in self._made}
        # kept, so that what the call frees is not handed out again
        self._made += [(address, result) for address in storages(result) - given]
        return result


def storages(tree) -> set[int]:
    tensors = (x for x in tree_leaves(tree) if isinstance(x, torch.Tensor))
    return {x.untyped_storage().data_ptr() for x in tensors}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", HEAD_TYPES)
def test_a_recording_keeps_to_the_same_memory_whatever_a_call_brings(kind, form):
    """A graph replays addresses: nothing may depend on where a call's frames, state or prompt lie."""
    model, recorded = noisy_model(recordable(kind, form)), []
    graphs = GraphRunner(FastModel(model), model.preprocess, lambda run: recorded.append(run) or run)
    prompts = [graphs.prompt(torch.arange(length)) for length in (20, 33)]
    used = []
    for seed, prompt in enumerate((prompts[0], prompts[1], prompts[0])):
        graphs(frames(seed=seed), prompt, np.full(5, 0.1 * seed, np.float32))
        with Memory() as memory:
            recorded[0]()
        used.append(memory.used)
    assert len(recorded) == 1
    assert used[0] == used[1] == used[2]
    passing = {x.untyped_storage().data_ptr() for prompt in prompts for x in prompt[:3] if x is not None}
    assert not used[0] & passing


def recordable(kind: str, form: str, **changes) -> ModelConfig:
    """Three cameras; in the published form with its slices, its split and its way to resize and crop."""
    if form == "sound":
        return head_config(kind, form, 3, **changes)
    config = head_config(kind, form, 3, shifted_slices=True, fixed_task_tokens=8, **changes)
    pictures = {"resize": "lanczos3", "crop_area": 0.9, "crop_stage": "after_resize"}
    return config.model_copy(update={"vision": config.vision.model_copy(update=pictures)})


class OnlyOn(TorchDispatchMode):
    """Refuses what a graph cannot record: operations on another device, and looks at a value or a count."""

    REFUSED = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "item", "masked_select", "unique")

    def __init__(self, device: str) -> None:
        super().__init__()
        self._device = device

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        devices = {x.device.type for x in tree_leaves([args, kwargs, result]) if isinstance(x, torch.Tensor)}
        assert devices <= {self._device}, f"{func}: {devices}"
        assert func._schema.name.removeprefix("aten::") not in self.REFUSED, func
        return result


@pytest.mark.parametrize("decode", ["argmax", "expectation"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", HEAD_TYPES)
@torch.inference_mode()
def test_nothing_in_a_recording_waits_for_a_value_or_comes_from_the_host(kind, form, decode):
    """On the meta device there are no values to look at, and every tensor of the host's shows."""
    config = recordable(kind, form, head={"decode": decode})
    model, sizes = VLAAdapter(config).bfloat16().eval(), SIZES
    fast = FastModel(model, "meta")
    prompt = fast.prompt(torch.arange(9), PROMPT_STEP)
    sequence = fast.sequence(prompt.length)
    sequence.use(prompt)
    pictures = [
        torch.empty(n, *size, 3, dtype=torch.uint8, device="meta")
        for size, n in zip(sizes, (2, 1), strict=False)
    ]
    state = torch.empty(1, config.state_dim, device="meta")

    def run():
        resized = torch.cat([model.preprocess.resize(batch) for batch in pictures])
        return fast.run(resized, sequence, state)

    run()  # constants are made once
    with OnlyOn("meta"):
        assert run().shape == (1, 8, 6)


def test_the_check_above_would_see_a_host_tensor_and_a_look_at_a_value():
    x = torch.zeros(2, device="meta")
    with OnlyOn("meta"):
        with pytest.raises(AssertionError, match="cpu"):
            x + torch.zeros(2)
    with OnlyOn("cpu"):
        with pytest.raises(AssertionError, match="scalar"):
            float(torch.ones(1))

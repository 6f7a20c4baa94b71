"""The fast path against the plain one: every head, every published option on and off, parts, prompts, operations."""

import gc
import weakref

import pytest
import torch
from head_cases import FORMS, HEAD_TYPES, head_config, random_features, random_head, random_state
from parity import inputs, noisy_model, plain_chunk, plain_features
from tiny_model import tiny_config

from bench.measure import operations
from vla_model.config import ModelConfig
from vla_model.fast.head import FastHead
from vla_model.fast.model import FastModel

FP32 = {"atol": 1e-4, "rtol": 0}
RIGS = ((1, 8, 7), (2, 25, 14), (3, 30, 16))  # cameras, chunk, action
OPTIONS = {
    "mixed": {"head": {"rotary_pairing": "mixed"}},
    "bf16 table": {"head": {"rotary_table": "bfloat16"}},
    "logits": {"head": {"task_gate": "logits"}},
    "alike": {"head": {"step_embedding": False}},
    "film": {"head": {"film": True}},
    "expectation": {"head": {"decode": "expectation"}},
    "shifted": {"shifted_slices": True},
    "few task tokens": {"fixed_task_tokens": 6},
    "as many task tokens": {"fixed_task_tokens": 8},
    "many task tokens": {"fixed_task_tokens": 12},
}
CPU = {"device": torch.device("cpu"), "dtype": torch.float32}


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


def hidden(model, images, ids) -> tuple:
    """What the plain backbone gives the head, in the fast head's form (without the state token)."""
    features = plain_features(model, images, ids)
    return tuple(torch.cat(layers[1:]) for layers in (features.task_layers, features.query_layers))


@pytest.mark.parametrize("rig", RIGS, ids=str)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", HEAD_TYPES)
def test_the_fast_path_equals_the_plain_one(kind, form, rig):
    cameras, horizon, action_dim = rig
    quirks = {"shifted_slices": True, "fixed_task_tokens": 8} if form == "published" else {}
    config = head_config(kind, form, cameras, horizon=horizon, action_dim=action_dim, **quirks)
    model, data = noisy_model(config), inputs(config)
    torch.testing.assert_close(FastModel(model)(*data), plain_chunk(model, *data), **FP32)


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("kind", HEAD_TYPES)
def test_each_option_alone(kind, option):
    changes = {key: dict(value) if key == "head" else value for key, value in OPTIONS[option].items()}
    config = head_config(kind, "sound", 2, **changes)
    model, data = noisy_model(config), inputs(config)
    torch.testing.assert_close(FastModel(model)(*data), plain_chunk(model, *data), **FP32)


@pytest.mark.parametrize("cameras", [1, 3])
@pytest.mark.parametrize("shifted", [False, True])
def test_hidden_states_are_those_of_the_plain_backbone(cameras, shifted):
    config = tiny_config(cameras, shifted_slices=shifted)
    model, (images, ids, state) = noisy_model(config), inputs(config)
    fast = FastModel(model)
    prompt = fast.prompt(ids[0])
    sequence = fast.sequence(prompt.length)
    sequence.use(prompt)
    fast.run(images, sequence, state)
    pixels = model.preprocess.normalize(images[None])
    torch.testing.assert_close(sequence.patches, model.backbone.patch_tokens(pixels)[0], **FP32)
    task, query = sequence.read()
    plain_task, plain_query = hidden(model, images, ids)
    torch.testing.assert_close(task, plain_task, **FP32)
    torch.testing.assert_close(query[:, :-1], plain_query, **FP32)
    p = model.head.proprio_projector(state)[0].expand(config.llm.layers, -1)
    torch.testing.assert_close(query[:, -1], p, **FP32)


@pytest.mark.parametrize("kind", ["base", "pro", "dual-arm"])
@pytest.mark.parametrize("form", FORMS)
def test_a_bfloat16_head_stays_near_a_float32_evaluation_of_its_weights(kind, form):
    """Root mean square of the error: at most 1 % of the outputs' spread; measured 0.1 to 0.6 %, as plain."""
    config = head_config(kind, form, horizon=25)
    head, features, state = random_head(config), random_features(config, size=1), random_state(config, 1)
    head.bfloat16()
    rounded = [tuple(h.bfloat16() for h in hs) for hs in (features.task_layers, features.query_layers)]
    exact = head_chunk(head, config, torch.float32, *rounded, state)
    error = head_chunk(head, config, torch.bfloat16, *rounded, state) - exact
    assert 0 < error.square().mean().sqrt() <= 0.01 * exact.std()


def head_chunk(head, config: ModelConfig, dtype, task, query, state):
    """By the fast head, its weights folded in `dtype` from those of `head`."""
    p = head.proprio_projector(state.bfloat16()).float()[0]
    task, query = (torch.cat(layers[1:]).to(dtype) for layers in (task, query))
    arms = query.chunk(2 if config.head.type == "dual_arm" else 1, dim=1)
    p = p.to(dtype).expand(len(task), 1, -1)
    query = torch.cat([rows for arm in arms for rows in (arm, p)], dim=1)
    return FastHead(head, config, CPU["device"], dtype)(task, query)


def test_padded_prompts_change_nothing():
    config = tiny_config(shifted_slices=True, fixed_task_tokens=10)
    model, (images, ids, state) = noisy_model(config), inputs(config)
    fast = FastModel(model)
    prompt = fast.prompt(ids[0], 16)
    assert prompt.length == 16 > ids.shape[1]
    sequence = fast.sequence(16)
    sequence.use(prompt)
    torch.testing.assert_close(
        fast.run(images, sequence, state), plain_chunk(model, images, ids, state), **FP32
    )


def test_a_sequence_takes_one_prompt_after_the_other():
    config = tiny_config(fixed_task_tokens=10)
    model, (images, ids, state) = noisy_model(config), inputs(config)
    fast, other = FastModel(model), ids[:, :5] + 3
    sequence = fast.sequence(16)
    for ids_now in (ids, other, ids):
        sequence.use(fast.prompt(ids_now[0], 16))
        expected = plain_chunk(model, images, ids_now, state)
        torch.testing.assert_close(fast.run(images, sequence, state), expected, **FP32)


def test_a_prompt_beyond_the_models_positions_is_refused():
    config = tiny_config()
    llm = config.llm.model_copy(update={"max_positions": 40})
    fast = FastModel(noisy_model(config.model_copy(update={"llm": llm})))
    with pytest.raises(
        ValueError, match="prompt of 25 tokens makes a sequence longer than the model's 40 pos"
    ):
        fast.prompt(torch.arange(25))


@pytest.mark.parametrize("kind", HEAD_TYPES)
def test_a_call_leaves_nothing_behind_that_the_next_one_sees(kind):
    config = head_config(kind)
    fast = FastModel(noisy_model(config))
    first, second = inputs(config), inputs(config, seed=1)
    before = fast(*first).clone()
    assert not torch.equal(fast(*second), before)
    assert torch.equal(fast(*first), before)


def test_it_keeps_nothing_of_the_plain_model_but_what_it_shares():
    config = tiny_config()
    model, data = noisy_model(config), inputs(config)
    fast, expected = FastModel(model), plain_chunk(model, *data)
    qkv, table = (
        weakref.ref(model.backbone.llm.layers[0].self_attn.q_proj.weight),
        model.backbone.llm.embed_tokens,
    )
    assert fast._prompt._embeddings.data_ptr() == table.weight.data_ptr()
    del model
    gc.collect()
    assert qkv() is None
    torch.testing.assert_close(fast(*data), expected, **FP32)


# Operations of one block, as the CPU dispatches them. More means that something crept in.
HEAD_BLOCK = {
    "base": (6, 8),
    "pro": (9, 11),
    "dual-arm": (10, 12),
}  # gate on logits, on output; the reference's own: base 25, Pro 69


@pytest.mark.parametrize("kind", HEAD_BLOCK)
@pytest.mark.parametrize("form", FORMS)
def test_operations_of_a_head_block(kind, form):
    counts = []
    for layers in (3, 5):
        config = head_config(kind, form, llm=tiny_config().llm.model_copy(update={"layers": layers}))
        head = FastHead(random_head(config), config, **CPU)
        arms, D = 1 + (kind == "dual-arm"), config.llm.width
        task = torch.zeros(layers, config.task_tokens, D)
        query = torch.zeros(layers, config.query_tokens + arms, D)
        counts.append(operations(lambda head=head, task=task, query=query: head(task, query)))
    assert counts[1] - counts[0] == 2 * HEAD_BLOCK[kind][form == "sound"]


def test_operations_of_a_predict():
    """Towers: 10 a block. Language model: 20 a block here, 12 on a GPU, whose RMSNorm is one operation, not 5."""

    def count(towers: int, layers: int) -> int:
        config = tiny_config(llm=tiny_config().llm.model_copy(update={"layers": layers}))
        vision = config.vision
        deep = {
            name: getattr(vision, name).model_copy(update={"depth": towers}) for name in ("dinov2", "siglip")
        }
        config = config.model_copy(update={"vision": vision.model_copy(update=deep)})
        fast, (images, ids, state) = FastModel(noisy_model(config)), inputs(config)
        prompt = fast.prompt(ids[0])
        sequence = fast.sequence(prompt.length)
        sequence.use(prompt)
        return operations(lambda: fast.run(images, sequence, state))

    base = count(3, 3)
    assert count(4, 3) - base == 2 * 10
    assert count(3, 4) - base == 20 + HEAD_BLOCK["pro"][1]
    assert base <= 170

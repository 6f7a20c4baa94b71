"""Models are built without random weights, and own the weights that they get from a file."""

import torch
from released_model import released_config
from tiny_model import statistics, tiny_config

from vla_model import checkpoint, presets
from vla_model.adapter import VLAAdapter
from vla_model.policy import build_policy
from vla_model.weights import blank, place

torch.set_num_threads(1)


def test_a_blank_model_has_no_weights_but_all_tables():
    for config in (tiny_config(), released_config()):
        model, whole = blank(config), VLAAdapter(config)
        assert all(p.is_meta or p.numel() == 1 for p in model.parameters())
        buffers, expected = dict(model.named_buffers()), dict(whole.named_buffers())
        stored = model.state_dict().keys()
        assert buffers.keys() == expected.keys()
        assert all(torch.equal(buffers[name], expected[name]) for name in buffers if name not in stored)


def test_a_placed_model_is_the_model_that_was_saved():
    config = tiny_config(head={"film": True})
    whole = VLAAdapter(config).eval()
    model = place(blank(config), whole.state_dict(), "cpu", None).eval()
    assert not any(t.is_meta for t in (*model.parameters(), *model.buffers()))
    assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in whole.parameters()]
    images, ids = torch.randint(0, 256, (1, 2, 40, 40, 3), dtype=torch.uint8), torch.arange(9)[None]
    state = torch.zeros(1, config.state_dim)
    with torch.no_grad():
        outputs = [m.head.sample(m.features(images, ids), state) for m in (whole, model)]
    assert torch.equal(*outputs)


def test_a_cast_holds_for_weights_and_tables():
    config = released_config()
    whole = VLAAdapter(config).to(torch.bfloat16)
    model = place(blank(config), VLAAdapter(config).state_dict(), "cpu", torch.bfloat16)
    assert [p.dtype for p in model.parameters()] == [p.dtype for p in whole.parameters()]
    assert [b.dtype for b in model.buffers()] == [b.dtype for b in whole.buffers()]


def test_bins_keep_what_bfloat16_would_round():
    config = tiny_config(head={"type": "discrete"})
    whole = VLAAdapter(config)
    whole.head.fit_range(torch.full((6,), -0.777), torch.full((6,), 0.333))
    head = place(blank(config), whole.state_dict(), "cpu", torch.bfloat16).head
    for name in ("bin_low", "bin_high"):
        edges = getattr(whole.head, name)
        assert not torch.equal(edges.bfloat16().float(), edges)
        assert torch.equal(getattr(head, name), edges)


def test_writing_over_the_file_does_not_reach_a_loaded_model(tmp_path):
    build_policy(tiny_config(), statistics(), "name: tiny").save(tmp_path)
    model = checkpoint.load(tmp_path).model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with (tmp_path / "model.safetensors").open("r+b") as file:
        file.truncate(16)
        file.write(b"\0" * 10**6)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_published_size_takes_no_memory():
    model = blank(presets.published(("head",), 8, 7, 8, 0.05))
    real = sum(p.numel() for p in model.parameters() if not p.is_meta)
    assert sum(p.numel() for p in model.parameters()) > 1.4e9 and real < 100

"""A model of any head that starts from random weights learns: it tells samples apart by their images alone."""

import pytest
import torch
from head_cases import FORMS, HEAD_TYPES, head_config
from tiny_model import batch, tiny_config

from vla_model.adapter import VLAAdapter

STEPS = 300


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", HEAD_TYPES)
def test_the_error_of_one_batch_falls_tenfold(kind, form):
    """With 20 bins, too: values within a bin are off by a fortieth of the range at most."""
    torch.manual_seed(0)
    llm = tiny_config().llm.model_copy(update={"layers": 3})
    head = {"bins": 20, "gate_init": 0.5 if form == "sound" else 0.0}
    model = VLAAdapter(head_config(kind, form, 1, llm=llm, head=head))
    data = batch(model.config, size=3)
    if kind.endswith("base") and form == "published":  # it gives one action, repeated
        data["actions"] = data["actions"][:, :1].expand_as(data["actions"])
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    first = error(model, data)
    for step in range(STEPS):
        optimizer.zero_grad()
        model.loss(data)["loss"].backward()
        optimizer.step()
        if step % 20 == 19 and error(model, data) < first / 10:
            return
    pytest.fail(f"from {first:.3f} to {error(model, data):.3f} in {STEPS} steps")


def error(model, data):
    model.eval()
    with torch.no_grad():
        chunk = model.head.sample(model.features(data["images"], data["input_ids"]), data["state"])
    return (chunk - data["actions"]).abs().mean().item()


def test_resized_images_and_raw_ones_give_the_same_loss():
    model = VLAAdapter(tiny_config())
    data = batch(model.config)
    raw = torch.randint(0, 256, (4, 2, 50, 70, 3), dtype=torch.uint8)
    resized = model.preprocess.resize(raw.flatten(0, 1)).unflatten(0, (4, 2))
    assert resized.shape == (4, 2, 3, 28, 28)
    with torch.no_grad():
        assert model.loss(data | {"images": raw})["loss"] == model.loss(data | {"images": resized})["loss"]

"""A model that starts from random weights learns: it tells the samples of a batch apart by their images alone."""

import pytest
import torch
from tiny_model import batch, tiny_config

from vla_model.adapter import VLAAdapter

PUBLISHED = {
    "rotary_pairing": "mixed",
    "rotary_table": "bfloat16",
    "task_gate": "logits",
    "gate_init": 0.0,
    "stem_noise_std": 0.02,
    "step_embedding": False,
}


@pytest.mark.parametrize(("head", "steps"), [({}, 150), (PUBLISHED, 250)], ids=["sound", "published"])
def test_the_loss_of_one_batch_falls_tenfold(head, steps):
    torch.manual_seed(0)
    model = VLAAdapter(tiny_config(1, head, llm=tiny_config().llm.model_copy(update={"layers": 3})))
    data = batch(model.config, size=3)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    first = model.loss(data)["loss"].item()
    for _ in range(steps):
        optimizer.zero_grad()
        model.loss(data)["loss"].backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        chunk = model.head.sample(model.features(data["images"], data["input_ids"]), data["state"])
    assert (chunk - data["actions"]).abs().mean().item() < first / 10


def test_resized_images_and_raw_ones_give_the_same_loss():
    model = VLAAdapter(tiny_config())
    data = batch(model.config)
    raw = torch.randint(0, 256, (4, 2, 50, 70, 3), dtype=torch.uint8)
    resized = model.preprocess.resize(raw.flatten(0, 1)).unflatten(0, (4, 2))
    assert resized.shape == (4, 2, 3, 28, 28)
    with torch.no_grad():
        assert model.loss(data | {"images": raw})["loss"] == model.loss(data | {"images": resized})["loss"]

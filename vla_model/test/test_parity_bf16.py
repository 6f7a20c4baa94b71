"""In bfloat16 no further from a float32 evaluation of the same rounded weights than the reference's own rounding.

Tolerance: the root mean square of the error stays under 4 % of the chunk's spread, and under twice the error of the
naive model in bfloat16, which rounds where the reference rounds.
"""

import pytest
import torch
from parity import FORMS, HEADS, inputs, model_config, naive_chunk, noisy_model, plain_chunk

from bench.naive_vla.weights import naive_of


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_rounding_error(head, form):
    config = model_config(3, 25, 14, head, form)
    model, data = noisy_model(config).to(torch.bfloat16), inputs(config)
    exact = naive_chunk(naive_of(model).float(), *data)  # its rotary tables stay the rounded ones
    reference = _rms(naive_chunk(naive_of(model), *data).float() - exact)
    ours = plain_chunk(model, *data)
    assert ours.dtype == torch.bfloat16
    assert _rms(ours.float() - exact) < min(0.04 * exact.std(), 2 * reference)


def test_casting_leaves_the_language_models_frequencies_exact():
    model = noisy_model(model_config(1, 8, 7, "pro", "published"))
    exact = model.backbone.llm.rotary_emb.inv_freq.clone()
    assert torch.equal(model.to(torch.bfloat16).backbone.llm.rotary_emb.inv_freq, exact)
    assert torch.equal(model.float().backbone.llm.rotary_emb.inv_freq, exact)


def _rms(error: torch.Tensor) -> torch.Tensor:
    return error.square().mean().sqrt()

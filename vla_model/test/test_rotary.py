"""Rotary positions: the published table and pairing, and what makes the sound one a rotation."""

import numpy as np
import pytest
import torch
from naive_heads import cos_sin

from vla_model.heads.rotary import Rotary, rotary_table


@pytest.mark.parametrize("dim", [16, 112])
def test_tables_follow_the_formula(dim):
    for precision, bf16 in (("float32", False), ("bfloat16", True)):
        cos, sin = rotary_table(600, dim, precision)
        for n in (0, 1, 7, 64, 255, 257, 512, 599):
            expected = np.array([cos_sin(n, j, dim, bf16) for j in range(dim)]).T
            # a cosine of float32 may differ by its last bit, which bfloat16 may turn into one of its own
            assert np.allclose(cos[n], expected[0], atol=2**-8 if bf16 else 1e-6)
            assert np.allclose(sin[n], expected[1], atol=2**-8 if bf16 else 1e-6)


def test_bfloat16_table_knows_only_even_positions_above_256():
    cos, _ = rotary_table(300, 112, "bfloat16")
    exact, _ = rotary_table(300, 112, "float32")
    assert torch.equal(cos[257], cos[256]) and torch.equal(cos[259], cos[260])
    assert not torch.equal(exact[257], exact[256])
    assert torch.equal(cos, cos.bfloat16().float())


def test_only_the_sound_pairing_is_a_rotation():
    z = torch.randn(3, 40, 16, dtype=torch.float64)
    halves, mixed = Rotary(40, 16, "halves").double(), Rotary(40, 16, "mixed").double()
    assert torch.allclose(halves(z).norm(dim=-1), z.norm(dim=-1), rtol=1e-5)
    assert not torch.allclose(mixed(z).norm(dim=-1), z.norm(dim=-1), rtol=1e-2)
    q, k = torch.randn(16, dtype=torch.float64), torch.randn(16, dtype=torch.float64)
    scores = halves(q.expand(40, 16)) @ halves(k.expand(40, 16)).T
    assert torch.allclose(scores[0, 5], scores[30, 35], rtol=1e-5), "the difference of positions alone counts"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_cast_to_bfloat16_and_back_leaves_the_table_exact(precision):
    rotary, exact = Rotary(300, 16, precision=precision), rotary_table(300, 16, precision)
    rotary.bfloat16()
    z = torch.randn(2, 300, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert rotary(z).dtype == torch.bfloat16
    rotary.float()
    assert torch.equal(rotary.cos, exact[0]) and torch.equal(rotary.sin, exact[1])
    moved = Rotary(300, 16, precision=precision).to("meta", torch.float64)
    assert moved.cos.device.type == moved.sin.device.type == "meta"

"""Heads of every type, small and with random weights, and features for them."""

import numpy as np
import torch
from naive_heads import Form
from tiny_model import tiny_config

from vla_model.adapter import HEADS
from vla_model.config import ModelConfig
from vla_model.features import Features
from vla_model.heads.contract import ActionHead

PUBLISHED = {
    "rotary_pairing": "mixed",
    "rotary_table": "bfloat16",
    "task_gate": "logits",
    "step_embedding": False,
    "stem_noise_std": 0.02,
}
FORMS = {"published": PUBLISHED, "sound": {}}
HEAD_TYPES = {
    "base": {"block": "base"},
    "pro": {},
    "discrete-base": {"type": "discrete", "block": "base", "bins": 16},
    "discrete-pro": {"type": "discrete", "bins": 16},
    "dual-arm": {"type": "dual_arm"},
}


def head_config(kind: str, form: str = "sound", cameras: int = 2, **changes) -> ModelConfig:
    """A tiny model with this head; `head` in `changes` goes on top of its options."""
    head = FORMS[form] | HEAD_TYPES[kind] | changes.pop("head", {})
    if kind == "dual-arm":
        A = changes.get("action_dim", 6)
        head = {"arm_dims": (A // 2, A - A // 2)} | head
    return tiny_config(cameras, head, **changes)


def random_head(config: ModelConfig, seed: int = 0) -> ActionHead:
    """In eval mode; nothing stays at 0 or 1, the gates least of all, nor the bins where they were."""
    torch.manual_seed(seed)
    head = HEADS[config.head.type](config).eval()
    with torch.no_grad():
        for name, value in head.named_parameters():
            value.copy_(torch.randn_like(value) * (0.5 if "gating" in name else value.shape[-1] ** -0.5))
        head.fit_range(*torch.sort(torch.randn(2, config.action_dim), dim=0).values)
    return head


def random_features(config: ModelConfig, size: int = 2, seed: int = 1) -> Features:
    g = torch.Generator().manual_seed(seed)

    def draw(tokens: int):
        return tuple(
            torch.randn(size, tokens, config.llm.width, generator=g) for _ in range(config.llm.layers + 1)
        )

    return Features(task_layers=draw(config.task_tokens), query_layers=draw(config.query_tokens))


def random_state(config: ModelConfig, size: int = 2) -> torch.Tensor:
    return torch.randn(size, config.state_dim, generator=torch.Generator().manual_seed(2))


def random_actions(config: ModelConfig, size: int = 2) -> torch.Tensor:
    shape = (size, config.horizon, config.action_dim)
    return torch.rand(shape, generator=torch.Generator().manual_seed(3)) * 2 - 1


def noise_of(config: ModelConfig) -> torch.Tensor:
    """In the shape the head takes: a seed per arm, or the stem's input."""
    D = config.llm.width
    dual = config.head.type == "dual_arm"
    shape = (2, config.horizon, D) if dual else (config.horizon, config.action_dim * D)
    return 0.02 * torch.randn(shape, generator=torch.Generator().manual_seed(4))


def naive_form(config: ModelConfig) -> Form:
    head = config.head
    return Form(
        heads=head.heads,
        base=head.block == "base",
        gate_on_logits=head.task_gate == "logits",
        mixed=head.rotary_pairing == "mixed",
        bf16_table=head.rotary_table == "bfloat16",
    )


def arrays(head: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: value.double().numpy() for name, value in head.state_dict().items()}

"""A naive model with the weights of one of ours: the same tensors where the layout is the same, copies elsewhere."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from bench.naive_vla.attention import inv_freq
from bench.naive_vla.language import rotary_table
from bench.naive_vla.model import NaiveVLA
from vla_model.adapter import VLAAdapter
from vla_model.config import ModelConfig

_TOWERS = {
    "featurizer": [  # transformers' names of DINOv2 -> ours here, which are timm's
        ("backbone.dinov2.encoder.layer.", "blocks."),
        ("attention.o_proj", "attn.proj"),
        ("attention.", "attn."),
        ("layer_scale", "ls"),
        ("lambda1", "scale_factor"),
        ("backbone.dinov2.embeddings.patch_embeddings.projection", "patch_embed"),
    ],
    "fused_featurizer": [
        ("backbone.siglip.encoder.layers.", "blocks."),
        ("layer_norm", "norm"),
        ("self_attn.out_proj", "attn.proj"),
        ("self_attn.", "attn."),
        ("backbone.siglip.embeddings.patch_embedding", "patch_embed"),
    ],
}


@torch.no_grad()
def naive_of(model: VLAAdapter) -> NaiveVLA:
    """The naive twin, on the model's device and in its precision; each tower's last block is random."""
    with torch.device("meta"):
        naive = NaiveVLA(model.config)
    ours = model.state_dict()
    weights = _language(ours, model.config) | _head(ours, model.config)
    weights |= _dinov2_embeddings(ours) | _siglip_embeddings(ours)
    for tower, names in _TOWERS.items():
        weights |= {f"vision_backbone.{tower}.{k}": v for k, v in _blocks(ours, names).items()}
    like = model.backbone.action_queries.weight
    for name, value in naive.state_dict().items():
        if name not in weights and re.search(r"featurizer\.blocks\.", name):
            weights[name] = torch.empty(value.shape, device=like.device, dtype=like.dtype).normal_(std=0.02)
    naive.load_state_dict(weights, assign=True)
    return naive.eval().requires_grad_(False)


def _language(ours: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    like = ours["backbone.action_queries.weight"]
    weights = {}
    for name, value in ours.items():
        if name.startswith(("backbone.projector.", "backbone.action_queries.")):
            weights[name.removeprefix("backbone.")] = value
        elif name.startswith("backbone.llm."):
            weights[name.replace("backbone.llm.", "language_model.")] = value
    for name, table in zip(("cos", "sin"), rotary_table(config.llm, like.dtype), strict=True):
        weights[f"language_model.{name}"] = table.to(like.device)
    return weights


def _head(ours: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    device = ours["backbone.action_queries.weight"].device
    table = inv_freq(config.llm.width // config.head.heads, getattr(torch, config.head.rotary_table)).to(
        device
    )
    blocks = "blocks" if config.head.type == "dual_arm" else "mlp_resnet_blocks"
    rope = {f"head.{blocks}.{i}.rope.inv_freq": table for i in range(config.llm.layers)}
    skipped = ("head.bin_low", "head.bin_high")
    return rope | {k: v for k, v in ours.items() if k.startswith("head.") and k not in skipped}


def _dinov2_embeddings(ours: dict[str, Tensor]) -> dict[str, Tensor]:
    """In transformers the class token has a position of its own: it is added here, once."""
    prefix = "backbone.dinov2.embeddings."
    positions, registers = ours[f"{prefix}position_embeddings"], ours[f"{prefix}register_tokens"]
    first = ours[f"{prefix}cls_token"] + positions[:, :1]
    return {
        "vision_backbone.featurizer.prefix": torch.cat([first, registers], dim=1),
        "vision_backbone.featurizer.pos_embed": positions[:, 1:],
    }


def _siglip_embeddings(ours: dict[str, Tensor]) -> dict[str, Tensor]:
    positions = ours["backbone.siglip.embeddings.position_embedding.weight"]
    return {
        "vision_backbone.fused_featurizer.pos_embed": positions[None],
        "vision_backbone.fused_featurizer.prefix": positions.new_zeros(1, 0, positions.shape[1]),
    }


def _blocks(ours: dict[str, Tensor], names: list[tuple[str, str]]) -> dict[str, Tensor]:
    """Patch embedding and blocks of one tower, q, k and v joined."""
    weights = {}
    for name, value in ours.items():
        if not name.startswith((names[0][0], names[-1][0])):
            continue
        for old, new in names:
            name = name.replace(old, new)
        weights[name] = value
    for name in [n for n in weights if ".q_proj." in n]:
        parts = [weights.pop(name.replace("q_proj", f"{part}_proj")) for part in "qkv"]
        weights[name.replace("q_proj", "qkv")] = torch.cat(parts)
    return weights

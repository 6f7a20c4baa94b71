"""Which tensor of a released checkpoint is which weight of ours.

A released checkpoint is three files. Here their tensors live in one table of names: those of model.safetensors
as they are, those of the two .pt files without "module." and behind "action_head." and "proprio_projector.".
Names and shapes: the reference's modeling_prismatic.py, action_heads.py, projectors.py; of the towers, timm 0.9.10.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vla_model.config import ModelConfig
from vla_model.weights import model_shapes, shapes

DINOV2, SIGLIP = "vision_backbone.featurizer", "vision_backbone.fused_featurizer"
HEAD, PROJECTOR = "action_head", "proprio_projector"
LM_HEAD = "language_model.lm_head.weight"  # tied to the embedding; never read, seldom stored

# ours -> theirs; the longer prefix first
_PREFIXES = {
    "backbone.llm.": "language_model.model.",
    "backbone.projector.": "projector.",
    "backbone.action_queries.": "action_queries.",
    "head.proprio_projector.": f"{PROJECTOR}.",
    "head.": f"{HEAD}.model.",
}
_DINOV2_LAYERS = {
    "norm1": "norm1",
    "attention.o_proj": "attn.proj",
    "norm2": "norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_SIGLIP_LAYERS = {
    "layer_norm1": "norm1",
    "self_attn.out_proj": "attn.proj",
    "layer_norm2": "norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}


@dataclass(frozen=True)
class Link:
    """Some of our weights and the released tensors that say the same.

    same            one to one
    qkv             ours q, k, v (W, ...), theirs stacked (3 W, ...)
    table           ours (n, W), theirs (1, n, W)
    class_position  ours: the class token and positions (1, 1 + n, W); theirs: the class token, its position
                    added, and the patches' positions (1, n, W) (timm's no_embed_class)
    """

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    kind: Literal["same", "qkv", "table", "class_position"] = "same"

    def to_ours(self, theirs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        match self.kind:
            case "qkv":
                return theirs[0].chunk(3)
            case "table":
                return (theirs[0].squeeze(0),)
            case "class_position":
                token, positions = theirs
                return token, torch.cat([torch.zeros_like(token), positions], dim=1)
        return theirs

    def to_theirs(self, ours: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        match self.kind:
            case "qkv":
                return (torch.cat(ours),)
            case "table":
                return (ours[0].unsqueeze(0),)
            case "class_position":
                token, positions = ours
                own, rest = positions[:, :1], positions[:, 1:]
                # adding a zero would lose the sign of a negative one
                return token if own.is_meta or not own.any() else token + own, rest
        return ours


def links(config: ModelConfig) -> list[Link]:
    """All weights of an L1 model, or of one with the derivatives' dual-arm head."""
    return [
        *_dinov2(config.vision.dinov2.depth - 1),
        *_siglip(config.vision.siglip.depth - 1),
        *_others(config),
    ]


def to_ours(theirs: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Our state dict; the released tensors that we do not read are left out."""
    return {
        name: value
        for link in links(config)
        for name, value in zip(link.ours, link.to_ours(tuple(theirs[n] for n in link.theirs)), strict=True)
    }


def to_theirs(ours: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """The released tensors that our state dict has; `unread_shapes` names the rest."""
    return {
        name: value
        for link in links(config)
        for name, value in zip(link.theirs, link.to_theirs(tuple(ours[n] for n in link.ours)), strict=True)
    }


def read_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Released tensors that our model reads."""
    ours = {name: torch.empty(shape, device="meta") for name, shape in model_shapes(config).items()}
    return shapes(to_theirs(ours, config))


def unread_shapes(config: ModelConfig, read: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Tensors that released files contain and nobody reads, with lm_head, which may be missing.

    The towers' last blocks, final norms and attention pooling; a Pro head's FiLM, when `read` is without it.
    """
    vision, llm = config.vision, config.llm
    unread = {}
    for prefix, tower in ((DINOV2, vision.dinov2), (SIGLIP, vision.siglip)):
        first, last = f"{prefix}.blocks.0.", f"{prefix}.blocks.{tower.depth - 1}."
        unread |= {name.replace(first, last): shape for name, shape in read.items() if name.startswith(first)}
        unread |= _linear(f"{prefix}.norm", tower.width)
    unread |= _attention_pool(f"{SIGLIP}.attn_pool", vision.siglip.width, vision.siglip.mlp)
    if (config.head.type, config.head.block) == ("l1", "pro") and not config.head.film:
        for i in range(llm.layers):
            film = f"{HEAD}.model.mlp_resnet_blocks.{i}.film_gen.0"
            unread |= _linear(film, 2 * llm.width, llm.width)
    return unread | {LM_HEAD: (llm.vocab, llm.width)}


def _linear(name: str, *weight: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": weight, f"{name}.bias": weight[:1]}


def _attention_pool(prefix: str, width: int, mlp: int) -> dict[str, tuple[int, ...]]:
    """Timm's AttentionPoolLatent."""
    return {
        f"{prefix}.latent": (1, 1, width),
        **_linear(f"{prefix}.q", width, width),
        **_linear(f"{prefix}.kv", 2 * width, width),
        **_linear(f"{prefix}.proj", width, width),
        **_linear(f"{prefix}.norm", width),
        **_linear(f"{prefix}.mlp.fc1", mlp, width),
        **_linear(f"{prefix}.mlp.fc2", width, mlp),
    }


def _dinov2(blocks: int) -> Iterator[Link]:
    ours, theirs = "backbone.dinov2.embeddings", DINOV2
    yield Link(
        (f"{ours}.cls_token", f"{ours}.position_embeddings"),
        (f"{theirs}.cls_token", f"{theirs}.pos_embed"),
        "class_position",
    )
    yield Link((f"{ours}.register_tokens",), (f"{theirs}.reg_token",))
    yield from _layer(f"{ours}.patch_embeddings.projection", f"{theirs}.patch_embed.proj")
    for i in range(blocks):
        own, other = f"backbone.dinov2.encoder.layer.{i}", f"{theirs}.blocks.{i}"
        yield from _block(own, other, "attention", _DINOV2_LAYERS)
        for n in (1, 2):
            yield Link((f"{own}.layer_scale{n}.lambda1",), (f"{other}.ls{n}.scale_factor",))


def _siglip(blocks: int) -> Iterator[Link]:
    ours = "backbone.siglip.embeddings"
    yield Link((f"{ours}.position_embedding.weight",), (f"{SIGLIP}.pos_embed",), "table")
    yield from _layer(f"{ours}.patch_embedding", f"{SIGLIP}.patch_embed.proj")
    for i in range(blocks):
        own, other = f"backbone.siglip.encoder.layers.{i}", f"{SIGLIP}.blocks.{i}"
        yield from _block(own, other, "self_attn", _SIGLIP_LAYERS)


def _block(ours: str, theirs: str, attention: str, layers: Mapping[str, str]) -> Iterator[Link]:
    for part in ("weight", "bias"):
        three = tuple(f"{ours}.{attention}.{x}_proj.{part}" for x in "qkv")
        yield Link(three, (f"{theirs}.attn.qkv.{part}",), "qkv")
    for own, other in layers.items():
        yield from _layer(f"{ours}.{own}", f"{theirs}.{other}")


def _layer(ours: str, theirs: str) -> Iterator[Link]:
    for part in ("weight", "bias"):
        yield Link((f"{ours}.{part}",), (f"{theirs}.{part}",))


def _others(config: ModelConfig) -> Iterator[Link]:
    """Language model, projectors, queries and head have the reference's names behind another prefix."""
    for name in model_shapes(config):
        prefix = next((p for p in _PREFIXES if name.startswith(p)), None)
        if prefix:
            yield Link((name,), (_PREFIXES[prefix] + name.removeprefix(prefix),))

"""The Prismatic backbone of VLA-Adapter: DINOv2 + SigLIP patches, a fused projector, Qwen2 with learned
action queries.

The sequence, for L prompt ids and P = patches x cameras (VLA-Adapter, modeling_prismatic.py):

    0                first prompt token (<|im_start|>)
    1 .. P           projected patches, camera after camera, row-major, no separators
    P+1 .. P+L-1     the rest of the prompt
    P+L ..           action queries

Attention is causal, so patches see neither the text nor later cameras, and whatever comes after the queries
is inert. The reference's stop token after the queries, and with `shifted_slices` the last query, are read by
nothing and not computed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    Qwen2Config,
    Qwen2Model,
    SiglipVisionConfig,
    SiglipVisionModel,
)
from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding

from vla_model.config import LLMConfig, ModelConfig, VisionConfig
from vla_model.features import Features

Layers = tuple[Tensor, ...]


class Projector(nn.Module):
    """Fused patch features to language-model tokens: three layers, erf GELU between them."""

    def __init__(self, vision_width: int, hidden: int, width: int):
        super().__init__()
        self.fc1 = nn.Linear(vision_width, hidden)
        self.fc2 = nn.Linear(hidden, width)
        self.fc3 = nn.Linear(width, width)

    def forward(self, patches: Tensor) -> Tensor:
        return self.fc3(F.gelu(self.fc2(F.gelu(self.fc1(patches)))))


class PrismaticBackbone(nn.Module):
    """Pixels of N cameras and prompt ids in, all-layer hidden states of task and query tokens out."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.dinov2 = _dinov2(config.vision)
        self.siglip = _siglip(config.vision)
        self.projector = Projector(config.vision.width, config.projector_hidden, config.llm.width)
        self.llm = _qwen2(config.llm)
        self.action_queries = nn.Embedding(config.action_queries, config.llm.width)
        nn.init.normal_(self.action_queries.weight, std=_init_std(config.llm.width))

    def forward(
        self, pixels: tuple[Tensor, Tensor], input_ids: Tensor, attention_mask: Tensor | None = None
    ) -> Features:
        """Features of B samples with N cameras.

        pixels: each tower's normalised images, (B, N, 3, s, s); input_ids (B, L), prompts padded on the
        right; attention_mask (B, L), 1 = valid, or None when no prompt is padded.
        """
        patches = self.patch_tokens(pixels)
        sequence, start = self._sequence(patches, input_ids, attention_mask)
        # a ready mask of None: plain causal attention, without a look at the data (padding comes last and is
        # inert)
        states = self.llm(
            inputs_embeds=sequence,
            attention_mask={"full_attention": None},
            use_cache=False,
            output_hidden_states=True,
        )
        task, query = self._slices(states.hidden_states, patches.shape[1], start)
        return Features(task_layers=task, query_layers=query, last_hidden=states.last_hidden_state)

    def patch_tokens(self, pixels: tuple[Tensor, Tensor]) -> Tensor:
        """Projected patches (B, N * patches, D) of all cameras, each tower in one pass."""
        B, N = pixels[0].shape[:2]
        dino = self.dinov2.encoder(self.dinov2.embeddings(pixels[0].flatten(0, 1))).last_hidden_state
        prefix = 1 + self.config.vision.dinov2.registers
        siglip = self.siglip.encoder(self.siglip.embeddings(pixels[1].flatten(0, 1))).last_hidden_state
        tokens = self.projector(torch.cat([dino[:, prefix:], siglip], dim=-1))
        return tokens.reshape(B, N * tokens.shape[1], -1)

    def _sequence(self, patches: Tensor, ids: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | int]:
        """Input embeddings and where each sample's action queries start (one number when all are alike)."""
        P, L = patches.shape[1], ids.shape[1]
        read = self.config.action_queries - self.config.shifted_slices
        text = self.llm.embed_tokens(ids)
        queries = self.action_queries.weight[:read].expand(len(ids), -1, -1)
        rest = torch.cat([text[:, 1:], queries], dim=1)
        if mask is None:
            return torch.cat([text[:, :1], patches, rest], dim=1), P + L
        # queries follow the sample's own last prompt token, padding goes to the end
        valid = torch.cat([mask[:, 1:].bool(), mask.new_ones(len(ids), read, dtype=torch.bool)], dim=1)
        order = torch.argsort((~valid).int(), dim=1, stable=True)
        rest = rest.gather(1, order.unsqueeze(-1).expand_as(rest))
        return torch.cat([text[:, :1], patches, rest], dim=1), P + mask.sum(1)

    def _slices(self, states: tuple[Tensor, ...], P: int, start: Tensor | int) -> tuple[Layers, Layers]:
        """Task and query tokens of every layer, as the head reads them."""
        shift, Q = int(self.config.shifted_slices), self.config.action_queries
        if isinstance(start, int):
            sizes = [1 - shift, P, start - P - 1, Q]  # split, not four slices: its gradient is one pass
            _, task, _, query = zip(*(h.split(sizes, dim=1) for h in states), strict=True)
        else:
            steps = torch.arange(Q, device=start.device) - shift
            index = (start[:, None] + steps).unsqueeze(-1).expand(-1, -1, states[0].shape[-1])
            task = tuple(h[:, 1 - shift : 1 - shift + P] for h in states)
            query = tuple(h.gather(1, index) for h in states)
        split = self.config.fixed_task_tokens
        if split is None or split == P:
            return task, query
        joined = [torch.cat(pair, dim=1) for pair in zip(task, query, strict=True)]
        return tuple(h[:, :split] for h in joined), tuple(h[:, split:] for h in joined)


def _init_std(width: int) -> float:
    """Spread of random weights: 0.02, published, at width 1024, and the same gain at other widths."""
    return 0.02 * (1024 / width) ** 0.5


def _dinov2(vision: VisionConfig) -> Dinov2WithRegistersModel:
    """All blocks but the last, whose output nobody reads; no final norm."""
    tower = vision.dinov2
    model = Dinov2WithRegistersModel(
        Dinov2WithRegistersConfig(
            image_size=vision.image_size,
            patch_size=vision.patch_size,
            hidden_size=tower.width,
            num_hidden_layers=tower.depth - 1,
            num_attention_heads=tower.heads,
            mlp_ratio=tower.mlp // tower.width,
            num_register_tokens=tower.registers,
            hidden_act="gelu",
            layer_norm_eps=1e-6,
            initializer_range=_init_std(tower.width),
        )
    )
    model.layernorm = nn.Identity()
    del model.embeddings.mask_token  # used in DINOv2's own pre-training alone
    return model


def _siglip(vision: VisionConfig) -> SiglipVisionModel:
    """All blocks but the last; no final norm, no pooling; erf GELU, as the released tower ran it."""
    tower = vision.siglip
    model = SiglipVisionModel(
        SiglipVisionConfig(
            image_size=vision.image_size,
            patch_size=vision.patch_size,
            hidden_size=tower.width,
            num_hidden_layers=tower.depth - 1,
            num_attention_heads=tower.heads,
            intermediate_size=tower.mlp,
            hidden_act="gelu",
            layer_norm_eps=1e-6,
            vision_use_head=False,
        )
    )
    model.post_layernorm = nn.Identity()
    return model


class _ExactRotary(Qwen2RotaryEmbedding):
    """Its frequencies stay float32 when the model is cast, as the reference's angles are: rounded to bfloat16 they
    turn the published model's position 600 by half a radian too far.
    """

    def _apply(self, fn, recurse: bool = True) -> _ExactRotary:
        super()._apply(fn, recurse)
        exact, _ = self.compute_default_rope_parameters(self.config)
        self.inv_freq = exact.to(self.inv_freq.device)
        return self


def _qwen2(llm: LLMConfig) -> Qwen2Model:
    config = Qwen2Config(
        vocab_size=llm.vocab,
        hidden_size=llm.width,
        intermediate_size=llm.mlp,
        num_hidden_layers=llm.layers,
        num_attention_heads=llm.heads,
        num_key_value_heads=llm.kv_heads,
        max_position_embeddings=llm.max_positions,
        rms_norm_eps=llm.rms_norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": llm.rope_theta},
        initializer_range=_init_std(llm.width),
    )
    model = Qwen2Model(config)
    model.rotary_emb = _ExactRotary(config)
    return model

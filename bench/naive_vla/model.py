"""The whole naive model: placeholders and masks, the sequence, slices of all hidden states, the head.

Restates predict_action and what it calls (modeling_prismatic.py), for one sample.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.naive_vla.dual_arm import DualArmHead
from bench.naive_vla.head import Head
from bench.naive_vla.language import Qwen2
from bench.naive_vla.vision import Projector, Vision
from vla_model.config import ModelConfig

IGNORE, ACTION_BEGIN, PLACEHOLDER, STOP = -100, 151386, 1, 2


class NaiveVLA(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.vision_backbone, self.projector = Vision(config), Projector(config)
        self.language_model = Qwen2(config.llm)
        self.action_queries = nn.Embedding(config.action_queries, config.llm.width)
        self.head = (DualArmHead if config.head.type == "dual_arm" else Head)(config)

    def forward(self, pixel_values: Tensor, input_ids: Tensor, proprio: Tensor) -> Tensor:
        """(1, 6 N, s, s), (1, L) and normalised (1, S) to the head's output (1, T, rows)."""
        return self.head(self.states(pixel_values, input_ids), proprio)

    def states(self, pixel_values: Tensor, input_ids: Tensor) -> Tensor:
        """What the head is given: (1, layers + 1, task and query tokens, D)."""
        L, Q, P = input_ids.shape[1], self.config.action_queries, self.config.patches
        ids, labels = self._placeholders(input_ids)
        embeddings = self.language_model.embed_tokens(ids)
        mask = labels > ACTION_BEGIN
        embeddings[~mask].reshape(1, -1, embeddings.shape[-1])  # for FiLM, which no recipe uses
        patches = self.projector(self.vision_backbone(pixel_values))
        embeddings = self._with_queries(embeddings.clone(), mask)
        sequence = torch.cat([embeddings[:, :1], patches, embeddings[:, 1:]], dim=1)
        attention_mask = torch.ones(sequence.shape[:2], dtype=torch.long, device=sequence.device)
        states, _logits, _cache = self.language_model(sequence, attention_mask)
        shift = int(self.config.shifted_slices)
        layers = []
        for h in states:
            task = h[:, 1 - shift : 1 - shift + P].unsqueeze(1)
            query = h[:, P + L - shift : P + L - shift + Q].unsqueeze(1)
            layers.append(torch.cat([task, query], dim=2))
        return torch.cat(layers, dim=1)

    def _placeholders(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Prompt, placeholders and stop token; labels that say which are which."""
        Q = self.config.action_queries
        labels = torch.full_like(input_ids, IGNORE)
        ids = torch.cat([input_ids, torch.full((1, Q), PLACEHOLDER).to(input_ids)], dim=1)
        ids = torch.cat([ids, torch.full((1, 1), STOP).to(input_ids)], dim=1)
        labels = torch.cat([labels, torch.full((1, Q + 1), ACTION_BEGIN + 1).to(input_ids)], dim=1)
        labels[:, -1] = STOP
        return ids, labels

    def _with_queries(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        queries = self.action_queries.weight.unsqueeze(0).repeat(1, 1, 1)
        placed = torch.zeros_like(embeddings)
        rows = torch.stack([torch.where(sample)[0] for sample in mask])
        placed[torch.arange(1, device=mask.device)[:, None].expand_as(rows), rows] = queries
        return torch.where(mask.unsqueeze(-1), placed, embeddings.clone())

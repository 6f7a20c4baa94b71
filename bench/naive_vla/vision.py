"""Both vision towers and the projector as timm 0.9.10 and PrismaticProjector run them, one image at a time."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla_model.config import ModelConfig, TowerConfig, VisionConfig


class Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        B, N, C = x.shape
        qkv = self.qkv(x).reshape(B, N, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        o = F.scaled_dot_product_attention(q, k, v)
        return self.proj(o.transpose(1, 2).reshape(B, N, C))


class Scale(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.scale_factor = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale_factor


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, tower: TowerConfig, scaled: bool):
        super().__init__()
        self.norm1 = nn.LayerNorm(tower.width, eps=1e-6)
        self.attn = Attention(tower.width, tower.heads)
        self.ls1 = Scale(tower.width) if scaled else nn.Identity()
        self.norm2 = nn.LayerNorm(tower.width, eps=1e-6)
        self.mlp = Mlp(tower.width, tower.mlp)
        self.ls2 = Scale(tower.width) if scaled else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class Tower(nn.Module):
    """All `depth` blocks run; the feature is what the last but one gives. `prefix` tokens have no position."""

    def __init__(self, vision: VisionConfig, tower: TowerConfig, prefix: int, scaled: bool):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, tower.width, vision.patch_size, vision.patch_size)
        self.pos_embed = nn.Parameter(torch.empty(1, vision.patches, tower.width))
        self.prefix = nn.Parameter(torch.empty(1, prefix, tower.width))
        self.blocks = nn.ModuleList(Block(tower, scaled) for _ in range(tower.depth))

    def forward(self, image: Tensor) -> Tensor:
        """(1, 3, s, s) -> (1, patches, width)."""
        x = self.patch_embed(image).flatten(2).transpose(1, 2) + self.pos_embed
        prefix = self.prefix.shape[1]
        if prefix:
            x = torch.cat([self.prefix.expand(len(x), -1, -1), x], dim=1)
        outputs = []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        return outputs[-2][:, prefix:]


class Projector(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        D = config.llm.width
        self.fc1 = nn.Linear(config.vision.width, config.projector_hidden)
        self.fc2, self.fc3 = nn.Linear(config.projector_hidden, D), nn.Linear(D, D)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc3(self.act(self.fc2(self.act(self.fc1(x)))))


class Vision(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        vision = config.vision
        self.featurizer = Tower(vision, vision.dinov2, 1 + vision.dinov2.registers, scaled=True)
        self.fused_featurizer = Tower(vision, vision.siglip, 0, scaled=False)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(1, 6 N, s, s) -> (1, N patches, fused width)."""
        patches = []
        for image in torch.split(pixel_values, 6, dim=1):
            dinov2, siglip = torch.split(image, 3, dim=1)
            patches.append(torch.cat([self.featurizer(dinov2), self.fused_featurizer(siglip)], dim=2))
        return torch.cat(patches, dim=1)

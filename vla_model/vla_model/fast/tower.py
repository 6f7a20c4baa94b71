"""Both vision towers and the projector: resized images in, the language model's patch tokens out.

Equals Preprocessor.normalize and PrismaticBackbone.patch_tokens. Folded: q, k and v into one map; LayerNorm's and
LayerScale's weights into the maps beside them; pixels' normalisation into the patch embedding, which is one matrix
product for both towers and all cameras. With u a pixel's level 0 .. 255:

    (u / 255 - mean) / std = (u - 128) / (255 std) + (128 / 255 - mean) / std

u - 128 is a whole number that bfloat16 holds exactly, and what is added stays small, so that the folded form rounds
less than the plain one, which rounds each normalised pixel.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla_model.backbones.prismatic import PrismaticBackbone
from vla_model.config import TowerConfig
from vla_model.fast.folding import Affine, exact, joined

EPS = 1e-6
MIDDLE = 128.0
ALIGNED = 8  # numbers: a GPU's fast bfloat16 products want rows that begin at a multiple of 16 bytes


class Block(NamedTuple):
    qkv: Affine
    proj: Affine
    fc1: Affine
    fc2: Affine


class Vision:
    """`vision(resized, out)` writes the patch tokens (P, D) of resized uint8 (N, 3, s, s) into `out`."""

    def __init__(self, backbone: PrismaticBackbone, device: torch.device, dtype: torch.dtype):
        config = backbone.config
        vision, self._cameras = config.vision, len(config.camera_names)
        self._side, self._patch = vision.image_size // vision.patch_size, vision.patch_size
        self._heads = vision.dinov2.heads, vision.siglip.heads
        self._blocks = _dinov2_blocks(backbone, device, dtype), _siglip_blocks(backbone, device, dtype)
        dino, siglip = backbone.dinov2.embeddings, backbone.siglip.embeddings
        positions = exact(dino.position_embeddings, device)[0]
        first = exact(dino.cls_token, device)[0] + positions[:1]
        prefix = torch.cat([first, exact(dino.register_tokens, device)[0]])
        d = _patch_map(dino.patch_embeddings.projection, vision.dinov2, device)
        s = _patch_map(siglip.patch_embedding, vision.siglip, device)
        columns = d.weight.shape[1]
        padding = -columns % ALIGNED
        self._embed = F.pad(torch.cat([d.weight, s.weight]), (0, padding)).to(dtype)
        self._positions = (
            (positions[1:] + d.bias).to(dtype),
            (exact(siglip.position_embedding.weight, device) + s.bias).to(dtype),
        )
        projector = backbone.projector
        self._fc1, self._fc2, self._fc3 = (
            Affine.of(fc, device).to(dtype) for fc in (projector.fc1, projector.fc2, projector.fc3)
        )
        self._prefix = len(prefix)
        # written anew by every call: pixels by patch, and DINOv2's tokens behind its prefix, which never changes
        self._pixels = torch.zeros(config.patches, columns + padding, device=device, dtype=dtype)
        self._levels = self._pixels[:, :columns].view(
            self._cameras, self._side, self._side, 3, self._patch, self._patch
        )
        self._tokens = prefix.to(dtype).repeat(self._cameras, 1, 1)
        self._tokens = F.pad(self._tokens, (0, 0, 0, vision.patches))

    def __call__(self, resized: Tensor, out: Tensor) -> None:
        dino, siglip = (
            tower(x, blocks, heads)
            for x, blocks, heads in zip(self._embedded(resized), self._blocks, self._heads, strict=True)
        )
        x = torch.cat([dino[:, self._prefix :], siglip], dim=-1).flatten(0, 1)
        x = F.gelu(F.linear(F.gelu(F.linear(x, *self._fc1)), *self._fc2))
        torch.addmm(self._fc3.bias, x, self._fc3.weight.T, out=out)

    def _embedded(self, resized: Tensor) -> tuple[Tensor, Tensor]:
        """Each tower's first tokens (N, n, w)."""
        N, g, p = self._cameras, self._side, self._patch
        by_patch = resized.view(N, 3, g, p, g, p).permute(0, 2, 4, 1, 3, 5)
        torch.sub(by_patch, MIDDLE, out=self._levels)
        both = F.linear(self._pixels, self._embed).view(N, g * g, -1)
        d, s = self._positions
        dino, siglip = both.split([d.shape[-1], s.shape[-1]], dim=-1)
        torch.add(dino, d, out=self._tokens[:, self._prefix :])
        return self._tokens, siglip + s


def tower(x: Tensor, blocks: list[Block], heads: int) -> Tensor:
    """(N, n, w) through pre-norm blocks: attention of all tokens within an image, then the MLP."""
    N, n, w = x.shape
    for block in blocks:
        qkv = F.linear(F.layer_norm(x, (w,), eps=EPS), *block.qkv)
        q, k, v = qkv.view(N, n, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind()
        o = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(N, n, w)
        x = F.linear(o, *block.proj).add_(x)
        hidden = F.gelu(F.linear(F.layer_norm(x, (w,), eps=EPS), *block.fc1))
        x = F.linear(hidden, *block.fc2).add_(x)
    return x


def _patch_map(conv: nn.Conv2d, tower: TowerConfig, device: torch.device) -> Affine:
    """The patch embedding on levels less 128, (w, 3 p p) with columns in the order (channel, row, column)."""
    weight, bias = exact(conv.weight, device), exact(conv.bias, device)
    mean, std = (torch.tensor(v, device=device).view(3, 1, 1) for v in (tower.mean, tower.std))
    offset = (weight * ((MIDDLE / 255 - mean) / std)).sum((1, 2, 3))
    return Affine((weight / (255 * std)).flatten(1), bias + offset)


def _dinov2_blocks(backbone: PrismaticBackbone, device: torch.device, dtype: torch.dtype) -> list[Block]:
    return [
        Block(
            _qkv(layer.attention, device).after(layer.norm1).to(dtype),
            _scaled(layer.attention.o_proj, layer.layer_scale1, device).to(dtype),
            Affine.of(layer.mlp.fc1, device).after(layer.norm2).to(dtype),
            _scaled(layer.mlp.fc2, layer.layer_scale2, device).to(dtype),
        )
        for layer in backbone.dinov2.encoder.layer
    ]


def _siglip_blocks(backbone: PrismaticBackbone, device: torch.device, dtype: torch.dtype) -> list[Block]:
    return [
        Block(
            _qkv(layer.self_attn, device).after(layer.layer_norm1).to(dtype),
            Affine.of(layer.self_attn.out_proj, device).to(dtype),
            Affine.of(layer.mlp.fc1, device).after(layer.layer_norm2).to(dtype),
            Affine.of(layer.mlp.fc2, device).to(dtype),
        )
        for layer in backbone.siglip.encoder.layers
    ]


def _qkv(attention: nn.Module, device: torch.device) -> Affine:
    return joined([Affine.of(attention.get_submodule(f"{name}_proj"), device) for name in "qkv"])


def _scaled(linear: nn.Linear, layer_scale: nn.Module, device: torch.device) -> Affine:
    return Affine.of(linear, device).times(exact(layer_scale.lambda1, device))

"""The two vision towers as timm 0.9.10 evaluates them (vision_transformer.py), straight from released tensors."""

import torch
import torch.nn.functional as F
from torch import Tensor

HEADS = 16


def patches(weights: dict[str, Tensor], tower: str, pixels: Tensor, blocks: int) -> Tensor:
    """Patch tokens (B, n, W) after the first `blocks` blocks of images (B, 3, s, s); no final norm."""
    w = {
        name.removeprefix(f"{tower}."): value
        for name, value in weights.items()
        if name.startswith(f"{tower}.")
    }
    kernel = w["patch_embed.proj.weight"]
    x = (
        F.conv2d(pixels, kernel, w["patch_embed.proj.bias"], stride=kernel.shape[-1])
        .flatten(2)
        .transpose(1, 2)
    )
    x = x + w["pos_embed"]  # of patches alone
    prefix = [w[name].expand(len(x), -1, -1) for name in ("cls_token", "reg_token") if name in w]
    x = torch.cat([*prefix, x], dim=1)
    for i in range(blocks):
        x = _block(x, w, f"blocks.{i}")
    return x[:, sum(p.shape[1] for p in prefix) :]


def _block(x: Tensor, w: dict[str, Tensor], name: str) -> Tensor:
    x = x + w.get(f"{name}.ls1.scale_factor", 1.0) * _attention(
        _norm(x, w, f"{name}.norm1"), w, f"{name}.attn"
    )
    hidden = F.gelu(_linear(_norm(x, w, f"{name}.norm2"), w, f"{name}.mlp.fc1"))
    return x + w.get(f"{name}.ls2.scale_factor", 1.0) * _linear(hidden, w, f"{name}.mlp.fc2")


def _attention(x: Tensor, w: dict[str, Tensor], name: str) -> Tensor:
    B, n, W = x.shape
    q, k, v = _linear(x, w, f"{name}.qkv").reshape(B, n, 3, HEADS, W // HEADS).permute(2, 0, 3, 1, 4)
    scores = (q @ k.transpose(-2, -1)) * (W // HEADS) ** -0.5
    return _linear((scores.softmax(dim=-1) @ v).transpose(1, 2).reshape(B, n, W), w, f"{name}.proj")


def _linear(x: Tensor, w: dict[str, Tensor], name: str) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def _norm(x: Tensor, w: dict[str, Tensor], name: str) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], eps=1e-6)

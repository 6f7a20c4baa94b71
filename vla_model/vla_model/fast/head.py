"""The head: hidden states of all layers to a normalised chunk, base, Pro or dual-arm, regression or bins.

Equals `sample` of L1Head, DiscreteHead and DualArmHead (equations in heads/). R = arms x H rows of x.

Ahead of the blocks, for all of them at once, as one batched product each: keys and values of query and task tokens,
turned once. They lie in one buffer (layers, rows, [q, k, v], arms, D), rows = [x, query tokens, task tokens]; a
block writes q, k and v of x into the first R rows, of its own layer, and attends to the rows as they lie. The first
block's x is a constant of the weights, and so are its q, k and v: they are in the buffer from the start.

A block then is: product, rotary (3 operations; none without positions), attention (1, or 3 where the gate is on the
output), product, residual, norm, product with ReLU: 9 or 11 operations in a Pro block, 6 or 8 in a base block, where
the reference launches 69 and 25.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from vla_model.config import ModelConfig
from vla_model.fast.folding import Affine, exact
from vla_model.fast.head_weights import BlockWeights, block_weights
from vla_model.fast.rotary import Table, add_partner, head_table, turn
from vla_model.heads.bins import centres
from vla_model.heads.contract import ActionHead

EPS = 1e-5


class PerArm:
    """x (arms, n, columns) -> (arms, n, rows): each arm's own map; plain products where there is one arm."""

    def __init__(self, maps: list[Affine], dtype: torch.dtype):
        self.one = len(maps) == 1
        self.weight = torch.stack([m.weight for m in maps]).to(dtype).transpose(1, 2)
        self.bias = torch.stack([m.bias for m in maps]).to(dtype).unsqueeze(1)

    def __call__(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        if self.one:
            flat = None if out is None else out[0]
            return torch.addmm(self.bias[0, 0], x[0], self.weight[0], out=flat).unsqueeze(0)
        return torch.baddbmm(self.bias, x, self.weight, out=out)

    def relu(self, x: Tensor) -> Tensor:
        if self.one:  # on CUDA, one kernel
            return torch._addmm_activation(self.bias[0, 0], x[0], self.weight[0]).unsqueeze(0)
        return torch.baddbmm(self.bias, x, self.weight).relu_()


class FastHead:
    """`head(task, query)` -> (H, A) float32, from what Sequence.read gives."""

    def __init__(self, head: ActionHead, config: ModelConfig, device: torch.device, dtype: torch.dtype):
        dual = config.head.type == "dual_arm"
        D, H, self._layers = config.llm.width, config.horizon, config.llm.layers
        self._arms, self._heads, self._joint = 1 + dual, config.head.heads, config.head.gate_on_logits
        self._R, self._K_a, K_t = self._arms * H, config.query_tokens // self._arms + 1, config.task_tokens
        blocks = head.blocks if dual else head.mlp_resnet_blocks
        plain = (block_weights(block, config.head.rotary_pairing, device) for block in blocks)
        self._take(list(plain), dtype)
        self._turned = dual or config.head.block == "pro"  # the rows of x are; and, in a Pro head, all keys
        self._tables(head_table(head.rotary, device) if self._turned else None, H, dual, K_t, dtype)
        rows = self._R + self._K_a + K_t
        self._kept = torch.zeros(self._layers, rows, 3, self._arms, D, device=device, dtype=dtype)
        self._scratch = torch.empty(self._R, 3 * self._arms * D, device=device, dtype=dtype)
        self._q, self._sources = self._views()
        self._x0 = _first_rows(head, config, device).to(dtype)
        self._own(0, self._x0)
        self._output = _output(head, config, device, dtype)

    def __call__(self, task: Tensor, query: Tensor) -> Tensor:
        self._condition(task, query)
        x = self._x0
        for i in range(self._layers):
            if i:
                self._own(i, x)
            y = self._o[i](self._attended(i)).add_(x)
            x = self._ffn[i].relu(F.layer_norm(y, y.shape[-1:], eps=EPS))
        return self._output(F.layer_norm(x, x.shape[-1:], eps=EPS))

    def _take(self, blocks: list[BlockWeights], dtype: torch.dtype) -> None:
        self._own_maps, self._o, self._ffn = (
            [PerArm(getattr(block, name), dtype) for block in blocks] for name in ("own", "o", "ffn")
        )
        queries = [m for block in blocks for m in block.query]
        self._query = PerArm(queries, dtype)  # "arms" are the layers' arms, one after the other
        k = [[torch.cat([m[j] for m in block.task_k]) for j in (0, 1)] for block in blocks]
        self._task_k = PerArm([Affine(*m) for m in k], dtype)
        v = [torch.cat([m.weight for m in block.task_v]) for block in blocks]
        self._task_v = torch.stack(v).to(dtype).transpose(1, 2)

    def _tables(self, table: Table | None, H: int, dual: bool, K_t: int, dtype: torch.dtype) -> None:
        """Cosines and sines of all rows at once; values are turned by nothing (1, 0)."""
        self._x_table = self._query_table = self._task_table = None
        if table is None:
            return
        cos, sin = (t.to(dtype) for t in table)
        one, zero = torch.ones_like(cos), torch.zeros_like(sin)
        # (R, [q, k, v], 1, 2, d/2): the steps of a chunk are one time for all arms
        x_cos = torch.stack([cos, cos, one], dim=1)[:H].unsqueeze(2)
        self._x_table = tuple(t.repeat(self._arms, 1, 1, 1, 1) for t in (x_cos, sin[:H, None, None]))
        if not dual:  # (K_a, [k, v], 1, 2, d/2) and (K_t, 1, 2, d/2)
            pair = torch.stack([cos, one], dim=1), torch.stack([sin, zero], dim=1)
            self._query_table = tuple(t[: self._K_a].unsqueeze(2) for t in pair)
            self._task_table = cos[:K_t].unsqueeze(1), sin[:K_t].unsqueeze(1)

    def _views(self) -> tuple[list[Tensor], list[list[tuple[Tensor, Tensor]]]]:
        """Per block, q (arms, heads, H, d) and pairs of k and v (arms, heads, rows, d): one, or task tokens apart."""
        by_head = self._kept.unflatten(-1, (self._heads, -1))
        q = by_head[:, : self._R, 0].unflatten(1, (self._arms, -1)).diagonal(dim1=1, dim2=3)
        q = q.permute(0, 4, 2, 1, 3)  # (layers, arms, heads, H, d): an arm's own queries
        k, v = (by_head[:, :, i].permute(0, 2, 3, 1, 4) for i in (1, 2))
        cut = self._R + self._K_a
        parts = (
            [(k, v)]
            if self._joint
            else [(k[..., :cut, :], v[..., :cut, :]), (k[..., cut:, :], v[..., cut:, :])]
        )
        return list(q), [[(k[i], v[i]) for k, v in parts] for i in range(self._layers)]

    def _condition(self, task: Tensor, query: Tensor) -> None:
        """Keys and values of task tokens (layers, K_t, D) and of query and state tokens (layers, arms K_a, D)."""
        first, cut = self._R, self._R + self._K_a
        kept = self._kept.unflatten(-1, (self._heads, 2, -1))
        z = self._query(query.view(-1, self._K_a, query.shape[-1]))
        z = z.view(self._layers, self._arms, self._K_a, 2, self._heads, 2, -1)
        out = kept[:, first:cut, 1:].permute(
            0, 3, 1, 2, 4, 5, 6
        )  # (layers, arms, K_a, [k, v], heads, 2, d/2)
        if self._query_table is None:
            out.copy_(z)
        else:
            turn(z, self._query_table, out)
        keys, values = (self._kept[:, cut:, i].flatten(2) for i in (1, 2))
        if self._task_table is None:
            self._task_k(task, out=keys)
        else:
            z = self._task_k(task)
            turn(z.view(*z.shape[:2], self._heads, 2, -1), self._task_table, kept[:, cut:, 1, 0])
        torch.bmm(task, self._task_v, out=values)

    def _own(self, i: int, x: Tensor) -> None:
        """q, k and v of x (arms, H, D), into the buffer."""
        rows = self._kept[i, : self._R]
        if self._x_table is None:
            self._own_maps[i](x, out=rows.view(self._arms, -1, rows[0].numel()))
            return
        z = self._own_maps[i](x, out=self._scratch.view(self._arms, -1, rows[0].numel()))
        z, out = (t.view(self._R, 3, self._arms * self._heads, 2, -1) for t in (z, rows))
        cos, sin = self._x_table
        torch.mul(z, cos, out=out)
        add_partner(z[:, :2], sin, out[:, :2])

    def _attended(self, i: int) -> Tensor:
        """(arms, H, D): attention of block i, before the output map."""
        first, *rest = (F.scaled_dot_product_attention(self._q[i], k, v) for k, v in self._sources[i])
        for o in rest:
            first = first.add_(o)
        return first.transpose(1, 2).flatten(2)


def _first_rows(head: ActionHead, config: ModelConfig, device: torch.device) -> Tensor:
    """What the stem makes of its zeros, a constant (arms, H, D)."""
    shape = (1 + (config.head.type == "dual_arm"), config.horizon, config.llm.width)
    rows = torch.zeros(shape, device=device)
    if config.head.type != "dual_arm":  # LayerNorm gives its shift for zeros
        fc1 = Affine.of(head.fc1, device)
        rows = rows + F.relu(F.linear(exact(head.layer_norm1.bias, device), *fc1))
    return rows if head.step_embedding is None else rows + exact(head.step_embedding, device)


def _output(
    head: ActionHead, config: ModelConfig, device: torch.device, dtype: torch.dtype
) -> Callable[[Tensor], Tensor]:
    """From the last rows (arms, H, D), normed but for the norm's weights, to actions (H, A) float32."""
    if config.head.type == "dual_arm":
        arms = [(head.fc2_L, head.layer_norm_L), (head.fc2_R, head.layer_norm_R)]
    else:
        arms = [(head.fc2, head.layer_norm2)]
    maps = [Affine.of(fc2, device).after(norm).to(dtype) for fc2, norm in arms]

    def numbers(x: Tensor) -> Tensor:
        return torch.cat([F.linear(rows, *m) for rows, m in zip(x, maps, strict=True)], dim=-1).float()

    if config.head.type != "discrete":
        return numbers
    values = centres(exact(head.bin_low, device), exact(head.bin_high, device), head.bins)
    if head.decoding == "expectation":
        return lambda x: (numbers(x).view(-1, *values.shape).softmax(-1) * values).sum(-1)
    # the values of all dimensions in one row, and where each dimension's begin
    starts = torch.arange(len(values), device=device) * head.bins
    flat = values.flatten()
    return lambda x: flat.take(numbers(x).view(-1, *values.shape).argmax(-1) + starts)

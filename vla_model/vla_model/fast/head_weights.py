"""A block's weights as the fast head wants them, from the plain blocks of every head.

An arm's rows are read by both arms; say that it produces, for each arm that consumes, a query, a key and a value (for
the other arm no query is needed: zeros). The single-arm heads are the case of one arm. Folded in:

- the gate: into the task keys ("logits"), or into the task values ("output");
- the bias of the task values, which every row of the softmax over them passes on whole: into the output map's. In
  the joint softmax ("logits") the other values' biases become what they have more;
- the published rotary pairing: into the order of the rows of q and k (rotary.py);
- LayerNorm's weights: into the map after it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vla_model.fast.folding import Affine, exact, joined
from vla_model.fast.rotary import halves
from vla_model.heads.bridge import BaseBlock, ProBlock
from vla_model.heads.inter_arm import ARMS, InterArmBlock


@dataclass(frozen=True)
class BlockWeights:
    """One entry per arm, float32."""

    own: list[Affine]  # of the producing arm: rows [q, k, v] x consumers x D
    query: list[Affine]  # rows [k, v] x D
    task_k: list[Affine]
    task_v: list[Affine]
    o: list[Affine]
    ffn: list[Affine]


@dataclass
class _Arm:
    """One consuming arm's maps; `own` are pairs of k and v for every producer."""

    q: Affine
    own: list[tuple[Affine, Affine]]
    query: tuple[Affine, Affine]
    task: tuple[Affine, Affine]
    o: Affine
    ffn: Affine


def block_weights(block: nn.Module, pairing: str, device: torch.device) -> BlockWeights:
    if isinstance(block, InterArmBlock):
        arms, gate = [_dual(block, arm, device) for arm in ARMS], block.gating
    else:
        arms, gate = [_single(block, device)], block.gating_factor
    gate = torch.tanh(exact(gate, device))
    arms = [_folded(arm, gate, block.gate_on_logits, block.heads, pairing) for arm in arms]
    return BlockWeights(
        own=[_produced(arms, producer) for producer in range(len(arms))],
        query=[joined(arm.query) for arm in arms],
        task_k=[arm.task[0] for arm in arms],
        task_v=[arm.task[1] for arm in arms],
        o=[arm.o for arm in arms],
        ffn=[arm.ffn for arm in arms],
    )


def _single(block: ProBlock | BaseBlock, device: torch.device) -> _Arm:
    names = ("k_self", "v_self", "k_adapter", "v_adapter", "k_task", "v_task")
    if isinstance(block, BaseBlock):
        names = ("k_proj", "v_proj") * 3
    k_s, v_s, k_a, v_a, k_t, v_t = (Affine.of(getattr(block, name), device) for name in names)
    q, o = Affine.of(block.q_proj, device), Affine.of(block.o_proj, device)
    return _Arm(q, [(k_s, v_s)], (k_a, v_a), (k_t, v_t), o, _ffn(block.ffn, device))


def _dual(block: InterArmBlock, arm: str, device: torch.device) -> _Arm:
    def pair(source: str) -> tuple[Affine, Affine]:
        return tuple(Affine.of(getattr(block, f"{kind}_{arm}_{source}"), device) for kind in "kv")

    q, o = (Affine.of(getattr(block, f"{name}_{arm}"), device) for name in "qo")
    own = [pair("self" if producer == arm else "inter") for producer in ARMS]
    return _Arm(q, own, pair("adap"), pair("task"), o, _ffn(getattr(block, f"ffn_{arm}"), device))


def _ffn(ffn: nn.Sequential, device: torch.device) -> Affine:
    return Affine.of(ffn[1], device).after(ffn[0])


def _folded(arm: _Arm, gate: Tensor, on_logits: bool, heads: int, pairing: str) -> _Arm:
    D = len(arm.q.weight)
    rows = halves(heads, D // heads, pairing, gate.device)
    pairs = [(k.rows(rows), v) for k, v in (*arm.own, arm.query, arm.task)]
    *own, query, (k_t, v_t) = pairs
    if on_logits:
        k_t, passed = k_t.times(gate), v_t.bias
        *own, query = ((k, v.plus(-passed)) for k, v in (*own, query))
    else:
        v_t = v_t.times(gate)
        passed = v_t.bias
    o = arm.o.plus(arm.o.weight @ passed)
    return _Arm(arm.q.rows(rows), own, query, (k_t, Affine(v_t.weight)), o, arm.ffn)


def _produced(arms: list[_Arm], producer: int) -> Affine:
    """Rows [q of each consumer, k of each, v of each], from the rows of one arm."""
    nothing = Affine(torch.zeros_like(arms[0].q.weight), torch.zeros_like(arms[0].q.bias))
    q = [arm.q if consumer == producer else nothing for consumer, arm in enumerate(arms)]
    k, v = zip(*(arm.own[producer] for arm in arms), strict=True)
    return joined([*q, *k, *v])

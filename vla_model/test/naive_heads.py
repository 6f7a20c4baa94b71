"""The action heads by their equations, a second time: NumPy in float64, one sample, loops, nothing of vla_model.

Weights are a head's state dict as arrays. `Form` says which of the published quirks apply.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np


@dataclass(frozen=True)
class Form:
    heads: int
    base: bool = False  # the base block: shared projections, no rotary positions
    gate_on_logits: bool = False
    mixed: bool = False  # the published rotary pairing
    bf16_table: bool = False


def as_bf16(x):
    """Round a float to the nearest bfloat16, ties to even, by its bits."""
    bits = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16
    return rounded.astype(np.uint32).view(np.float32).astype(np.float64)


@cache
def cos_sin(n, j, dim, bf16):
    """Of position n and column j, dim columns in all."""
    theta = np.float32(1.0) / np.float32(10000.0) ** np.float32(2 * (j % (dim // 2)) / dim)
    if not bf16:
        return np.cos(np.float32(n) * theta), np.sin(np.float32(n) * theta)
    a = np.float32(as_bf16(as_bf16(n) * as_bf16(theta)))
    return as_bf16(np.cos(a)), as_bf16(np.sin(a))


def turn(z, form):
    """Rotate (n, d) by its row index, column by column."""
    n, dim = z.shape
    out = np.empty_like(z)
    for j in range(dim):
        c, s = np.array([cos_sin(i, j, dim, form.bf16_table) for i in range(n)]).T
        if form.mixed:
            partner = -z[:, j + 1] if j % 2 == 0 else z[:, j - 1]
        else:
            partner = -z[:, j + dim // 2] if j < dim // 2 else z[:, j - dim // 2]
        out[:, j] = z[:, j] * c + partner * s
    return out


def linear(w, name, x):
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def layer_norm(w, name, x):
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def softmax(logits):
    e = np.exp(logits - np.max(logits))
    return e / e.sum()


def attend(q, own, task, gate, form):
    """Rows (T, d) for q (T, d); own = (keys, values) of whatever is not gated, task = those of h_t."""
    rows, scale = [], 1 / math.sqrt(q.shape[1])
    for row in q:
        s, s_t = own[0] @ row * scale, task[0] @ row * scale
        if form.gate_on_logits:
            weights = softmax(np.concatenate([s, gate * s_t]))
            rows.append(weights @ np.concatenate([own[1], task[1]]))
        else:
            rows.append(softmax(s) @ own[1] + gate * (softmax(s_t) @ task[1]))
    return np.stack(rows)


def bridge_block(w, x, h_t, h_a, p, form):
    """One block of a single-arm head: x (T, D), h_t (K_t, D), h_a (K_a, D), p (1, D)."""
    a, gate = np.concatenate([h_a, p]), math.tanh(w["gating_factor"][0])
    k_names = ["k_proj"] * 3 if form.base else ["k_self", "k_adapter", "k_task"]
    v_names = ["v_proj"] * 3 if form.base else ["v_self", "v_adapter", "v_task"]
    q_all = linear(w, "q_proj", x)
    k_all = [linear(w, name, z) for name, z in zip(k_names, (x, a, h_t), strict=True)]
    v_all = [linear(w, name, z) for name, z in zip(v_names, (x, a, h_t), strict=True)]
    outputs = []
    for cut in cuts(x.shape[1], form.heads):
        q, k_s, k_a, k_t = (z[:, cut] if form.base else turn(z[:, cut], form) for z in (q_all, *k_all))
        v_s, v_a, v_t = (z[:, cut] for z in v_all)
        own = np.concatenate([k_s, k_a]), np.concatenate([v_s, v_a])
        outputs.append(attend(q, own, (k_t, v_t), gate, form))
    y = linear(w, "o_proj", np.concatenate(outputs, axis=1)) + x
    return np.maximum(linear(w, "ffn.1", layer_norm(w, "ffn.0", y)), 0)


def inter_arm_block(w, x, h_t, h_a, p, form):
    """One block of the dual-arm head: x and h_a are {"L": ..., "R": ...}; returns the new x."""
    gate, new = math.tanh(w["gating"][0]), {}
    for arm, other in (("L", "R"), ("R", "L")):
        sources = {"self": x[arm], "adap": np.concatenate([h_a[arm], p]), "inter": x[other], "task": h_t}
        q_all = linear(w, f"q_{arm}", x[arm])
        k_all = {source: linear(w, f"k_{arm}_{source}", z) for source, z in sources.items()}
        v_all = {source: linear(w, f"v_{arm}_{source}", z) for source, z in sources.items()}
        outputs = []
        for cut in cuts(x[arm].shape[1], form.heads):
            q, k_s, k_i = (turn(z[:, cut], form) for z in (q_all, k_all["self"], k_all["inter"]))
            keys = np.concatenate([k_s, k_all["adap"][:, cut], k_i])
            values = np.concatenate([v_all[source][:, cut] for source in ("self", "adap", "inter")])
            task = k_all["task"][:, cut], v_all["task"][:, cut]
            outputs.append(attend(q, (keys, values), task, gate, form))
        y = linear(w, f"o_{arm}", np.concatenate(outputs, axis=1)) + x[arm]
        new[arm] = np.maximum(linear(w, f"ffn_{arm}.1", layer_norm(w, f"ffn_{arm}.0", y)), 0)
    return new


def cuts(width, heads):
    d = width // heads
    return [slice(h * d, (h + 1) * d) for h in range(heads)]


def child(w, prefix):
    return {name.removeprefix(prefix): value for name, value in w.items() if name.startswith(prefix)}


def state_token(w, state):
    hidden = linear(w, "proprio_projector.fc1", state[None])
    gelu = np.vectorize(lambda v: 0.5 * v * (1 + math.erf(v / math.sqrt(2))))
    return linear(w, "proprio_projector.fc2", gelu(hidden))


def single_arm_head(w, form, task, query, state, noise):
    """Output (T, outputs) of a base or Pro trunk; task and query hold (K, D) per layer, noise is (T, A D)."""
    x = np.maximum(linear(w, "fc1", layer_norm(w, "layer_norm1", noise)), 0)
    x = x + w.get("step_embedding", 0)
    for i in range(len(task) - 1):
        own = child(w, f"mlp_resnet_blocks.{i}.")
        x = bridge_block(own, x, task[i + 1], query[i + 1], state_token(w, state), form)
    return linear(w, "fc2", layer_norm(w, "layer_norm2", x))


def dual_arm_head(w, form, task, query, state, noise):
    """Chunk (T, A) of both arms; noise is (2, T, D)."""
    seeds = noise + w.get("step_embedding", 0)
    x = {"L": seeds[0], "R": seeds[1]}
    for i in range(len(task) - 1):
        half = len(query[i + 1]) // 2
        h_a = {"L": query[i + 1][:half], "R": query[i + 1][half:]}
        x = inter_arm_block(child(w, f"blocks.{i}."), x, task[i + 1], h_a, state_token(w, state), form)
    out = [linear(w, f"fc2_{arm}", layer_norm(w, f"layer_norm_{arm}", x[arm])) for arm in "LR"]
    return np.concatenate(out, axis=1)


def bin_of(value, low, high, bins):
    """Which of the equal parts of [low, high] holds the value; the outermost ones hold all beyond."""
    edges = [low + (high - low) * i / bins for i in range(bins + 1)]
    for k in range(bins - 1):
        if value < edges[k + 1]:
            return k
    return bins - 1


def bin_centre(k, low, high, bins):
    return low + (high - low) * (k + 0.5) / bins


def masked_average(values, step_mask, dim_mask):
    """Over (B, T, A), of what both masks let through, one element after the other."""
    total, count = 0.0, 0
    for b, t, a in np.ndindex(values.shape):
        if step_mask[b, t] and dim_mask[a]:
            total, count = total + values[b, t, a], count + 1
    return total / count

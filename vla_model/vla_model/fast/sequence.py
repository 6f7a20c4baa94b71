"""The language model's sequence: the rows that go in, where every layer's hidden states go, which of them are read.

    0                first prompt token
    1 .. P           patches
    P+1 .. P+L-1     the rest of the prompt
    P+L ..           action queries, without the last one if nothing reads it
    ... S-1          padding, if the prompt is padded; inert, because attention is causal
    S                the state token, among the hidden states alone

Equals PrismaticBackbone._sequence and ._slices. Padding comes after the queries, so that one recorded graph serves
all prompts up to a length; what depends on the prompt's own length is an index.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vla_model.config import ModelConfig


class Prompt(NamedTuple):
    """What an instruction amounts to. Made once for each; a call copies nothing of it while it stays the same."""

    tokens: Tensor  # (length + queries read, D): prompt, queries and padding in the order of the sequence
    task_rows: Tensor | None  # (K_t,) of the task tokens; None: rows of the sequence that follow one another
    query_rows: Tensor  # (arms K_a,) of each arm's query tokens and, after them, the state token
    length: int  # prompt tokens and padding


class PromptMaker:
    """Prompts from ids, with embeddings of the language model and the action queries, which stay where they are."""

    def __init__(self, config: ModelConfig, embeddings: Tensor, queries: Tensor):
        self._config, self._embeddings = config, embeddings
        self._queries = queries[: config.action_queries - config.shifted_slices]
        self.device = embeddings.device

    def __call__(self, ids: Tensor, multiple: int = 1) -> Prompt:
        """From ids (L,), padded to a multiple of so many tokens. ValueError for a sequence that is too long."""
        L, read, limit = len(ids), len(self._queries), self._config.llm.max_positions
        length = -(-L // multiple) * multiple
        if self._config.patches + length + read > limit:
            raise ValueError(
                f"a prompt of {L} tokens makes a sequence longer than the model's {limit} positions"
            )
        padding = self._queries.new_zeros(length - L, self._queries.shape[1])
        tokens = torch.cat([self._embeddings[ids.to(self.device)], self._queries, padding])
        return Prompt(tokens, *self._rows(L, self._config.patches + length + read), length)

    def _rows(self, L: int, state_row: int) -> tuple[Tensor | None, Tensor]:
        config = self._config
        P, Q, shift = config.patches, config.action_queries, int(config.shifted_slices)
        rows = torch.cat([torch.arange(P) + 1 - shift, torch.arange(Q) + P + L - shift])
        task, query = rows[: config.task_tokens], rows[config.task_tokens :]
        arms = query.chunk(2) if config.head.type == "dual_arm" else [query]
        query = torch.cat([torch.cat([arm, torch.tensor([state_row])]) for arm in arms]).to(self.device)
        return None if config.task_tokens == P else task.to(self.device), query


class Sequence:
    """Memory of one sequence length, filled anew by every call."""

    def __init__(self, config: ModelConfig, length: int, device: torch.device, dtype: torch.dtype):
        P, D, read = config.patches, config.llm.width, config.action_queries - config.shifted_slices
        S = P + length + read
        self.x = torch.zeros(S, D, device=device, dtype=dtype)
        self.hidden = torch.zeros(config.llm.layers, S + 1, D, device=device, dtype=dtype)
        self.patches = self.x[1 : 1 + P]
        self.states = self.hidden[:, :S]
        self.state_token = self.hidden[:, S]
        self._rest = self.x[1 + P :]
        self._task = self.hidden[:, 1 - config.shifted_slices :][:, :P]
        # indices of this length's own, so that a recorded graph finds them: `use` fills them
        self._task_rows = None
        if config.task_tokens != P:
            self._task_rows = torch.zeros(config.task_tokens, device=device, dtype=torch.long)
        arms = 2 if config.head.type == "dual_arm" else 1
        self._query_rows = torch.zeros(config.query_tokens + arms, device=device, dtype=torch.long)
        self._prompt: Prompt | None = None

    def use(self, prompt: Prompt) -> None:
        """Take a prompt of this length."""
        if prompt is self._prompt:
            return
        self.x[:1].copy_(prompt.tokens[:1])
        self._rest.copy_(prompt.tokens[1:])
        self._query_rows.copy_(prompt.query_rows)
        if self._task_rows is not None:
            self._task_rows.copy_(prompt.task_rows)
        self._prompt = prompt

    def read(self) -> tuple[Tensor, Tensor]:
        """All layers' task tokens (layers, K_t, D), and each arm's query and state tokens (layers, arms K_a, D)."""
        task = self._task if self._task_rows is None else self.hidden.index_select(1, self._task_rows)
        return task, self.hidden.index_select(1, self._query_rows)

"""What a backbone hands to a head."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Features:
    """Features of one batch. Every field is optional: a backbone fills what it has, a head names what it
    needs.

    `task_layers` and `query_layers` hold the language model's hidden states at the task and query positions:
    entry 0 is the embeddings, entry i the output of block i, the last one after the final norm. Masks are 1 =
    valid.
    """

    task_layers: tuple[Tensor, ...] | None = None  # layers + 1 times (B, K_t, D)
    query_layers: tuple[Tensor, ...] | None = None  # layers + 1 times (B, K_a, D)
    last_hidden: Tensor | None = None  # (B, S, D), after the final norm
    attention_mask: Tensor | None = None  # (B, S), over last_hidden
    pooled: Tensor | None = None  # (B, D)
    images: Tensor | None = None  # (B, N, 3, h, w)

    def require(self, head: str, names: tuple[str, ...]) -> None:
        """ValueError unless every named field is there."""
        missing = [name for name in names if getattr(self, name) is None]
        if missing:
            raise ValueError(f"{head} needs the features {missing}, which this backbone does not give")

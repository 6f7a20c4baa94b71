"""The prompt and its tokenizer, which travels with the checkpoint; Qwen's own loads by the same code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
PROMPT = (
    "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\nWhat action should the robot take to {instruction}?<|im_end|>\n<|im_start|>assistant\n"
)
# how Qwen2 splits text before merging bytes: words with a leading space, single digits, punctuation, line ends
_SPLIT = Regex(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def prompt(instruction: str) -> str:
    """The released models' prompt (reference, openvla_utils.get_vla_action with use_minivlm)."""
    return PROMPT.format(instruction=instruction.strip().lower())


def encode_prompt(tokenizer: Tokenizer, instruction: str) -> list[int]:
    """Token ids of the prompt; the first one is <|im_start|>."""
    if not instruction.strip():
        raise ValueError("the instruction is empty; say what the robot should do")
    return tokenizer.encode(prompt(instruction), add_special_tokens=False).ids


def build_tokenizer(instructions: Iterable[str] = (), vocab: int = 512) -> Tokenizer:
    """A byte-level BPE tokenizer of at most `vocab` tokens, for models that start from random weights.

    It merges what occurs in the prompt and in `instructions`; anything else is spelled in bytes, so every
    text has an encoding.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(_SPLIT, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        min_frequency=1,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [prompt(instruction) for instruction in sorted(set(instructions))] or [prompt("")]
    tokenizer.train_from_iterator(_without_specials(texts), trainer)
    return tokenizer


def _without_specials(texts: Iterable[str]) -> Iterable[str]:
    for text in texts:
        for special in SPECIAL_TOKENS:
            text = text.replace(special, "\n")
        yield text


def encode_batch(tokenizer: Tokenizer, instructions: Sequence[str]) -> tuple[Tensor, Tensor | None]:
    """Prompt ids (B, L), padded on the right, and their mask (B, L), 1 = valid; None if none is padded."""
    prompts = [encode_prompt(tokenizer, instruction) for instruction in instructions]
    longest = max(map(len, prompts))
    pad = tokenizer.token_to_id(SPECIAL_TOKENS[0])
    ids = torch.tensor([ids + [pad] * (longest - len(ids)) for ids in prompts])
    if all(len(ids) == longest for ids in prompts):
        return ids, None
    return ids, torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in prompts])


class PromptEncoder:
    """Prompt ids (1, L) on a device, encoded once per instruction."""

    def __init__(self, tokenizer: Tokenizer, device: torch.device, keep: int = 64):
        self._tokenizer, self._device = tokenizer, device
        self._ids = lru_cache(maxsize=keep)(self._encode)

    def __call__(self, instruction: str) -> Tensor:
        return self._ids(instruction)

    @torch.inference_mode(False)  # a tensor that is kept must not depend on who asked first
    def _encode(self, instruction: str) -> Tensor:
        return torch.tensor([encode_prompt(self._tokenizer, instruction)], device=self._device)
